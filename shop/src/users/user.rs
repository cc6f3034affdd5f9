//! A user: who somebody is, and what he may do.

use purlin::aggregate::{Aggregate, SnapshotPolicy};
use purlin::message::{Event, Fault, FaultKind};
use serde::{Deserialize, Serialize};

use crate::contracts::numbers::SHORTEST_PASSWORD;
use crate::contracts::who::Role;

/// A user.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct User {
    /// Where he is written to; empty: there is no such user.
    pub email: String,
    /// What he is called.
    pub name: String,
    /// What he may do.
    pub role: Role,
    /// His password, hashed.
    pub password: String,
}

/// What happens to users.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UserEvent {
    /// Somebody became a user.
    Registered {
        /// Where he is written to.
        email: String,
        /// What he is called.
        name: String,
        /// What he may do.
        role: Role,
        /// His password, hashed.
        password: String,
    },
}

impl Event for UserEvent {}

impl Aggregate for User {
    const KIND: &'static str = "user";
    // It has few events: reading them costs less than looking for a snapshot first.
    const SNAPSHOTS: SnapshotPolicy = SnapshotPolicy::NEVER;
    type Event = UserEvent;

    fn apply(&mut self, event: &UserEvent) {
        let UserEvent::Registered { email, name, role, password } = event.clone();
        *self = Self { email, name, role, password };
    }
}

impl User {
    /// Makes somebody a user.
    pub fn register(&self, person: &User) -> Result<UserEvent, UserError> {
        if !self.email.is_empty() {
            return Err(UserError::EmailTaken);
        }
        let User { email, name, role, password } = person.clone();
        Ok(UserEvent::Registered { email, name, role, password })
    }
}

/// An address as it is compared: two that differ in case only are one.
pub fn normal(email: &str) -> String {
    email.trim().to_lowercase()
}

/// What is wrong with what somebody registers with: which field, and why.
pub fn complaint(email: &str, name: &str, password: &str) -> Option<(&'static str, &'static str)> {
    if !is_address(email) {
        return Some(("email", "an address such as ada@example.org is needed, of at most 254 bytes"));
    }
    if name.trim().is_empty() || name.len() > 200 {
        return Some(("name", "a name of 1 to 200 bytes is needed"));
    }
    if password.chars().count() < SHORTEST_PASSWORD {
        return Some(("password", "a password has at least 8 characters"));
    }
    (password.len() > 1024).then_some(("password", "a password has at most 1024 bytes"))
}

fn is_address(email: &str) -> bool {
    let email = email.trim();
    let plain = !email.chars().any(|c| c.is_whitespace() || c.is_control());
    let parts = email.split_once('@');
    let whole = parts.is_some_and(|(name, host)| !name.is_empty() && !host.is_empty() && !host.contains('@'));
    plain && whole && email.len() <= 254
}

/// What cannot be done with a user.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum UserError {
    /// Somebody has the address already.
    #[error("a user with this email exists already")]
    EmailTaken,
    /// There is no such user (any more).
    #[error("there is no such user")]
    NotFound,
}

impl Fault for UserError {
    fn kind(&self) -> FaultKind {
        match self {
            Self::EmailTaken => FaultKind::Conflict,
            Self::NotFound => FaultKind::NotFound,
        }
    }

    fn code(&self) -> &str {
        match self {
            Self::EmailTaken => "email-taken",
            Self::NotFound => "not-found",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_an_address_or_too_short_a_password_is_refused() {
        assert_eq!(complaint("ada@example.org", "Ada", "12345678"), None);
        for email in ["", "ada", "@", "a@", "@b", "a b@c", "a@b@c", &format!("{}@b", "a".repeat(300))] {
            assert_eq!(complaint(email, "Ada", "12345678").map(|(field, _)| field), Some("email"), "{email}");
        }
        assert_eq!(complaint("a@b", "Ada", "1234567").map(|(field, _)| field), Some("password"));
        assert_eq!(complaint("a@b", " ", "12345678").map(|(field, _)| field), Some("name"));
    }

    #[test]
    fn addresses_that_differ_in_case_only_are_one() {
        assert_eq!(normal(" Ada@Example.org "), "ada@example.org");
    }
}
