//! The lines between services: how long each is waited for, and when it is left alone.

use std::sync::Arc;
use std::time::Duration;

use purlin::resilience::{BreakerConfig, CallPolicy, Caller, Retry};

use super::addresses::Addresses;
use super::process::Process;
use crate::config::Role;
use crate::contracts::line::Line;

/// Makes lines.
pub struct Lines<'a> {
    process: &'a Process,
    addresses: &'a Addresses,
}

/// Who repeats a call that failed: one of them, never both.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Repeats {
    /// The line itself, a few times within the deadline.
    Line,
    /// The saga whose step it is, until the checkout's deadline.
    Saga,
}

impl<'a> Lines<'a> {
    /// Lines to wherever the roles are.
    pub fn new(process: &'a Process, addresses: &'a Addresses) -> Self {
        Self { process, addresses }
    }

    /// A line to a role.
    pub fn to(&self, role: Role, repeats: Repeats) -> anyhow::Result<Line> {
        Ok(Line::new(&self.addresses.url(role), self.caller(role.name(), policy(role, repeats)))?)
    }

    /// A line to a role that is asked for its keys. Whoever waits for the answer waits with a customer's request in
    /// hand, so it is not for long, nobody waits for a second try, and it has a breaker apart from that of real calls.
    pub fn keys(&self, role: Role) -> anyhow::Result<Line> {
        let policy = CallPolicy {
            // Longer than an attempt, or one that hangs would be our caller's lack of time, not the other's fault.
            deadline: Duration::from_secs(1),
            attempt: Duration::from_millis(500),
            retry: Retry::NEVER,
            ..CallPolicy::default()
        };
        Ok(Line::new(&self.addresses.url(role), self.caller(format!("keys-{}", role.name()), policy))?)
    }

    /// How the payments reach the card network: it takes its time, and is asked again by whoever asked.
    pub fn card_network(&self) -> Caller {
        let policy = CallPolicy {
            deadline: Duration::from_secs(6),
            attempt: Duration::from_secs(6),
            retry: Retry::NEVER,
            breaker: patient(),
            ..CallPolicy::default()
        };
        self.caller("card-network", policy)
    }

    fn caller(&self, name: impl Into<Arc<str>>, policy: CallPolicy) -> Caller {
        Caller::observed(name, policy, &self.process.breakers, &self.process.metrics)
    }
}

fn policy(role: Role, repeats: Repeats) -> CallPolicy {
    let retry = match repeats {
        Repeats::Line => Retry::default(),
        Repeats::Saga => Retry::NEVER,
    };
    match role {
        // A charge lasts as long as the card network does.
        Role::Payments => CallPolicy {
            deadline: Duration::from_secs(8),
            attempt: Duration::from_secs(8),
            retry,
            breaker: patient(),
            ..CallPolicy::default()
        },
        _ => CallPolicy {
            deadline: Duration::from_secs(10),
            attempt: Duration::from_secs(5),
            retry,
            ..CallPolicy::default()
        },
    }
}

/// A call that is given up says nothing: a customer who cancels while his card is being asked is no failure.
fn patient() -> BreakerConfig {
    BreakerConfig { abandoned_after: Duration::from_secs(60), ..BreakerConfig::default() }
}
