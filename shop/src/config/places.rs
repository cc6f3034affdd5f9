//! How many requests a role answers at once: the others are refused, the least critical first.

use std::path::Path;
use std::time::Duration;

use anyhow::bail;
use purlin::resilience::policies::{PolicyError, Section};
use purlin::resilience::{BulkheadConfig, CallPolicy, Policies};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::Role;

/// The table `places` of the file: `[places.orders]` is for one role, `[places.default]` for all. What neither says is as
/// the shop has it.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(transparent)]
pub struct Places(Map<String, Value>);

/// What is said of every role.
const DEFAULT: &str = "default";

impl Places {
    /// How many a role has, and how many may wait for one. Unless the file says otherwise, a service has as many as half
    /// of the gateway's room for it; payments last as long as cards do, and have four times as many.
    pub fn of(&self, role: &str) -> BulkheadConfig {
        self.merged(role, "").expect("it was checked when it was read")
    }

    /// What is said is merged and checked as the same part of a policy for calls is.
    fn merged(&self, role: &str, file: &str) -> Result<BulkheadConfig, PolicyError> {
        let max_under_way = if role == Role::Payments.name() { 2048 } else { 512 };
        let max_wait = Duration::from_millis(500);
        let concurrency = BulkheadConfig { max_under_way, max_waiting: 512, max_wait, adaptive: None };
        let own = CallPolicy { concurrency, ..CallPolicy::default() };
        let said = self.0.iter().map(|(name, said)| (name.clone(), json!({ "concurrency": said })));
        let said: Section =
            serde_json::from_value(Value::Object(said.collect())).expect("tables of tables are a section");
        let policies =
            Policies::built_in().with("the shop", [(DEFAULT.to_owned(), own)].into_iter().collect());
        Ok(policies.and_then(|policies| policies.with(file, said))?.of(role).policy.concurrency)
    }

    /// The same, if it makes sense.
    pub(super) fn checked(self, file: &Path) -> anyhow::Result<Self> {
        let known = || Role::ALL.into_iter().filter(|role| role.is_behind_gateway()).map(Role::name);
        for (name, said) in &self.0 {
            if name != DEFAULT && known().all(|role| role != name) {
                let known = known().collect::<Vec<_>>().join(", ");
                bail!("{}: `places.{name}`: known are {DEFAULT}, {known}", file.display());
            }
            if !said.is_object() {
                bail!("{}: `places.{name}`: it is a table", file.display());
            }
        }
        for role in known() {
            if let Err(PolicyError { origin, key, what }) = self.merged(role, &file.display().to_string()) {
                let key = key.replacen("calls.", "places.", 1).replacen(".concurrency", "", 1);
                bail!("{origin}: `{key}`: {what}");
            }
        }
        Ok(self)
    }
}

#[cfg(test)]
mod tests {
    use purlin::resilience::AdaptiveConfig;

    use super::*;

    fn read(text: &str) -> anyhow::Result<Places> {
        toml::from_str::<Places>(text)?.checked(Path::new("shop.toml"))
    }

    #[test]
    fn what_is_said_of_a_role_goes_before_what_is_said_of_all_and_the_rest_is_as_the_shop_has_it() {
        let places =
            read("[default]\nmax_under_way = 9\nmax_wait = \"1s\"\n[orders]\nmax_under_way = 4").unwrap();
        let (own, orders) = (Places::default(), places.of("orders"));
        assert_eq!((own.of("orders").max_under_way, own.of("payments").max_under_way), (512, 2048));
        let max_wait = Duration::from_secs(1);
        assert_eq!(orders, BulkheadConfig { max_under_way: 4, max_wait, ..own.of("orders") });
        for role in ["users", "payments"] {
            assert_eq!(places.of(role), BulkheadConfig { max_under_way: 9, max_wait, ..own.of(role) });
        }
        let adaptive = read("[orders]\nadaptive = true").unwrap().of("orders").adaptive;
        assert_eq!(adaptive, Some(AdaptiveConfig::default()));
    }

    #[test]
    fn what_makes_no_sense_is_refused_with_the_key() {
        for (text, key) in [
            ("[gateway]\nmax_under_way = 1", "places.gateway"),
            ("[orders]\nmax_under_way = 0", "places.orders.max_under_way"),
            ("[orders]\nmax = 1", "places.orders"),
            ("[orders]\nadaptive = { tolerance = 0.5 }", "places.orders.adaptive.tolerance"),
            ("[orders]\nadaptive = { tolerance = nan }", "places.orders.adaptive.tolerance"),
            ("[default]\nadaptive = { window = \"0s\" }", "places.default.adaptive.window"),
        ] {
            let error = read(text).unwrap_err().to_string();
            assert!(error.starts_with("shop.toml: `places.") && error.contains(key), "{text}: {error}");
        }
    }
}
