//! Tells callers what became of their commits, beside the writer.

use std::sync::Arc;
use std::sync::mpsc::{SendError, SyncSender, sync_channel};
use std::thread::JoinHandle;

use super::{EndOnPanic, Outcome, Queued};
use crate::error::refused;

/// So few are told by the writer itself: handing them over would take as long, and they would wait longer.
const FEW: usize = 8;

/// Groups that may wait to be told before the writer does.
const GROUPS: usize = 4;

/// A thread that wakes callers while the writer is at the next group. Nobody's answer
/// depends on another caller being awake.
pub(super) struct Answers {
    groups: Option<SyncSender<Group>>,
    thread: Option<JoinHandle<()>>,
}

type Group = (Vec<Queued>, Vec<Outcome>);

impl Answers {
    pub(super) fn start() -> Self {
        let (groups, told) = sync_channel::<Group>(GROUPS);
        let thread = std::thread::Builder::new()
            .name("sqlite-answers".into())
            .spawn(move || told.iter().for_each(tell))
            .expect("a thread can be started");
        Self { groups: Some(groups), thread: Some(thread) }
    }

    /// Answers each with its outcome.
    pub(super) fn give(&self, waiting: Vec<Queued>, outcomes: Vec<Outcome>) {
        let group = (waiting, outcomes);
        match &self.groups {
            Some(groups) if group.0.len() > FEW => {
                if let Err(SendError(group)) = groups.send(group) {
                    tell(group);
                }
            }
            _ => tell(group),
        }
    }

    /// Tells all that nothing of theirs was applied, and why.
    pub(super) fn refuse(&self, waiting: Vec<Queued>, error: rusqlite::Error) {
        let error = Arc::new(error);
        let outcomes = waiting.iter().map(|_| Err(refused(&error))).collect();
        self.give(waiting, outcomes);
    }
}

impl Drop for Answers {
    /// Everybody has his answer before the writer is gone.
    fn drop(&mut self) {
        drop(self.groups.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn tell((waiting, outcomes): Group) {
    let _end = EndOnPanic;
    for (queued, outcome) in waiting.into_iter().zip(outcomes) {
        queued.tell(outcome);
    }
}
