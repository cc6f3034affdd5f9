//! Whether this process can take work, and if not, why.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Serialize;
use tokio::sync::watch;

/// Named checks, each ready or not; cheap to clone. With no check at all it is ready.
#[derive(Debug, Clone)]
pub struct Health {
    checks: Arc<watch::Sender<BTreeMap<Arc<str>, State>>>,
}

/// How a check is, with the reason where it is not well.
#[derive(Debug, Clone, PartialEq, Eq)]
enum State {
    Ready,
    Degraded(String),
    NotReady(String),
}

impl State {
    fn is_ready(&self) -> bool {
        !matches!(self, Self::NotReady(_))
    }

    fn reason(&self) -> Option<&String> {
        match self {
            Self::Ready => None,
            Self::Degraded(reason) | Self::NotReady(reason) => Some(reason),
        }
    }
}

impl Health {
    /// Without checks.
    pub fn new() -> Self {
        Self { checks: Arc::new(watch::Sender::new(BTreeMap::new())) }
    }

    /// The check of this name; one that is new is not ready, because it is starting.
    pub fn check(&self, name: impl Into<Arc<str>>) -> Check {
        let name = name.into();
        self.checks.send_modify(|checks| {
            checks.entry(Arc::clone(&name)).or_insert_with(|| State::NotReady("starting".to_owned()));
        });
        Check { health: self.clone(), name }
    }

    /// Whether every check is ready.
    pub fn is_ready(&self) -> bool {
        all_ready(&self.checks.borrow())
    }

    /// Waits until every check is ready at the same time; put a deadline around it.
    pub async fn until_ready(&self) {
        let mut checks = self.checks.subscribe();
        checks.wait_for(all_ready).await.expect("this handle keeps the channel open");
    }

    /// Every check, by name.
    pub fn report(&self) -> HealthReport {
        let checks = self.checks.borrow();
        let report = |(name, state): (&Arc<str>, &State)| CheckReport {
            name: name.to_string(),
            ready: state.is_ready(),
            reason: state.reason().cloned(),
        };
        HealthReport { ready: all_ready(&checks), checks: checks.iter().map(report).collect() }
    }
}

impl Default for Health {
    fn default() -> Self {
        Self::new()
    }
}

fn all_ready(checks: &BTreeMap<Arc<str>, State>) -> bool {
    checks.values().all(State::is_ready)
}

/// Says of one thing whether it is ready.
#[derive(Debug, Clone)]
pub struct Check {
    health: Health,
    name: Arc<str>,
}

impl Check {
    /// It can take work.
    pub fn ready(&self) {
        self.set(State::Ready);
    }

    /// It cannot take work, for this reason.
    pub fn not_ready(&self, reason: impl Into<String>) {
        self.set(State::NotReady(reason.into()));
    }

    /// A part of it does not work until a person has acted, for this reason. Work can be taken all the same: another
    /// process would fare no better.
    pub fn degraded(&self, reason: impl Into<String>) {
        self.set(State::Degraded(reason.into()));
    }

    fn set(&self, state: State) {
        self.health
            .checks
            .send_if_modified(|checks| checks.insert(Arc::clone(&self.name), state.clone()) != Some(state));
    }
}

/// What a readiness endpoint answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct HealthReport {
    /// Whether every check is ready.
    pub ready: bool,
    /// Every check, by name.
    pub checks: Vec<CheckReport>,
}

/// One check of a [`HealthReport`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CheckReport {
    /// What was checked.
    pub name: String,
    /// Whether it can take work.
    pub ready: bool,
    /// Why it cannot, or which part of it does not work.
    pub reason: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn it_is_ready_only_while_every_check_is() {
        let health = Health::new();
        let (store, bus) = (health.check("store"), health.check("bus"));
        store.ready();
        assert!(!health.is_ready());
        let waiting = tokio::join!(health.until_ready(), async { bus.ready() });
        assert_eq!(waiting, ((), ()));
        assert!(health.is_ready());

        store.not_ready("the disk is full");
        assert!(!health.is_ready());
        let reasons: Vec<_> =
            health.report().checks.into_iter().map(|check| (check.name, check.reason)).collect();
        assert_eq!(
            reasons,
            [("bus".to_owned(), None), ("store".to_owned(), Some("the disk is full".to_owned()))]
        );
    }

    #[test]
    fn asking_for_a_check_again_does_not_reset_it() {
        let health = Health::new();
        health.check("store").ready();
        health.check("store");
        assert!(health.is_ready());
    }
}
