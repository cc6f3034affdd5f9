//! How a breaker stands.

use serde::Serialize;

use super::{BreakerState, Forced};

/// How a breaker stands, for lists.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct BreakerStatus {
    /// Whom it guards.
    pub name: String,
    /// What it does with a call.
    pub state: BreakerState,
    /// The state that an operator chose.
    pub forced: Option<Forced>,
    /// Who chose it.
    pub forced_by: Option<String>,
    /// Why he did.
    pub forced_why: Option<String>,
    /// How many failures it remembers while closed.
    pub failures: u32,
    /// How often it has opened by itself.
    pub opened: u64,
    /// How many calls it has refused.
    pub rejected: u64,
    /// While open: in how many milliseconds it lets a probe through.
    pub retry_after_ms: Option<u64>,
}
