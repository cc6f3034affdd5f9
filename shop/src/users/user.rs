//! A user: who somebody is, and what he may do.

use purlin::aggregate::{Aggregate, SnapshotPolicy};
use purlin::message::{Event, Fault, FaultKind, Uuid};
use purlin::store::personal::{Personal, Subject};
use serde::{Deserialize, Serialize};

use crate::contracts::numbers::SHORTEST_PASSWORD;
use crate::contracts::who::Role;

/// A user.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct User {
    /// Who he is; nobody before he has registered, and once he is forgotten.
    pub person: Option<Person>,
    /// What he may do.
    pub role: Role,
    /// He was a user, and is no more.
    pub forgotten: bool,
}

/// Who somebody is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Person {
    /// Where he is written to.
    pub email: Personal<String>,
    /// What he is called.
    pub name: Personal<String>,
    /// His password, hashed.
    pub password: Personal<String>,
}

/// What is known of a person, in plain.
#[derive(Debug, Clone, Copy)]
pub struct Particulars<'a> {
    /// Where he is written to.
    pub email: &'a str,
    /// What he is called.
    pub name: &'a str,
    /// His password, hashed.
    pub password: &'a str,
}

/// What happens to users.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UserEvent {
    /// Somebody became a user.
    Registered {
        /// Where he is written to.
        email: Personal<String>,
        /// What he is called.
        name: Personal<String>,
        /// What he may do.
        role: Role,
        /// His password, hashed.
        password: Personal<String>,
    },
    /// He is forgotten, with all that was personal.
    Forgotten,
}

impl Event for UserEvent {}

impl Aggregate for User {
    const KIND: &'static str = "user";
    // It has few events: reading them costs less than looking for a snapshot first.
    const SNAPSHOTS: SnapshotPolicy = SnapshotPolicy::NEVER;
    type Event = UserEvent;

    fn apply(&mut self, event: &UserEvent) {
        *self = match event.clone() {
            UserEvent::Registered { email, name, role, password } => {
                Self { person: Some(Person { email, name, password }), role, forgotten: false }
            }
            UserEvent::Forgotten => Self { forgotten: true, ..Self::default() },
        };
    }
}

/// By whom the personal data of a user are kept.
pub fn subject(user_id: Uuid) -> Subject {
    Subject::new(format_args!("user-{user_id}")).expect("an identifier names a subject")
}

impl Person {
    /// A person who registers as this user.
    pub fn new(user_id: Uuid, particulars: Particulars<'_>) -> Self {
        let subject = subject(user_id);
        let Particulars { email, name, password } = particulars;
        let personal = |text: &str| Personal::new(&subject, text.to_owned());
        Self { email: personal(email), name: personal(name), password: personal(password) }
    }
}

impl User {
    /// Makes somebody a user.
    pub fn register(&self, person: &Person, role: Role) -> Result<UserEvent, UserError> {
        if self.person.is_some() || self.forgotten {
            return Err(UserError::EmailTaken);
        }
        let Person { email, name, password } = person.clone();
        Ok(UserEvent::Registered { email, name, role, password })
    }

    /// Forgets him.
    pub fn forget(&self) -> Result<UserEvent, UserError> {
        self.person.as_ref().map(|_| UserEvent::Forgotten).ok_or(UserError::NotFound)
    }

    /// Whether he is an administrator, and not forgotten.
    pub fn runs_the_shop(&self) -> bool {
        self.role == Role::Admin && self.person.is_some()
    }

    /// Who he is.
    pub fn particulars(&self) -> Result<Particulars<'_>, UserError> {
        let Person { email, name, password } = self.person.as_ref().ok_or(UserError::NotFound)?;
        match (email.get(), name.get(), password.get()) {
            (Some(email), Some(name), Some(password)) => Ok(Particulars { email, name, password }),
            _ => Err(UserError::Sealed),
        }
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
    /// Without him nobody would run the shop.
    #[error("the last administrator cannot be forgotten: nobody would run the shop")]
    LastAdministrator,
    /// The store's master key is not the one that his key is wrapped in.
    #[error("what is known of users is sealed with a master key that this process was not given")]
    Sealed,
}

impl Fault for UserError {
    fn kind(&self) -> FaultKind {
        match self {
            Self::EmailTaken | Self::LastAdministrator => FaultKind::Conflict,
            Self::NotFound => FaultKind::NotFound,
            Self::Sealed => FaultKind::Unavailable,
        }
    }

    fn code(&self) -> &str {
        match self {
            Self::EmailTaken => "email-taken",
            Self::NotFound => "not-found",
            Self::LastAdministrator => "last-administrator",
            Self::Sealed => "users-sealed",
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
    fn what_was_written_of_users_before_it_was_personal_is_read() {
        let old = r#"{"email":"ada@example.org","name":"Ada","role":"user","password":"h"}"#;
        let event: UserEvent = purlin::message::Envelope::raw("user.registered", old).decode().unwrap();
        let mut user = User::default();
        user.apply(&event);
        assert_eq!(user.particulars().unwrap().email, "ada@example.org");
    }

    #[test]
    fn a_user_who_is_forgotten_is_nobody_and_never_again_a_user() {
        let person =
            Person::new(Uuid::nil(), Particulars { email: "ada@example.org", name: "Ada", password: "h" });
        let mut user = User::default();
        assert_eq!(user.forget(), Err(UserError::NotFound));
        user.apply(&user.register(&person, Role::Admin).unwrap());
        assert!(user.runs_the_shop());
        user.apply(&user.forget().unwrap());
        assert!(!user.runs_the_shop(), "whatever his token says");
        assert_eq!(user.particulars().unwrap_err(), UserError::NotFound);
        assert_eq!(user.forget(), Err(UserError::NotFound));
        assert!(user.register(&person, Role::User).is_err());
    }

    #[test]
    fn addresses_that_differ_in_case_only_are_one() {
        assert_eq!(normal(" Ada@Example.org "), "ada@example.org");
    }
}
