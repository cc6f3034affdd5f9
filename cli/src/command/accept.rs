//! `purlin store accept`: lets those who refuse a restored log go on with it.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::{Outcome, encoded_query};
use crate::arguments::Accept;
use crate::failure::Failure;
use crate::operator::Operator;
use crate::table::Column;

const COLUMNS: &[Column] = &[
    ("LOG", &["/log"]),
    ("FOLLOWER", &["/name"]),
    ("KIND", &["/kind"]),
    ("IN", &["/service"]),
    ("KNOWS", &["/knows"]),
    ("FOUND", &["/found"]),
    ("POSITION", &["/position"]),
    ("FURTHEST", &["/furthest"]),
    ("HEAD", &["/head"]),
];

pub(super) async fn run(operator: &Operator, wanted: &Accept) -> Result<Outcome, Failure> {
    let refusing = refusing(operator, wanted).await?;
    let Some(after) = wanted.after else {
        let none = "no relay and no group refuses its log";
        return Ok(Outcome::List { columns: COLUMNS, items: refusing, none, more: false });
    };
    if refusing.is_empty() {
        return Err(Failure::NoSuchThing("nobody who was asked for refuses a log here".to_owned()));
    }
    let logs: BTreeSet<&str> = refusing.iter().filter_map(|one| one["log"].as_str()).collect();
    if logs.len() > 1 {
        let logs = logs.into_iter().collect::<Vec<_>>().join(", ");
        return Err(Failure::Refused(format!(
            "those who refuse follow several logs ({logs}), and a position is one of one log: say which with --service"
        )));
    }
    let mut plans = Vec::new();
    for one in &refusing {
        plans.push(ask(operator, one, after, true).await?);
    }
    let said: String = plans.iter().map(told).collect();
    if !wanted.yes {
        return Err(Failure::Refused(format!("{said}nothing was changed: say it again with --yes to do so")));
    }
    let mut done = Vec::new();
    for one in &refusing {
        match ask(operator, one, after, false).await {
            Ok(answer) => done.push(answer),
            Err(failure) if done.is_empty() => return Err(failure),
            Err(failure) => return Err(half_way(&done, one, &failure)),
        }
    }
    let when = match operator.alone() {
        true => "when their process is started",
        false => "at their next attempt, or when their process is started",
    };
    let said = format!("{said}done; they go on {when}");
    Ok(Outcome::Done { said, answer: json!({ "items": done }) })
}

/// Those who refuse a log, of whom somebody was asked for.
async fn refusing(operator: &Operator, wanted: &Accept) -> Result<Vec<Value>, Failure> {
    let mut answer = operator.get("/followers").await?;
    let items = answer.get_mut("items").and_then(Value::as_array_mut).map(std::mem::take);
    let mut items = items.ok_or_else(|| Failure::NoAnswer("a list has no `items`".into()))?;
    let is = |one: &Value, member: &str, said: &Option<String>| {
        said.as_deref().is_none_or(|said| one[member] == said)
    };
    items.retain(|one| {
        one["refuses"] == true && is(one, "log", &wanted.service) && is(one, "name", &wanted.follower)
    });
    Ok(items)
}

async fn ask(operator: &Operator, one: &Value, after: u64, dry_run: bool) -> Result<Value, Failure> {
    let text = |name: &str| one[name].as_str().unwrap_or_default();
    let (after, dry_run) = (after.to_string(), dry_run.to_string());
    let query = [
        ("service", text("service")),
        ("kind", text("kind")),
        ("name", text("name")),
        ("after", &after),
        ("dry_run", &dry_run),
    ];
    operator.post(&format!("/followers/accept?{}", encoded_query(&query))).await
}

/// Some go on already when one was refused.
fn half_way(done: &[Value], refused: &Value, failure: &Failure) -> Failure {
    let names: Vec<String> = done.iter().map(called).collect();
    let (one, why) = (called(refused), failure.told());
    let said = format!("{one}: {why}; done already, and not undone: {}", names.join(", "));
    Failure::Halfway { said, progress: json!({ "items": done }) }
}

fn called(one: &Value) -> String {
    let [kind, name, service] = ["kind", "name", "service"].map(|member| one[member].as_str().unwrap_or("?"));
    format!("{kind} {name} (in {service})")
}

/// What it means for one of them.
fn told(plan: &Value) -> String {
    let (called, log) = (called(plan), plan["log"].as_str().unwrap_or("?"));
    let [knows, found, position, furthest, after, from, head, dropped] =
        ["knows", "found", "position", "furthest", "after", "from", "head", "dropped"]
            .map(|member| &plan[member]);
    let relay = plan["kind"] == "relay";
    let done = if relay { "published" } else { "handled" };
    let known = match position == furthest {
        true => format!("up to {position}"),
        false => format!("up to {position}, and parts of it up to {furthest}"),
    };
    let lives = match plan["other_log"] == true {
        true => format!("another log of {log}, which is not here, {known}, and goes on with the one that is"),
        false => {
            format!("incarnation {knows} of the log of {log} {known}, and goes on with incarnation {found}")
        }
    };
    let mut said =
        format!("{called} knows {lives}, which ends at {head}:\n  all up to {from} counts as {done}");
    said += &match (from == after, relay) {
        (true, _) => format!("; what is behind it is {done}, even if it was before\n"),
        (false, true) => format!(", as it had come no further; what is behind it is {done}\n"),
        (false, false) => format!(
            ", and what it had {done} up to {after}; the rest is {done}, and what is behind {after} even if it was \
             before\n"
        ),
    };
    if dropped != 0 {
        said += &format!(
            "  {dropped} messages that are parked behind it are dropped: what the log still says of them comes again\n"
        );
    }
    said
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_done_already_is_named_when_the_next_one_is_refused() {
        let one = |kind: &str, name: &str| json!({ "kind": kind, "name": name, "service": "bus" });
        let failure = half_way(
            &[one("relay", "orders"), one("group", "printer")],
            &one("group", "mailer"),
            &Failure::Refused("it has moved".to_owned()),
        );
        assert_eq!(
            failure.told(),
            "group mailer (in bus): it has moved; done already, and not undone: relay orders (in bus), group printer \
             (in bus)"
        );
    }

    #[test]
    fn that_a_log_is_another_altogether_is_said() {
        let plan = json!({
            "kind": "relay", "name": "payments", "service": "bus", "log": "payments", "knows": 1, "found": 1,
            "position": 400, "furthest": 400, "after": 3, "from": 3, "head": 9, "dropped": 0, "other_log": true,
        });
        assert_eq!(
            told(&plan),
            "relay payments (in bus) knows another log of payments, which is not here, up to 400, and goes on with the one \
             that is, which ends at 9:\n  all up to 3 counts as published; what is behind it is published, even if it was \
             before\n"
        );
    }

    #[test]
    fn who_had_not_come_so_far_is_said_to_stay() {
        let plan = |kind: &str| {
            told(&json!({
                "kind": kind, "name": "g", "service": "s", "log": "l", "knows": 1, "found": 2, "position": 400,
                "furthest": 900, "after": 600, "from": 400, "head": 1000, "dropped": 0,
            }))
        };
        let group = plan("group");
        assert!(group.contains("up to 400, and parts of it up to 900"), "{group}");
        assert!(
            group.contains("all up to 400 counts as handled, and what it had handled up to 600"),
            "{group}"
        );
        assert!(plan("relay").contains("all up to 400 counts as published, as it had come no further"));
    }
}
