//! What can be seen from outside: the trace that work belongs to, logs, metrics, health.
//!
//! A task carries its trace and the name of its service in task-locals, so that no function takes them as
//! arguments: log lines, committed events and outgoing calls pick them up. A task that is spawned starts
//! without them; [`inherit`] hands them on.
//!
//! ```
//! use purlin::message::TraceContext;
//! use purlin::telemetry::{self, Health, Metrics};
//!
//! # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
//! let trace = TraceContext::root();
//! telemetry::service::within("orders", telemetry::in_trace(trace, async {
//!     tracing::info!(order = 7, "this line bears the trace and `orders`");
//!     assert_eq!(telemetry::current(), Some(trace));
//! })).await;
//! # });
//!
//! let metrics = Metrics::new();
//! let requests = metrics.counter("shop_requests", "Requests answered", ["status"]);
//! requests.with(["200"]).inc();
//! assert!(metrics.render().contains("shop_requests_total{status=\"200\"} 1"));
//!
//! let health = Health::new();
//! let store = health.check("store");
//! assert!(!health.is_ready());
//! store.ready();
//! assert!(health.is_ready());
//! ```

mod context;
mod health;
pub mod logs;
pub mod metrics;
mod rarely;
pub mod service;

pub use context::{current, in_trace, inherit};
pub use health::{Check, CheckReport, Health, HealthReport};
pub use metrics::Metrics;
pub use rarely::{Rarely, RarelyEach};
