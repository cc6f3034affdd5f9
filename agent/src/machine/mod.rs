//! The turn loop as a pure machine: what happened goes in, what to do next comes out.
//!
//! It does no IO and reads no clock. Everything that can happen is a [`Happening`], which can be written down;
//! feeding the same happenings to a new machine brings it to the same state, so recovery and testing are one thing.
//! Whatever the model does, each of its calls gets exactly one result, in the order of the calls.
//!
//! ```
//! use purlin_agent::machine::{Happening, Limits, Machine, Next};
//! use purlin_agent::model::Answer;
//!
//! let mut machine = Machine::new("hello", "", [].into(), Limits::default());
//! assert!(matches!(machine.next(), Next::Ask { turn: 1, .. }));
//! machine.apply(Happening::Answered { answer: Answer::text("hello yourself"), duration_ms: 20 }).unwrap();
//! assert!(matches!(machine.next(), Next::End(end) if end.is_success()));
//! ```

mod budget;
mod end;
mod limits;
mod step;
mod turn;

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::model::{Answer, Message, ToolCall, Usage};
use crate::tool::{Definition, Outcome};

pub use end::{End, Reached};
pub use limits::Limits;
pub use step::{Did, Step};

use budget::Budget;
use turn::Turn;

/// A run of the loop, as far as it has come.
#[derive(Debug, Clone, PartialEq)]
pub struct Machine {
    tools: Arc<[Definition]>,
    limits: Limits,
    messages: Vec<Message>,
    steps: Vec<Step>,
    turns: u32,
    calls: u32,
    budget: Budget,
    /// What the model said since it last called a tool.
    said: String,
    state: State,
}

#[derive(Debug, Clone, PartialEq)]
enum State {
    Asking { max_tokens: u32 },
    Calling(Turn),
    Ended(End),
}

/// What to do next.
#[derive(Debug, Clone, PartialEq)]
pub enum Next<'a> {
    /// Ask the model, with [`Machine::messages`].
    Ask {
        /// Which answer this will be, from 1.
        turn: u32,
        /// The largest answer that is still affordable.
        max_tokens: u32,
    },
    /// Call tools, all at once; what was called already is not among them.
    Call(Vec<Pending<'a>>),
    /// Nothing: the run is over.
    End(&'a End),
}

/// A call that has to be made.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Pending<'a> {
    /// The turn it belongs to.
    pub turn: u32,
    /// Its place among the calls of the turn, from 0.
    pub position: usize,
    /// The call; its tool exists and its arguments fit.
    pub call: &'a ToolCall,
}

/// Something that happened in a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Happening {
    /// The model answered.
    Answered {
        /// What it said.
        answer: Answer,
        /// How long that took.
        duration_ms: u64,
    },
    /// The model gave no answer, and will not be asked again.
    Unanswered {
        /// The code of the fault.
        code: String,
    },
    /// A call ended.
    Returned {
        /// Its place among the calls of the turn, from 0.
        position: usize,
        /// How it ended.
        outcome: Outcome,
        /// How long that took.
        duration_ms: u64,
    },
    /// The run has no time left.
    TimeUp,
}

/// What is said to have happened cannot have happened in this state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("this cannot happen at this point of a run")]
pub struct Mismatch;

impl Machine {
    /// A run at its beginning.
    pub fn new(prompt: impl Into<String>, system: &str, tools: Arc<[Definition]>, limits: Limits) -> Self {
        let prompt = prompt.into();
        let told = tools.iter().map(|tool| tool.description().len() + tool.schema().json().to_string().len());
        let budget = Budget::new(prompt.len() + system.len() + told.sum::<usize>());
        let mut machine = Self {
            tools,
            limits,
            messages: vec![Message::User(prompt)],
            steps: Vec::new(),
            turns: 0,
            calls: 0,
            budget,
            said: String::new(),
            state: State::Asking { max_tokens: 0 },
        };
        machine.ask();
        machine
    }

