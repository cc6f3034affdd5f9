//! The simulated card network: the world outside, with a file and a ledger of its own.
//!
//! It is idempotent by key: a key that was charged is answered with its charge, however often it is asked, and a
//! refund that arrives before its charge makes the charge refused. What it does with a card is decided by the
//! card's token (see [`charge`]); what it has done is in its ledger, which holds only money that moved.

mod charge;
mod ledger;
mod network;

pub use charge::{Answer, Order};
pub use ledger::Entry;
pub use network::{CardNetwork, NetworkError};
