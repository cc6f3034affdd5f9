//! `purlin streams`.

use serde_json::{Map, Value, json};

use super::{Outcome, encoded, encoded_query, list, of_service, path, print, services};
use crate::arguments::{List, Show, Stats, Streams, Tail};
use crate::failure::Failure;
use crate::operator::Operator;
use crate::place::say_which;
use crate::progress::Bar;
use crate::table::{self, Column};

const SUBJECT: &str = "streams";

const COLUMNS: &[Column] = &[
    ("SERVICE", &["/service"]),
    ("STREAM", &["/stream"]),
    ("EVENTS", &["/events"]),
    ("POSITION", &["/position"]),
    ("BEGAN", &["/began"]),
    ("LAST", &["/last"]),
    ("LAST KIND", &["/last_kind"]),
];

const EVENTS: &[Column] = &[
    ("VERSION", &["/version"]),
    ("POSITION", &["/position"]),
    ("AT", &["/at"]),
    ("KIND", &["/kind"]),
    ("DATA", &["/data"]),
];

const COUNTED: &[Column] =
    &[("NAME", &["/name"]), ("EVENTS", &["/events"]), ("STREAMS", &["/streams"]), ("BYTES", &["/bytes"])];

/// How many seconds an answer waits for something new.
const WAIT: &str = "5";

pub(super) async fn run(operator: &Operator, command: &Streams, json: bool) -> Result<Outcome, Failure> {
    match command {
        Streams::List(wanted) => all(operator, wanted).await,
        Streams::Show(wanted) => show(operator, wanted).await,
        Streams::Tail(wanted) => tail(operator, wanted, json).await,
        Streams::Stats(wanted) => stats(operator, wanted).await,
        Streams::Archive(wanted) => super::archive::run(operator, wanted).await,
        // It asks nobody.
        Streams::Audit(_) => Ok(Outcome::Said),
    }
}

async fn all(operator: &Operator, wanted: &List) -> Result<Outcome, Failure> {
    let mut filter = Vec::new();
    filter.extend(wanted.category.as_deref().map(|name| ("category", name)));
    filter.extend(wanted.tenant.as_deref().map(|name| ("tenant", name)));
    let after = wanted.after.map(|position| position.to_string());
    let (items, more) = list(operator, SUBJECT, &filter, &wanted.page, after.as_deref()).await?;
    Ok(Outcome::List { columns: COLUMNS, items, none: "there is no such stream", more })
}

async fn show(operator: &Operator, wanted: &Show) -> Result<Outcome, Failure> {
    let service = service_of(operator, wanted).await?;
    let limit = wanted.limit as usize;
    let (mut items, mut more): (Vec<Value>, bool) = (Vec::new(), true);
    let mut next = if wanted.back { u64::MAX.to_string() } else { wanted.from.to_string() };
    let from = wanted.from.to_string();
    while more && items.len() < limit {
        let page = (limit - items.len()).min(100).to_string();
        let mut query = vec![("limit", page.as_str())];
        match wanted.back {
            true => query.extend([("before", next.as_str()), ("from", from.as_str())]),
            false => query.push(("from", next.as_str())),
        }
        let path = format!("{}?{}", path(&service, SUBJECT, &wanted.stream), encoded_query(&query));
        let mut answer = operator.get(&path).await?;
        let found = answer.get_mut("items").and_then(Value::as_array_mut).map(std::mem::take);
        items.extend(found.unwrap_or_default().into_iter().map(|item| of_service(&service, item)));
        let following = answer.get("next").and_then(Value::as_str).map(str::to_owned);
        more = following.is_some();
        next = following.unwrap_or_default();
    }
    Ok(Outcome::List { columns: EVENTS, items, none: "the stream has no such event", more })
}

/// The service that has a stream.
async fn service_of(operator: &Operator, wanted: &Show) -> Result<String, Failure> {
    let mut having = Vec::new();
    for service in services(operator, wanted.service.as_deref()).await? {
        let answer = operator.get(&format!("{}?limit=1", path(&service, SUBJECT, &wanted.stream))).await?;
        if answer.pointer("/items/0").is_some() {
            having.push(service);
        }
    }
    if having.len() > 1 {
        // A bus has copies of what the services have.
        let followers = operator.get("/followers").await?;
        let is_bus = |service: &String| {
            let relays = followers["items"].as_array().into_iter().flatten();
            relays.into_iter().any(|one| one["kind"] == "relay" && one["service"] == service.as_str())
        };
        having = match having.iter().all(is_bus) {
            true => having,
            false => having.into_iter().filter(|service| !is_bus(service)).collect(),
        };
    }
    if having.len() > 1 {
        return Err(Failure::Ambiguous { id: wanted.stream.clone(), services: having });
    }
    having.pop().ok_or_else(|| Failure::NoSuchThing(format!("no service has a stream `{}`", wanted.stream)))
}

async fn tail(operator: &Operator, wanted: &Tail, json: bool) -> Result<Outcome, Failure> {
    let known = services(operator, wanted.service.as_deref()).await?;
    let [service] = &known[..] else { return Err(say_which(known.iter().map(String::as_str))) };
    tokio::select! {
        followed = follow(operator, service, wanted, json) => followed?,
        // Who has seen enough has done nothing wrong.
        _ = tokio::signal::ctrl_c() => {}
    }
    Ok(Outcome::Said)
}

