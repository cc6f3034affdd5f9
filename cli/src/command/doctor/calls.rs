//! How the process calls others: what differs from what is built in, and which breakers do not let calls through.

use serde_json::Value;

use super::finding::Finding;
use super::services::silent;
use crate::command::calls::values;
use crate::operator::Operator;

pub(super) async fn examine(operator: &Operator, found: &mut Vec<Finding>) {
    if !matches!(operator, Operator::Process(_)) {
        return;
    }
    // An older process does not know the question.
    let answer = match operator.get("/calls").await {
        Ok(answer) => answer,
        Err(crate::failure::Failure::NoSuchThing(_)) => return,
        Err(failure) => return found.push(silent("calls", &failure)),
    };
    for line in answer["lines"].as_array().map(Vec::as_slice).unwrap_or_default() {
        let callee = line["callee"].as_str().unwrap_or("?");
        let said: Vec<String> = values(&answer, Some(callee))
            .iter()
            .filter(|value| value["from"] != "built in")
            .map(|value| {
                format!("{}={} ({})", text(&value["key"]), text(&value["value"]), text(&value["from"]))
            })
            .collect();
        let said = if said.is_empty() { "as built in".to_owned() } else { said.join(", ") };
        let about = format!("calls: {callee}");
        found.push(match line["breaker"].as_str() {
            Some("closed") | None => Finding::ok(about, said),
            Some(state) => {
                Finding::warn(about, format!("the breaker is {state}; {said}"), "purlin breakers list")
            }
        });
    }
}

fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}
