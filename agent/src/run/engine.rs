//! Asks the machine what to do, does it, and tells the machine what happened, until there is nothing to do.

use std::sync::Arc;

use purlin::message::{Fault as _, Uuid, new_id};
use purlin::resilience::Deadline;
use tokio::time::{Instant, timeout_at};

use crate::machine::{End, Happening, Machine, Next, Reached, Step};
use crate::model::{Delta, ModelError, Request};

use super::calls::{Calls, Start};
use super::{Agent, Event, Finished, RunError};

pub(super) async fn run<C: Clone + Send + Sync + 'static>(
    agent: &Agent<C>,
    prompt: String,
    caller: C,
    mut on_event: impl FnMut(Event) + Send,
) -> Result<Finished, RunError> {
    let ended = match begin(agent, prompt, caller) {
        Ok(run) => run.complete(&mut on_event).await,
        Err(refused) => Err(refused),
    };
    on_event(match &ended {
        Ok(finished) => Event::Finished(finished.clone()),
        Err(error) => Event::Failed { code: error.code().to_owned(), message: error.to_string() },
    });
    ended
}

fn begin<C: Clone + Send + Sync + 'static>(
    agent: &Agent<C>,
    prompt: String,
    caller: C,
) -> Result<Run<'_, C>, RunError> {
    agent.check(&prompt)?;
    // Nobody waits for a run beyond the request that it answers.
    let deadline = Deadline::after(agent.limits.deadline).tightened().instant();
    let machine = Machine::new(prompt, &agent.system, Arc::clone(&agent.definitions), agent.limits.clone());
    Ok(Run { agent, caller, id: new_id(), deadline, machine })
}

struct Run<'a, C> {
    agent: &'a Agent<C>,
    caller: C,
    id: Uuid,
    deadline: Instant,
    machine: Machine,
}

impl<C: Clone + Send + Sync + 'static> Run<'_, C> {
    async fn complete(mut self, on_event: &mut (impl FnMut(Event) + Send)) -> Result<Finished, RunError> {
        let mut failed = None;
        loop {
            match self.machine.next() {
                Next::Ask { .. } if Instant::now() >= self.deadline => {
                    self.apply(Happening::TimeUp, on_event);
                }
                Next::Ask { turn, max_tokens } => failed = self.ask(turn, max_tokens, on_event).await,
                Next::Call(_) => self.call(on_event).await,
                Next::End(_) => return self.finish(failed),
            }
        }
    }

    /// Asks the model; gives its error if it did not answer.
    async fn ask(
        &mut self,
        turn: u32,
        max_tokens: u32,
        on_event: &mut (impl FnMut(Event) + Send),
    ) -> Option<ModelError> {
        on_event(Event::Turn { turn });
        let request = Request {
            system: &self.agent.system,
            messages: self.machine.messages(),
            tools: &self.agent.definitions,
            max_tokens,
            deadline: self.deadline,
        };
        let mut hear = |delta| {
            on_event(match delta {
                Delta::Text(text) => Event::Text { turn, text },
                Delta::Restart => Event::Restart { turn },
            });
        };
        let asked = Instant::now();
        let answer = timeout_at(self.deadline, self.agent.model.answer(request, &mut hear)).await;
        let duration_ms = millis_since(asked);
        tracing::debug!(run = %self.id, turn, duration_ms, answered = matches!(answer, Ok(Ok(_))), "asked the model");
        match answer {
            Ok(Ok(answer)) => {
                self.apply(Happening::Answered { answer, duration_ms }, on_event);
                None
            }
            // A model that keeps to the deadline says so itself, at the very moment.
            Ok(Err(ModelError::Timeout)) if Instant::now() >= self.deadline => {
                self.apply(Happening::TimeUp, on_event);
                None
            }
            Ok(Err(error)) => {
                self.apply(Happening::Unanswered { code: error.code().to_owned() }, on_event);
                Some(error)
            }
            Err(_) => {
                self.apply(Happening::TimeUp, on_event);
                None
            }
        }
    }

    /// Makes all calls of the turn, and tells the machine of each as it ends.
    async fn call(&mut self, on_event: &mut (impl FnMut(Event) + Send)) {
        let Next::Call(pending) = self.machine.next() else { return };
        let start = Start { caller: &self.caller, run: self.id, deadline: self.deadline };
        let mut calls = Calls::start(self.agent, &start, &pending);
        for one in pending {
            let (id, name) = (one.call.id.clone(), one.call.name.clone());
            on_event(Event::Call { turn: one.turn, id, name, arguments: one.call.arguments.clone() });
        }
        loop {
            match timeout_at(self.deadline, calls.next()).await {
                Ok(Some(returned)) => self.apply(returned, on_event),
                Ok(None) => return,
                Err(_) => return self.apply(Happening::TimeUp, on_event),
            }
        }
    }

    fn apply(&mut self, happening: Happening, on_event: &mut impl FnMut(Event)) {
        let steps = self.machine.apply(happening).expect("the engine only does what the machine asked for");
        steps.into_iter().for_each(|step| on_event(Event::Step(step)));
    }

    fn finish(self, failed: Option<ModelError>) -> Result<Finished, RunError> {
        let Next::End(end) = self.machine.next() else { unreachable!("only an ended run is finished") };
        let (end, usage, id) = (end.clone(), self.machine.usage(), self.id);
        let steps = self.machine.into_steps();
        tracing::info!(run = %id, input_tokens = usage.input_tokens, output_tokens = usage.output_tokens,
            steps = steps.len(), ok = end.is_success(), "a run has ended");
        match end {
            End::Finished { result, stop } => Ok(Finished { id, result, steps, stop, usage }),
            other => Err(error(other, failed, steps)),
        }
    }
}

fn error(end: End, failed: Option<ModelError>, steps: Vec<Step>) -> RunError {
    match (end, failed) {
        (_, Some(source)) => RunError::Model { source, steps },
        (End::Limit { reached: Reached::Deadline }, _) => RunError::Deadline { steps },
        (End::Limit { reached }, _) => RunError::Limit { reached, steps },
        (End::Malformed { reason }, _) => RunError::Unusable { reason, steps },
        _ => RunError::Unusable { reason: "it was cut within a call of a tool".to_owned(), steps },
    }
}

pub(super) fn millis_since(start: Instant) -> u64 {
    u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX)
}
