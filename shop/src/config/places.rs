//! How many requests a role answers at once: the others are refused, the least critical first.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use anyhow::bail;
use purlin::resilience::BulkheadConfig;
use serde::Deserialize;

use super::Role;

/// The table `places` of the file: `[places.orders]` is for one role, `[places.default]` for all others.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(transparent)]
pub struct Places(BTreeMap<String, BulkheadConfig>);

/// What is said of every role.
const DEFAULT: &str = "default";

impl Places {
    /// How many a role has, and how many may wait for one. Unless the file says otherwise, a service has as many as half
    /// of the gateway's room for it; payments last as long as cards do, and have four times as many.
    pub fn of(&self, role: &str) -> BulkheadConfig {
        let said = self.0.get(role).or_else(|| self.0.get(DEFAULT)).copied();
        let max_under_way = if role == Role::Payments.name() { 2048 } else { 512 };
        let max_wait = Duration::from_millis(500);
        said.unwrap_or(BulkheadConfig { max_under_way, max_waiting: 512, max_wait, adaptive: None })
    }

    /// The same, if it makes sense.
    pub(super) fn checked(self, file: &Path) -> anyhow::Result<Self> {
        for (name, config) in &self.0 {
            let known = Role::ALL.into_iter().filter(|role| role.is_behind_gateway());
            if name != DEFAULT && known.clone().all(|role| role.name() != name) {
                let known = known.map(Role::name).collect::<Vec<_>>().join(", ");
                bail!("{}: `places.{name}`: known are {DEFAULT}, {known}", file.display());
            }
            if config.max_under_way == 0 {
                bail!("{}: `places.{name}.max_under_way` must be at least 1", file.display());
            }
        }
        Ok(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> anyhow::Result<Places> {
        toml::from_str::<Places>(text)?.checked(Path::new("shop.toml"))
    }

    #[test]
    fn what_is_said_of_a_role_goes_before_what_is_said_of_all() {
        let places = read("[default]\nmax_under_way = 9\n[orders]\nmax_under_way = 4").unwrap();
        assert_eq!((places.of("orders").max_under_way, places.of("users").max_under_way), (4, 9));
        let places = Places::default();
        assert_eq!((places.of("orders").max_under_way, places.of("payments").max_under_way), (512, 2048));
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for text in ["[gateway]\nmax_under_way = 1", "[orders]\nmax_under_way = 0", "[orders]\nmax = 1"] {
            assert!(read(text).is_err(), "{text}");
        }
    }
}
