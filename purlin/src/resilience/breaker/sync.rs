//! What threads share a breaker by. The model checker compiles `gate.rs` and `stripes.rs` with its own of these.

pub(super) use std::sync::Mutex;
pub(super) use std::sync::atomic::{AtomicU64, Ordering};

pub(super) use crate::resilience::per_thread::number;
