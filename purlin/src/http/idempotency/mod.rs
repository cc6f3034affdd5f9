//! A request with an `Idempotency-Key` has one effect and one answer, however often it is sent.
//!
//! A key that is at work is a record with a lease; its revision is the epoch. The commit of the effect replaces
//! exactly that record by the answer, so that effect and answer are one, and a worker whose lease was taken over
//! can commit nothing. A crash leaves a lease that runs out. An answer that decides (2xx, 404, 409, 422) is kept
//! for a day, any other gives the key free. Callers' keys never meet.
//!
//! ```
//! # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
//! use http::StatusCode;
//! use purlin::http::{Decided, Idempotency, WriteRequest};
//! use purlin::message::{Clock, Envelope};
//! use purlin::store::{Commit, Expected, Store, StreamId};
//!
//! let store = Store::memory();
//! let idempotency = Idempotency::new(&store, Clock::system());
//! let request = WriteRequest::new("POST", "/orders", "{}").with_key("k1");
//! for replayed in [false, true] {
//!     let answer = idempotency
//!         .run("alice", &request, async |attempt| {
//!             let stream = StreamId::new("order", attempt.id).unwrap();
//!             let placed = Envelope::raw("order.placed", "{}");
//!             let commit = Commit::new().append(stream, Expected::NoStream, [placed]);
//!             Decided::new(commit, StatusCode::CREATED, &attempt.id)
//!         })
//!         .await;
//!     assert_eq!(answer.status(), 201);
//!     assert_eq!(answer.headers().contains_key("idempotent-replayed"), replayed);
//! }
//! assert_eq!(store.head().0, 1);
//! # });
//! ```

mod answer;
mod attempt;
mod engine;
mod entry;
mod machine;
mod once;
mod request;
mod run;
mod secret;

pub use answer::{Decided, POSITION, REPLAYED};
pub use attempt::Attempt;
pub use engine::{Idempotency, SweepError};
pub use machine::KeyState;
pub use once::{Done, Key, Once, OnceError, Refusal};
pub use request::{IDEMPOTENCY_KEY, Write, WriteRequest};
