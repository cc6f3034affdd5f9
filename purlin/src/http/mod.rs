//! What every HTTP and gRPC service of the house does alike: strict input, problems, traces, deadlines, keys.
//!
//! A handler asks for [`Json`], [`Query`] or [`Path`] and answers with JSON or a [`Problem`]; [`layers`] stand
//! around all handlers of a service. A write runs under [`Idempotency`].
//!
//! ```
//! # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
//! use axum::{Router, body::Body, routing::post};
//! use purlin::http::{Json, Problem};
//! use tower::ServiceExt;
//!
//! #[derive(serde::Deserialize, serde::Serialize)]
//! struct Item { quantity: u16 }
//! async fn add(Json(item): Json<Item>) -> Result<Json<Item>, Problem> { Ok(Json(item)) }
//!
//! let router: Router = Router::new().route("/items", post(add));
//! let request = http::Request::post("/items").body(Body::from(r#"{"quantity": -1}"#)).unwrap();
//! let response = router.oneshot(request).await.unwrap();
//! assert_eq!(response.status(), 422);
//! assert_eq!(response.headers()["content-type"], "application/problem+json");
//! # });
//! ```

pub mod body;
pub mod client;
pub mod exchange;
mod extract;
pub mod grpc;
pub mod idempotency;
mod layers;
mod listing;
mod problem;
mod strict;

pub use extract::{Json, Path, Query};
pub use idempotency::{Attempt, Decided, Idempotency, KeyState, SweepError, Write, WriteRequest};
pub use layers::{Edge, REQUEST_ID, REQUEST_TIMEOUT, TRACEPARENT, layers, timeout_of};
pub use listing::{Cursors, Limit, Listing};
pub use problem::{PROBLEM_JSON, Particulars, Problem, status_of};

/// The header that says of which kind a failure is; in the metadata of a gRPC call it has the same name.
pub const FAULT_KIND: http::HeaderName = http::HeaderName::from_static("purlin-fault-kind");
/// The header of a failure that is not the fault of who answers, but of whom he asked ([`Fault::is_of_another`]): who
/// answers is there, and can do what he needs nobody else for. It then says [`ANOTHER`]; in the metadata of a gRPC status
/// it has the same name. Services say it to each other: a gateway lets it neither in nor out.
///
/// [`Fault::is_of_another`]: crate::message::Fault::is_of_another
pub const FAULT_OF: http::HeaderName = http::HeaderName::from_static("purlin-fault-of");
/// What [`FAULT_OF`] says.
pub const ANOTHER: &str = "another";
