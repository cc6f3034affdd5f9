//! Every commit is a place to crash at.

use anyhow::Context;
use purlin::chaos::CrashPoints;
use purlin::store::{Engine, Store};
use purlin::telemetry::Metrics;

/// The variable that says where.
const VARIABLE: &str = "SHOP_CRASH_AT";

/// The switch; cheap to clone.
#[derive(Clone)]
pub struct Crash {
    points: CrashPoints,
}

impl Crash {
    /// The plan of the environment; without one, commits are only counted.
    pub fn from_environment(metrics: &Metrics) -> anyhow::Result<Self> {
        let points = match std::env::var(VARIABLE) {
            Ok(plan) => CrashPoints::at(plan.parse().context(VARIABLE)?),
            Err(std::env::VarError::NotPresent) => CrashPoints::counting(),
            Err(error) => return Err(error).context(VARIABLE),
        };
        points.observe(metrics);
        Ok(Self { points })
    }

    /// A store whose commits are counted.
    pub fn store(&self, engine: impl Engine) -> Store {
        Store::new(self.points.wrap(engine))
    }
}
