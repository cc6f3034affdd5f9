//! `purlin store accept`: lets those who refuse a restored log go on with it.

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
        done.push(ask(operator, one, after, false).await?);
    }
    let said = format!("{said}done; they go on when their process is started");
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

/// What it means for one of them.
fn told(plan: &Value) -> String {
    let [kind, name, service, log] =
        ["kind", "name", "service", "log"].map(|member| plan[member].as_str().unwrap_or("?"));
    let [knows, found, position, after, head, dropped] =
        ["knows", "found", "position", "after", "head", "dropped"].map(|member| &plan[member]);
    let (done, again) = if kind == "relay" { ("published", "published") } else { ("handled", "handled") };
    let mut said = format!(
        "{kind} {name} (in {service}) knows incarnation {knows} of the log of {log} up to {position}, and goes on with \
         incarnation {found}, which ends at {head}:\n  all up to {after} counts as {done}; what is behind it is {again}, \
         even if it was before\n"
    );
    if dropped != 0 {
        said += &format!(
            "  {dropped} messages that are parked behind it are dropped: what the log still says of them comes again\n"
        );
    }
    said
}
