//! Work over several services that is done wholly or undone: sagas, as async functions.
//!
//! A saga awaits its *steps*. Each outcome is an entry of the saga's journal, a stream of the log; after a crash the
//! function runs again and is given the journalled outcomes, so that it goes on where it was. When it fails, the
//! compensations of its steps are called, the last step's first, until they succeed.
//!
//! A step that fails transiently is tried again until the saga's deadline, and the saga is the only one who does: the
//! calls it makes must not repeat themselves. Pauses double up to 10 s (of an undoing: 60 s), all of each left to chance,
//! and last at least as long as the callee said ([`Fault::retry_after`](crate::message::Fault::retry_after)). So that a
//! callee which is back is not run over by all the sagas that waited for it, the retries of one step (of all sagas of
//! the kind, in one process) have a budget: 50 a second, and two for each attempt that succeeded, up to 100 saved up. No
//! retry is dropped for want of budget: it waits a further pause, and asks again. What an operator wants tried now asks
//! for none, nor does a first attempt.
//!
//! ```
//! # use std::convert::Infallible;
//! # use std::time::Duration;
//! # use purlin::message::{Clock, new_id};
//! # use purlin::saga::{Saga, SagaError, SagaState, Sagas};
//! # use purlin::store::Store;
//! # use tokio_util::sync::CancellationToken;
//! struct Travel; // clients of other services
//!
//! async fn book(saga: Saga<Travel>, city: String) -> Result<u32, SagaError> {
//!     let room = saga
//!         .step("reserve-room", async |at| Ok::<_, Infallible>(city.len() as u32 + at.attempt()))
//!         .compensate(async |_at, _room: Option<u32>| Ok::<_, Infallible>(()))
//!         .await?;
//!     Ok(room)
//! }
//!
//! # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
//! let store = Store::memory();
//! let sagas = Sagas::new(&store, Travel, Clock::system()).register("book", book);
//! sagas.prepare().await.unwrap();
//! let id = new_id();
//! store.commit(sagas.start("book", id, &"Rome").unwrap()).await.unwrap();
//! let shutdown = CancellationToken::new();
//! let over = async {
//!     let saga = sagas.wait(id, Duration::from_secs(5)).await.unwrap();
//!     assert_eq!((saga.state, saga.output), (SagaState::Completed, Some(5.into())));
//!     shutdown.cancel();
//! };
//! let (ran, ()) = tokio::join!(sagas.clone().run(shutdown.clone()), over);
//! ran.unwrap();
//! # });
//! ```

mod at;
mod cell;
mod context;
mod desk;
mod directory;
mod ending;
mod engine;
mod error;
mod handle;
mod journal;
mod kind;
mod loading;
pub mod machine;
mod metrics;
mod pace;
mod record;
mod requests;
mod scheduler;
mod step;
mod undo;
mod view;
mod wait;
mod writer;

pub use at::At;
pub use context::Saga;
pub use directory::{Directory, ListSagas, RequestError, SagaPage};
pub use error::{Failure, SagaError};
pub use handle::{Sagas, StartError, WaitError};
pub use journal::{Entry, Outcome, Payload};
pub use kind::{End, Function, IntoKind, Kind};
pub use record::SagaRow;
pub use step::Step;
pub use view::{CompensationState, CompensationView, SagaState, SagaView, StepView, StepViewState};
pub use wait::{Signal, SignalWithin};
