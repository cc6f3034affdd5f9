//! What tests stand on: suites that every adapter must pass.

pub mod projection;
pub mod saga;
pub mod store;
