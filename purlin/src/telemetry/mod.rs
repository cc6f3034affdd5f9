//! What can be seen from outside: the trace that work belongs to, logs, metrics, health.

mod context;

pub use context::{current, in_trace};
