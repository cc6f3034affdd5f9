//! The breakers of this process.

use purlin::message::{Uuid, new_id};
use purlin::resilience::{Breakers, Forced, Operator};
use serde_json::Value;
use tokio::time::Instant;

use crate::contracts::who::Known;

/// The breakers of this process; cheap to clone.
#[derive(Clone)]
pub struct Here {
    /// What the process is called.
    pub process: &'static str,
    /// Which one it is: there may be several of a name, and an address may be another's by now.
    pub id: Uuid,
    breakers: Breakers,
}

impl Here {
    /// Those of a process of this name.
    pub fn new(process: &'static str, breakers: &Breakers) -> Self {
        Self { process, id: new_id(), breakers: breakers.clone() }
    }

    /// How they stand.
    pub fn list(&self) -> Vec<Value> {
        let list = self.breakers.list(Instant::now());
        list.iter().map(|status| serde_json::to_value(status).unwrap_or_default()).collect()
    }

    /// Holds one, or lets it decide again; how it stands then, if there is one.
    pub fn hold(&self, name: &str, forced: Option<Forced>, by: Known, why: &str) -> Option<Value> {
        let breaker = self.breakers.find(name)?;
        breaker.force_by(forced, Operator::new(format!("administrator {}", by.id), why));
        tracing::warn!(breaker = name, ?forced, administrator = %by.id, why, "an administrator holds a breaker, or lets go");
        serde_json::to_value(breaker.status(Instant::now())).ok()
    }
}
