//! `purlin calls`.

use serde_json::{Value, json};

use super::{Outcome, of_a_process};
use crate::arguments::Calls;
use crate::failure::Failure;
use crate::operator::Operator;
use crate::table::Column;

const COLUMNS: &[Column] =
    &[("CALLEE", &["/callee"]), ("KEY", &["/key"]), ("VALUE", &["/value"]), ("FROM", &["/from"])];

pub(super) async fn run(operator: &Operator, command: &Calls) -> Result<Outcome, Failure> {
    of_a_process(operator)?;
    match command {
        Calls::Show { callee } => {
            let items = values(&operator.get("/calls").await?, callee.as_deref());
            if let (Some(callee), true) = (callee, items.is_empty()) {
                let missing = format!("nobody called `{callee}`, and no policy names it");
                return Err(Failure::NoSuchThing(missing));
            }
            Ok(Outcome::List { columns: COLUMNS, items, none: "there is no policy", more: false })
        }
        Calls::Reload => {
            let answer = operator.post("/calls/reload").await?;
            Ok(Outcome::Done { said: reloaded(&answer), answer })
        }
    }
}

/// What a process did when it had read its file again.
fn reloaded(answer: &Value) -> String {
    let changed = answer["changed"].as_array().map_or(0, Vec::len);
    let also = answer["also"].as_array().map(Vec::as_slice).unwrap_or_default();
    let also =
        also.iter().filter_map(Value::as_str).map(|part| format!(", {part} is another")).collect::<String>();
    format!("read again; {changed} callees are called differently{also}")
}

/// The values of all policies, or of a callee's.
pub(super) fn values(answer: &Value, callee: Option<&str>) -> Vec<Value> {
    let policies = answer["policies"].as_array().map(Vec::as_slice).unwrap_or_default();
    let wanted = policies.iter().filter(|policy| callee.is_none_or(|callee| policy["callee"] == callee));
    let of = |policy: &Value| {
        let (callee, values) = (policy["callee"].clone(), policy["values"].as_array().cloned());
        values.unwrap_or_default().into_iter().map(move |value| {
            json!({ "callee": callee, "key": value["key"], "value": value["value"], "from": value["from"] })
        })
    };
    wanted.flat_map(of).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_read_with_the_policies_is_named_too() {
        let said = |answer: Value| reloaded(&answer);
        assert_eq!(said(json!({ "changed": ["a"] })), "read again; 1 callees are called differently");
        assert_eq!(
            said(json!({ "changed": [], "also": ["places.orders"] })),
            "read again; 0 callees are called differently, places.orders is another"
        );
    }
}