    /// What to do next.
    pub fn next(&self) -> Next<'_> {
        match &self.state {
            State::Asking { max_tokens } => Next::Ask { turn: self.turns + 1, max_tokens: *max_tokens },
            State::Calling(turn) => Next::Call(turn.pending(self.turns)),
            State::Ended(end) => Next::End(end),
        }
    }

    /// Takes in what happened; gives the steps that it completed, of the calls in the order of their ends.
    pub fn apply(&mut self, happening: Happening) -> Result<Vec<Step>, Mismatch> {
        match (happening, &mut self.state) {
            (Happening::Answered { answer, duration_ms }, State::Asking { max_tokens }) => {
                let asked_for = *max_tokens;
                Ok(self.answered(answer, duration_ms, asked_for))
            }
            (Happening::Unanswered { code }, State::Asking { .. }) => Ok(self.end(End::Unanswered { code })),
            (Happening::Returned { position, outcome, duration_ms }, State::Calling(turn)) => {
                let step = turn.settle(position, outcome, duration_ms, self.turns)?;
                if turn.is_settled() {
                    self.close_turn();
                }
                Ok(vec![step])
            }
            (Happening::TimeUp, State::Asking { .. }) => {
                Ok(self.end(End::Limit { reached: Reached::Deadline }))
            }
            (Happening::TimeUp, State::Calling(turn)) => {
                let abandoned = turn.abandon(self.turns);
                let (_, mut steps) = turn.close(self.turns);
                self.steps.append(&mut steps);
                self.end(End::Limit { reached: Reached::Deadline });
                Ok(abandoned)
            }
            _ => Err(Mismatch),
        }
    }

    /// The conversation so far.
    pub fn messages(&self) -> &[Message] {
        &self.messages
    }

    /// What was done so far: texts and calls in their order, without the calls of a turn that is not over.
    pub fn steps(&self) -> &[Step] {
        &self.steps
    }

    /// What the run has cost so far.
    pub fn usage(&self) -> Usage {
        self.budget.spent()
    }

    /// How many answers the model gave.
    pub fn turns(&self) -> u32 {
        self.turns
    }

    pub(crate) fn into_steps(self) -> Vec<Step> {
        self.steps
    }

    fn answered(&mut self, answer: Answer, duration_ms: u64, asked_for: u32) -> Vec<Step> {
        self.turns += 1;
        self.budget.spend(answer.usage);
        let mut done = Vec::new();
        let text = answer.full_text();
        if !text.is_empty() {
            done.push(Step { turn: self.turns, did: Did::Text { text: text.clone() }, duration_ms });
            self.steps.extend_from_slice(&done);
            self.said.push_str(&text);
        }
        let cut_by_budget = asked_for < self.limits.max_answer_tokens;
        match end::of_answer(&answer, cut_by_budget) {
            end::Ends::Run(end) => {
                let said = std::mem::take(&mut self.said);
                self.end(end.with_result(said));
            }
            end::Ends::Answer => {
                if !answer.blocks.is_empty() {
                    self.messages.push(Message::Model(answer.blocks));
                }
                self.ask();
            }
            end::Ends::Calls => done.extend(self.call(answer)),
        }
        done
    }

    /// Begins the calls of an answer: what cannot be called has its failure at once.
    fn call(&mut self, answer: Answer) -> Vec<Step> {
        self.said.clear();
        let turn = Turn::plan(answer.calls(), &self.tools);
        let calls = self.calls.saturating_add(turn.len());
        // Calls whose results nobody could read any more are not made: they might have effects.
        if self.turns >= self.limits.max_turns {
            return self.end(End::Limit { reached: Reached::Turns });
        }
        if calls > self.limits.max_calls {
            return self.end(End::Limit { reached: Reached::Calls });
        }
        self.calls = calls;
        self.messages.push(Message::Model(answer.blocks));
        let refused = turn.settled(self.turns);
        let over = turn.is_settled();
        self.state = State::Calling(turn);
        if over {
            self.close_turn();
        }
        refused
    }

    fn close_turn(&mut self) {
        let State::Calling(turn) = &mut self.state else { return };
        let (results, mut steps) = turn.close(self.turns);
        self.steps.append(&mut steps);
        self.budget.read(results.iter().map(|result| result.content.len()).sum());
        self.messages.push(Message::Results(results));
        self.ask();
    }

    fn ask(&mut self) {
        let affordable = self.budget.affordable(&self.limits);
        self.state = if self.turns >= self.limits.max_turns {
            State::Ended(End::Limit { reached: Reached::Turns })
        } else if affordable == 0 {
            State::Ended(End::Limit { reached: Reached::Tokens })
        } else {
            State::Asking { max_tokens: affordable }
        };
    }

    fn end(&mut self, end: End) -> Vec<Step> {
        self.state = State::Ended(end);
        Vec::new()
    }
}
