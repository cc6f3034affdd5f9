//! How callees are called, said once: in a file, for all and for each.
//!
//! ```toml
//! [calls.default]                       # for every callee
//! timeout = "5s"                        # the whole call
//! attempt = "2s"                        # one attempt
//! concurrency = { max_under_way = 256, adaptive = true }
//!
//! [calls.payments]                      # for this one
//! timeout = "8s"
//! retry = { max_attempts = 3, first_delay = "50ms" }
//! breaker = { failure_threshold = 5, timeout = "5s" }   # unless said: half of 100 calls, or 10 failures in a row
//! hedge = { after = "p95" }             # `false` switches a part off, `true` on
//! ```
//!
//! Each value comes from whoever was most particular about it: what is said of the callee goes before what is said of
//! all, and of two who say the same thing the later one (the file) before the earlier one (the program), and all of
//! them before what is built in. Where one of them switches retries off, and one that goes before him on again, there are as
//! many attempts as there were without either. [`PolicyInForce`] says of each value where it comes from.

mod calls;
mod in_force;
mod merge;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::Deserialize;
use serde_json::{Map, Value};

use super::CallPolicy;
use merge::Merged;

pub use calls::Calls;
pub use in_force::{PolicyInForce, PolicyValue};

/// The name of what is said of every callee.
const DEFAULT: &str = "default";

/// What a file says of calls: its table `calls`, for a field of a program's own configuration.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(transparent)]
pub struct Section(BTreeMap<String, Map<String, Value>>);

/// Names every value of a policy, and of its breaker what holds, so that nothing that is said of all callees changes it.
impl FromIterator<(String, CallPolicy)> for Section {
    fn from_iter<I: IntoIterator<Item = (String, CallPolicy)>>(policies: I) -> Self {
        let whole = |policy: CallPolicy| CallPolicy { breaker: policy.breaker.in_force(), ..policy };
        Self(policies.into_iter().map(|(callee, policy)| (callee, merge::written(&whole(policy)))).collect())
    }
}

/// The policies of all callees; cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Policies {
    layers: Arc<Vec<Layer>>,
}

/// What one source says.
#[derive(Debug, Clone)]
struct Layer {
    origin: Arc<str>,
    section: Section,
}

impl Policies {
    /// What is built in, for every callee.
    pub fn built_in() -> Self {
        Self::default()
    }

    /// With what a further source says, which goes before those that are there. `origin` names it in errors and lists.
    pub fn with(&self, origin: impl Into<Arc<str>>, section: Section) -> Result<Self, PolicyError> {
        let origin = origin.into();
        let mut layers = Vec::clone(&self.layers);
        layers.push(Layer { origin: Arc::clone(&origin), section });
        let policies = Self { layers: Arc::new(layers) };
        for callee in policies.named().into_iter().chain([DEFAULT]) {
            policies.merged(callee).read(callee, &origin)?;
        }
        Ok(policies)
    }

    /// The policy for a callee.
    pub fn of(&self, callee: &str) -> PolicyInForce {
        let merged = self.merged(callee);
        let policy = merged.read(callee, "").expect("every source was read when it was added");
        PolicyInForce::new(callee, policy, &merged)
    }

    /// The callees that are named.
    pub(super) fn named(&self) -> BTreeSet<&str> {
        let names = self.layers.iter().flat_map(|layer| layer.section.0.keys());
        names.map(String::as_str).filter(|name| *name != DEFAULT).collect()
    }

    fn merged(&self, callee: &str) -> Merged {
        let mut merged = Merged::new(&CallPolicy::default());
        for name in [DEFAULT, callee] {
            for Layer { origin, section } in &*self.layers {
                if let Some(said) = section.0.get(name) {
                    merged.take(said, name, origin);
                }
            }
        }
        merged
    }
}

/// A policy that makes no sense.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{origin}: `{key}`: {what}")]
pub struct PolicyError {
    /// Who says so.
    pub origin: String,
    /// The key, as it stands in a file: `calls.payments.retry.max_attempts`.
    pub key: String,
    /// What is wrong with it, and what is allowed.
    pub what: String,
}
