//! The lines between services: who calls whom, and who repeats a call that failed. How long each is waited for, and when
//! it is left alone, the configuration says (`[calls.*]`).

use purlin::resilience::Caller;

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
        let caller = self.process.calls.caller(role.name());
        let caller = match repeats {
            Repeats::Line => caller,
            Repeats::Saga => caller.without_repeats(),
        };
        Ok(Line::new(&self.addresses.url(role), caller)?)
    }

    /// A line to a role that is asked for its keys.
    pub fn keys(&self, role: Role) -> anyhow::Result<Line> {
        let caller = self.process.calls.caller(format!("keys-{}", role.name()));
        Ok(Line::new(&self.addresses.url(role), caller)?)
    }

    /// How the payments reach the card network.
    pub fn card_network(&self) -> Caller {
        self.process.calls.caller("card-network")
    }

    /// How the assistant reaches its model.
    pub fn model(&self) -> Caller {
        self.process.calls.caller("model")
    }
}
