//! The framework seen from outside: one file a room.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod aggregate;
mod saga;
mod store;