/// Prints what comes. The server keeps nothing for us between two questions: whoever reads slowly asks later.
async fn follow(operator: &Operator, service: &str, wanted: &Tail, json: bool) -> Result<(), Failure> {
    let mut after = wanted.from;
    let mut left = wanted.limit.unwrap_or(u64::MAX);
    while left > 0 {
        let (position, limit) = (after.map(|after| after.to_string()), left.min(100).to_string());
        let mut query = vec![("limit", limit.as_str()), ("wait", WAIT)];
        let filters = [("category", &wanted.category), ("kind", &wanted.kind), ("tag", &wanted.tag)];
        query.extend(filters.iter().filter_map(|(name, value)| Some((*name, value.as_deref()?))));
        query.extend(position.as_deref().map(|position| ("after", position)));
        let answer = operator.get(&format!("/{}/log?{}", encoded(service), encoded_query(&query))).await?;
        let items = answer.get("items").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        after = answer.get("through").and_then(Value::as_u64);
        left -= items.len() as u64;
        let lines: String = items.iter().map(|event| line(event, json)).collect();
        if !lines.is_empty() && !print(&lines)? {
            return Ok(());
        }
    }
    Ok(())
}

fn line(event: &Value, json: bool) -> String {
    if json {
        return format!("{event}\n");
    }
    let cell = |name: &str| table::text(event.get(name).unwrap_or(&Value::Null)).unwrap_or_default();
    let [position, at, stream, version, kind, data] =
        ["position", "at", "stream", "version", "kind", "data"].map(cell);
    format!("{position:>8}  {at:<27}  {stream} {version}  {kind}  {data}\n")
}

async fn stats(operator: &Operator, wanted: &Stats) -> Result<Outcome, Failure> {
    let mut all = Vec::new();
    for service in services(operator, wanted.service.as_deref()).await? {
        all.push(of_service(&service, count(operator, &service).await?));
    }
    let mut shown = String::new();
    for one in &all {
        shown += &told(one);
    }
    Ok(Outcome::Told { said: shown, answer: json!({ "items": all }) })
}

/// Adds up the parts of a log.
async fn count(operator: &Operator, service: &str) -> Result<Value, Failure> {
    let bar = Bar::new(&format!("counting {service}"), "events");
    let mut sum = Map::new();
    let mut after = 0;
    loop {
        let part = operator.get(&format!("/{}/stats?after={after}", encoded(service))).await?;
        let number = |name| part.get(name).and_then(Value::as_u64).unwrap_or_default();
        let (through, head) = (number("through"), number("head"));
        bar.at(through, head);
        add(&mut sum, &part);
        if through >= head || through <= after {
            break;
        }
        after = through;
    }
    let rate = |name: &str, seconds: f64| {
        let count = sum.get(name).and_then(Value::as_f64).unwrap_or_default();
        json!((count / seconds * 1000.0).round() / 1000.0)
    };
    let rates = json!({ "minute": rate("minute", 60.0), "hour": rate("hour", 3600.0) });
    sum.remove("minute");
    sum.remove("hour");
    sum.insert("events_per_second".into(), rates);
    Ok(Value::Object(sum))
}

/// Numbers are added, objects member by member; of the rest, the first time is the first and the last the last.
fn add(sum: &mut Map<String, Value>, part: &Value) {
    for (name, value) in part.as_object().into_iter().flatten() {
        let known = sum.get_mut(name);
        match (known, value) {
            (_, Value::Null) => {}
            (Some(known), value) if !matches!(name.as_str(), "through" | "head") => match (known, value) {
                (Value::Object(known), value @ Value::Object(_)) => add(known, value),
                (known, Value::Number(_)) => {
                    let both = known.as_u64().unwrap_or_default() + value.as_u64().unwrap_or_default();
                    *known = both.into();
                }
                (known, value) if name == "last" => *known = value.clone(),
                _ => {}
            },
            (_, value) => drop(sum.insert(name.clone(), value.clone())),
        }
    }
}

/// The numbers of a service, the largest kinds first.
fn told(stats: &Value) -> String {
    let mut plain = stats.clone();
    let mut parts = Vec::new();
    if let Some(members) = plain.as_object_mut() {
        members.remove("through");
        for name in ["kinds", "categories"] {
            parts.push((name, members.remove(name)));
        }
        if let Some(Value::Object(rates)) = members.remove("events_per_second") {
            for (span, rate) in rates {
                members.insert(format!("events a second, last {span}"), rate);
            }
        }
    }
    let mut told = table::lines(&plain);
    for (name, counted) in parts {
        let Some(Value::Object(counted)) =
            counted.filter(|counted| counted.as_object().is_some_and(|all| !all.is_empty()))
        else {
            continue;
        };
        let mut rows: Vec<Value> = counted
            .into_iter()
            .map(|(name, mut row)| {
                if let Some(row) = row.as_object_mut() {
                    row.insert("name".into(), name.into());
                }
                row
            })
            .collect();
        rows.sort_by_key(|row| std::cmp::Reverse(row["events"].as_u64()));
        told += &format!("\n{name}\n{}", table::table(COUNTED, &rows));
    }
    told + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_added_up_and_times_are_the_first_and_the_last() {
        let mut sum = Map::new();
        add(&mut sum, &json!({"events": 2, "through": 2, "first": null, "kinds": {"a": {"events": 2}}}));
        add(
            &mut sum,
            &json!({"events": 3, "through": 5, "first": "t1", "last": "t2", "kinds": {"b": {"events": 1}}}),
        );
        add(
            &mut sum,
            &json!({"events": 1, "through": 6, "first": "t3", "last": "t4", "kinds": {"a": {"events": 1}}}),
        );
        let expected = json!({"events": 6, "through": 6, "first": "t1", "last": "t4",
            "kinds": {"a": {"events": 3}, "b": {"events": 1}}});
        assert_eq!(Value::Object(sum), expected);
    }
}
