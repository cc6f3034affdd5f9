//! The gateway over real sockets: callers that write bytes by hand, services that do as they are told.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod bodies;
mod breaker;
mod callee;
mod cascade;
mod forwarding;
mod hostile;
mod limits;
mod parting;
mod tokens;
mod world;
