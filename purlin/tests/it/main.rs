//! The integration tests of purlin: one file a room.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod aggregate;
mod http;
mod layers;
mod saga;
mod source;
mod store;
mod bus;
mod faulty;
mod projection;
