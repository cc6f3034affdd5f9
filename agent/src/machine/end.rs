//! How a run ends, and what in an answer ends it.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::model::{Answer, Stop};

/// How a run ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum End {
    /// The model has ended its turn.
    Finished {
        /// What it said since it last called a tool.
        result: String,
        /// Why it stopped: `EndTurn`, or what makes the result less than a full answer.
        stop: Stop,
    },
    /// A limit of the run was reached.
    Limit {
        /// Which.
        reached: Reached,
    },
    /// The model's answer was cut within a call of a tool, which therefore was not made.
    Truncated,
    /// The model's answer contradicts itself.
    Malformed {
        /// How.
        reason: String,
    },
    /// The model gave no answer.
    Unanswered {
        /// The code of the fault.
        code: String,
    },
}

impl End {
    /// Whether there is a result.
    pub fn is_success(&self) -> bool {
        matches!(self, Self::Finished { .. })
    }

    pub(super) fn with_result(self, said: String) -> Self {
        match self {
            Self::Finished { stop, .. } => Self::Finished { result: said, stop },
            other => other,
        }
    }
}

/// A limit that was reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reached {
    /// The model was asked as often as allowed and is not done.
    Turns,
    /// It wants more calls than allowed.
    Calls,
    /// The next answer would cost more than is left.
    Tokens,
    /// There is no time left.
    Deadline,
}

impl fmt::Display for Reached {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Turns => "turns",
            Self::Calls => "tool calls",
            Self::Tokens => "tokens",
            Self::Deadline => "time",
        })
    }
}

/// What an answer ends.
pub(super) enum Ends {
    /// The run.
    Run(End),
    /// Only itself: the model goes on when asked again.
    Answer,
    /// The model's part of the turn: now its calls are made.
    Calls,
}

pub(super) fn of_answer(answer: &Answer, cut_by_budget: bool) -> Ends {
    let calls = answer.calls().next().is_some();
    match &answer.stop {
        Stop::Refusal => finished(answer),
        Stop::MaxTokens if cut_by_budget => Ends::Run(End::Limit { reached: Reached::Tokens }),
        // The last call may be incomplete and still be valid JSON, so none is made.
        Stop::MaxTokens if calls => Ends::Run(End::Truncated),
        _ if calls => match repeated_id(answer) {
            Some(id) => malformed(format!("two calls have the id `{id}`")),
            None => Ends::Calls,
        },
        Stop::ToolUse => malformed("it stopped to have tools called, and calls none".to_owned()),
        Stop::Pause => Ends::Answer,
        Stop::EndTurn | Stop::MaxTokens | Stop::StopSequence | Stop::Other(_) => finished(answer),
    }
}

fn finished(answer: &Answer) -> Ends {
    Ends::Run(End::Finished { result: String::new(), stop: answer.stop.clone() })
}

fn malformed(reason: String) -> Ends {
    Ends::Run(End::Malformed { reason })
}

fn repeated_id(answer: &Answer) -> Option<&str> {
    let mut ids: Vec<_> = answer.calls().map(|call| call.id.as_str()).collect();
    ids.sort_unstable();
    ids.windows(2).find(|pair| pair[0] == pair[1]).map(|pair| pair[0])
}
