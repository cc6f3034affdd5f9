//! Where a step's closure stands.

use std::ops::Deref;
use std::sync::Arc;

use crate::resilience::Deadline;

/// What a step's closure is given: the services, and what is to be known of this attempt.
pub struct At<S> {
    pub(super) services: Arc<S>,
    pub(super) key: Arc<str>,
    pub(super) attempt: u32,
    pub(super) deadline: Deadline,
}

impl<S> At<S> {
    /// The step's idempotency key: the same for every attempt, in every process, and for the step's compensation.
    pub fn key(&self) -> &str {
        &self.key
    }

    /// Which attempt this is, from 1.
    pub fn attempt(&self) -> u32 {
        self.attempt
    }

    /// When this attempt is given up. Calls made through [`resilience`](crate::resilience) know it already.
    pub fn deadline(&self) -> Deadline {
        self.deadline
    }
}

impl<S> Deref for At<S> {
    type Target = S;

    fn deref(&self) -> &S {
        &self.services
    }
}
