//! What threads share a bulkhead by. The model checker compiles `crowd.rs`, `queue.rs` and `door.rs` with its own of these.

pub(super) use std::sync::Mutex;
pub(super) use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
