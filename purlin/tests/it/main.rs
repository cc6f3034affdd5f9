//! The integration tests of purlin: one file a room.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod accept;
mod aggregate;
mod allocations;
mod audit;
mod bus;
mod chaos;
mod evolution;
mod faulty;
mod history;
mod http;
mod lagging;
mod layers;
mod personal;
mod personal_master;
mod projection;
mod saga;
mod service;
mod snapshots;
mod source;
mod store;
mod transfer;
mod view_cores;
mod view_effects;
mod view_limits;
mod view_races;

/// Counts what is allocated where a test says that nothing is.
#[global_allocator]
static ALLOCATOR: assert_no_alloc::AllocDisabler = assert_no_alloc::AllocDisabler;
