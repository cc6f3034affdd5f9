//! What several sources say of one callee, in one.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Map, Value, json};

use super::super::{CallPolicy, Retry};
use super::PolicyError;

/// A policy in the making, and where each of its values comes from.
#[derive(Debug)]
pub(super) struct Merged {
    value: Map<String, Value>,
    /// The last that was said of retries while there were any.
    repeats: Value,
    /// By path (`retry.max_attempts`); what is not here is built in.
    pub(super) origins: BTreeMap<String, Arc<str>>,
}

impl Merged {
    pub(super) fn new(built_in: &CallPolicy) -> Self {
        Self { value: written(built_in), repeats: json!(built_in.retry), origins: BTreeMap::new() }
    }

    /// Takes what a source says in its table `calls.<name>`.
    pub(super) fn take(&mut self, said: &Map<String, Value>, name: &str, origin: &Arc<str>) {
        let origin = format!("calls.{name} in {origin}").into();
        take(&mut self.value, said, "", &origin, &mut self.origins);
        if said.get("retry") == Some(&Value::Bool(true)) && !self.repeats() {
            let switched_on = Map::from_iter([("retry".to_owned(), self.switched_on())]);
            take(&mut self.value, &switched_on, "", &origin, &mut self.origins);
        }
        if self.repeats() {
            self.repeats = self.value["retry"].clone();
        }
    }

    /// Whether there is more than one attempt.
    fn repeats(&self) -> bool {
        self.at("retry.max_attempts").and_then(Value::as_u64).is_some_and(|attempts| attempts > 1)
    }

    /// Retries as they were before they were switched off: as many, with the pauses that were said since; where those are
    /// of somebody who wants no retries, with the pauses of then, too.
    fn switched_on(&self) -> Value {
        match self.value.get("retry") == Some(&json!(Retry::NEVER)) {
            true => self.repeats.clone(),
            false => json!({ "max_attempts": self.repeats["max_attempts"] }),
        }
    }

    /// The policy, if it makes sense; `origin` said last, and so it is he who is wrong.
    pub(super) fn read(&self, callee: &str, origin: &str) -> Result<CallPolicy, PolicyError> {
        let error = |path: &str, what: String| {
            let path = if matches!(path, "" | ".") { String::new() } else { format!(".{path}") };
            PolicyError { origin: origin.to_owned(), key: format!("calls.{callee}{path}"), what }
        };
        let (rates, threshold) = ("breaker.rates", "breaker.failure_threshold");
        let said_off = self.is_off(rates) && self.origins.contains_key(rates);
        if said_off && self.is_off(threshold) {
            let what = "`false` leaves nothing that opens it: say `failure_threshold`, too (`failure_threshold = 10, \
                window = 10` is 10 in a row)";
            return Err(error(rates, what.to_owned()));
        }
        let value = Value::Object(self.value.clone());
        let read: Result<CallPolicy, _> = serde_path_to_error::deserialize(value);
        let policy = read.map_err(|failed| error(&failed.path().to_string(), failed.inner().to_string()))?;
        policy.check().map_err(|(path, allowed)| {
            let value =
                self.at(path).map_or_else(String::new, |value| format!("{value} is not allowed, but "));
            error(path, format!("{value}{allowed}"))
        })?;
        Ok(policy)
    }

    /// Whether nothing is said there, or that there is to be nothing.
    fn is_off(&self, path: &str) -> bool {
        matches!(self.at(path), Some(Value::Null | Value::Bool(false)))
    }

    fn at(&self, path: &str) -> Option<&Value> {
        let mut parts = path.split('.');
        let first = self.value.get(parts.next()?)?;
        parts.try_fold(first, |value, part| value.get(part))
    }
}

/// A policy as a table.
pub(super) fn written(policy: &CallPolicy) -> Map<String, Value> {
    let value = serde_json::to_value(policy).expect("a policy can be written as JSON");
    let Value::Object(value) = value else { unreachable!("a policy is a table") };
    value
}

fn take(
    into: &mut Map<String, Value>,
    said: &Map<String, Value>,
    within: &str,
    origin: &Arc<str>,
    origins: &mut BTreeMap<String, Arc<str>>,
) {
    for (key, said) in said {
        let path = if within.is_empty() { key.clone() } else { format!("{within}.{key}") };
        let said = switched(key, said, into.get(key));
        match (into.get_mut(key), said) {
            // Of calls or of a time: who says one does not mean the other.
            (Some(Value::Object(into)), Value::Object(said)) if key != "over" => {
                origins.insert(path.clone(), Arc::clone(origin));
                take(into, &said, &path, origin, origins);
            }
            (_, Value::Object(said)) => {
                origins.retain(|known, _| !is_within(known, &path));
                origins.insert(path.clone(), Arc::clone(origin));
                let mut fresh = Map::new();
                take(&mut fresh, &said, &path, origin, origins);
                into.insert(key.clone(), Value::Object(fresh));
            }
            (_, said) => {
                origins.retain(|known, _| !is_within(known, &path));
                origins.insert(path, Arc::clone(origin));
                into.insert(key.clone(), said);
            }
        }
    }
}

fn is_within(known: &str, path: &str) -> bool {
    known.strip_prefix(path).is_some_and(|rest| rest.starts_with('.'))
}

/// `true` and `false` switch a part on and off.
fn switched(key: &str, said: &Value, there: Option<&Value>) -> Value {
    match (key, said, there) {
        ("retry", Value::Bool(false), _) => json!({ "max_attempts": 1 }),
        // Nothing there means that nobody said anything, and then it may well grow, and a number of failures open it.
        ("growth", Value::Bool(false), _) => json!({ "factor": 1.0 }),
        ("failure_threshold", Value::Bool(_), _) => said.clone(),
        (_, Value::Bool(true), Some(Value::Null | Value::Object(_))) => json!({}),
        (_, Value::Bool(false), None | Some(Value::Null | Value::Object(_))) => Value::Null,
        _ => said.clone(),
    }
}
