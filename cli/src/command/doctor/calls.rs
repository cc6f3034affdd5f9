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
        let said = summary(callee, &values(&answer, Some(callee)));
        let about = format!("calls: {callee}");
        found.push(match line["breaker"].as_str() {
            Some("closed") | None => Finding::ok(about, said),
            Some(state) => {
                Finding::warn(about, format!("the breaker is {state}; {said}"), "purlin breakers list")
            }
        });
    }
}

/// So many values are told of each place that says some.
const TOLD: usize = 3;

/// What differs from what is built in, by who says so: some values of each, those that matter most to a caller first.
fn summary(callee: &str, values: &[Value]) -> String {
    let mut places: Vec<(String, Vec<&Value>)> = Vec::new();
    for value in values.iter().filter(|value| value["from"] != "built in") {
        let from = text(&value["from"]);
        match places.iter_mut().find(|(place, _)| *place == from) {
            Some((_, all)) => all.push(value),
            None => places.push((from, vec![value])),
        }
    }
    let mut more = false;
    let told = places.into_iter().map(|(from, mut all)| {
        let rank =
            |key: &str| ["timeout", "attempt", "retry.max_attempts"].iter().position(|first| *first == key);
        all.sort_by_key(|value| rank(&text(&value["key"])).unwrap_or(usize::MAX));
        let some =
            all.iter().take(TOLD).map(|value| format!("{}={}", text(&value["key"]), text(&value["value"])));
        let mut told = some.collect::<Vec<_>>().join(", ");
        if all.len() > TOLD {
            more = true;
            told += &format!(" and {} more", all.len() - TOLD);
        }
        format!("{told} ({from})")
    });
    let told = told.collect::<Vec<_>>().join("; ");
    match (told.is_empty(), more) {
        (true, _) => "as built in".to_owned(),
        (false, true) => format!("{told}: `purlin calls show {callee}`"),
        (false, false) => told,
    }
}

fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn of_many_values_some_are_told_and_where_the_rest_is() {
        let value = |key: &str, from: &str| json!({ "key": key, "value": 1, "from": from });
        assert_eq!(summary("users", &[value("timeout", "built in")]), "as built in");
        let two = [value("timeout", "the file"), value("attempt", "the program")];
        assert_eq!(summary("users", &two), "timeout=1 (the file); attempt=1 (the program)");
        let keys = ["breaker.window", "budget.ratio", "hedge", "retry.jitter", "timeout"];
        let many: Vec<_> = keys.iter().map(|key| value(key, "the gateway")).collect();
        assert_eq!(
            summary("users", &many),
            "timeout=1, breaker.window=1, budget.ratio=1 and 2 more (the gateway): `purlin calls show users`"
        );
    }
}
