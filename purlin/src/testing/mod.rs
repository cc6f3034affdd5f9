//! What tests stand on: suites that every adapter must pass.

pub mod store;
