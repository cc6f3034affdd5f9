//! A policy in force, value by value, with where each comes from.

use std::fmt;

use serde::Serialize;
use serde_json::Value;

use super::super::CallPolicy;
use super::merge::Merged;

/// A policy in force. It is printed as a table, and serialized as a list of its values.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PolicyInForce {
    /// Who is called by it.
    pub callee: String,
    /// The policy.
    #[serde(skip)]
    pub policy: CallPolicy,
    /// Its values.
    pub values: Vec<PolicyValue>,
}

/// A value of a policy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PolicyValue {
    /// Its key below the callee's: `retry.max_attempts`.
    pub key: String,
    /// As it is written in a file.
    pub value: Value,
    /// Who says so.
    pub from: String,
}

impl PolicyInForce {
    pub(super) fn new(callee: &str, policy: CallPolicy, merged: &Merged) -> Self {
        // What nobody said is filled in: what is shown is what holds.
        let whole = CallPolicy { breaker: policy.breaker.in_force(), ..policy };
        let whole = serde_json::to_value(whole).expect("a policy can be written as JSON");
        let mut values = Vec::new();
        flatten(String::new(), whole, &mut |key, value| {
            let from = merged.origins.get(&key).map_or("built in", |origin| &**origin).to_owned();
            values.push(PolicyValue { key, value, from });
        });
        Self { callee: callee.to_owned(), policy, values }
    }
}

/// The leaves of a value with their paths; a part that is switched off is one.
fn flatten(path: String, value: Value, leaf: &mut impl FnMut(String, Value)) {
    match value {
        Value::Object(members) if !members.is_empty() => {
            for (name, value) in members {
                let path = if path.is_empty() { name } else { format!("{path}.{name}") };
                flatten(path, value, leaf);
            }
        }
        Value::Null => leaf(path, Value::Bool(false)),
        value => leaf(path, value),
    }
}

impl fmt::Display for PolicyInForce {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "[calls.{}]", self.callee)?;
        let wide = |texts: &mut dyn Iterator<Item = usize>| texts.max().unwrap_or(0);
        let texts: Vec<String> = self.values.iter().map(|value| value.value.to_string()).collect();
        let keys = wide(&mut self.values.iter().map(|value| value.key.len()));
        let width = wide(&mut texts.iter().map(String::len));
        for (PolicyValue { key, from, .. }, text) in self.values.iter().zip(&texts) {
            writeln!(f, "{key:keys$} = {text:width$}  # {from}")?;
        }
        Ok(())
    }
}
