//! What tests stand on: suites that every adapter must pass.

mod dice;
pub mod gaps;
pub mod history;
mod port;
pub mod projection;
pub mod saga;
pub mod store;

pub use dice::Dice;
pub use port::free_port;
