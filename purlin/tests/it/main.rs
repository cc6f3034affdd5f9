//! The framework seen from outside: one file a room.

mod aggregate;
mod saga;
mod store;
//! The integration tests of purlin: one file a room.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod aggregate;
mod http;
mod layers;
mod source;
mod store;
