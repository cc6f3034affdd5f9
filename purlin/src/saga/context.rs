//! What a saga's function works with.

use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;
use uuid::Uuid;

use crate::message::Fault;
use crate::store::Commit;

use super::cell::Cell;
use super::{At, SagaError, Signal, Step, wait};

/// The saga as its function sees it.
///
/// The function may run again after a crash, so it must do nothing outside its steps, and ask for the same steps
/// whenever they have the same outcomes: no clock, no dice, no state from elsewhere.
pub struct Saga<S> {
    pub(super) cell: Arc<Cell<S>>,
}

impl<S: Send + Sync + 'static> Saga<S> {
    /// The saga's id.
    pub fn id(&self) -> Uuid {
        self.cell.id
    }

    /// A step that calls somebody, who must do the same thing only once under the step's key ([`At::key`]).
    ///
    /// Names are unique in a saga; a loop passes an index.
    pub fn step<'a, F, Fut, T, E>(&self, name: impl Into<String>, work: F) -> Step<'a, S, T>
    where
        F: Fn(At<S>) -> Fut + Send + 'a,
        Fut: Future<Output = Result<T, E>> + Send + 'a,
        T: Serialize + DeserializeOwned + Send + 'a,
        E: Fault,
    {
        Step::plain(Arc::clone(&self.cell), name.into().into(), work)
    }

    /// A step whose effect is a commit in the saga's own store: the effect and the step's outcome are one commit.
    ///
    /// When the commit conflicts with what is stored the closure is called again.
    pub fn transact<'a, F, Fut, T, E>(&self, name: impl Into<String>, work: F) -> Step<'a, S, T>
    where
        F: Fn(At<S>) -> Fut + Send + 'a,
        Fut: Future<Output = Result<(T, Commit), E>> + Send + 'a,
        T: Serialize + DeserializeOwned + Send + 'a,
        E: Fault,
    {
        Step::transacted(Arc::clone(&self.cell), name.into().into(), work)
    }

    /// Waits until time has passed; a long wait costs a record, not memory.
    pub fn sleep(&self, duration: Duration) -> impl Future<Output = Result<(), SagaError>> + Send + 'static {
        wait::sleep(Arc::clone(&self.cell), duration)
    }

    /// Waits for a message from outside ([`Sagas::signal`](super::Sagas::signal)); one that came before is kept.
    pub fn signal<T>(&self, name: impl Into<String>) -> Signal<S, T>
    where
        T: DeserializeOwned + Send + 'static,
    {
        Signal::new(Arc::clone(&self.cell), name.into())
    }
}

impl<S> Clone for Saga<S> {
    fn clone(&self) -> Self {
        Self { cell: Arc::clone(&self.cell) }
    }
}
