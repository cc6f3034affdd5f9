//! Where a call stands: on whose behalf, under which key, until when.

use std::ops::Deref;

use tokio::time::Instant;

/// What a tool is told of its call besides the arguments; it derefs to the caller's authority.
#[derive(Debug, Clone)]
pub struct At<C> {
    caller: C,
    key: String,
    deadline: Instant,
    max_result_bytes: usize,
}

impl<C> At<C> {
    pub(crate) fn new(caller: C, key: String, deadline: Instant, max_result_bytes: usize) -> Self {
        Self { caller, key, deadline, max_result_bytes }
    }

    /// On whose behalf the call is made. A tool must be able to do no more than this caller could by himself.
    pub fn caller(&self) -> &C {
        &self.caller
    }

    /// The idempotency key of the call: `<run>/<turn>/<position in the answer>`, never the model's own id of it,
    /// which changes when the model plans anew.
    pub fn key(&self) -> &str {
        &self.key
    }

    /// When the result is no longer waited for.
    pub fn deadline(&self) -> Instant {
        self.deadline
    }

    pub(crate) fn max_result_bytes(&self) -> usize {
        self.max_result_bytes
    }
}

impl<C> Deref for At<C> {
    type Target = C;

    fn deref(&self) -> &C {
        &self.caller
    }
}
