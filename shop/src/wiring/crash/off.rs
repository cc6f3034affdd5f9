//! No place to crash at.

use purlin::store::{Engine, Store};
use purlin::telemetry::Metrics;

/// No switch; the same functions as the one of builds for tests has.
#[derive(Clone)]
pub struct Crash;

impl Crash {
    /// Nothing to read.
    pub fn from_environment(_: &Metrics) -> anyhow::Result<Self> {
        Ok(Self)
    }

    /// The store itself.
    pub fn store(&self, engine: impl Engine) -> Store {
        Store::new(engine)
    }
}
