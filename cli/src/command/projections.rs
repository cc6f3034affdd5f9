//! `purlin projections`.

use std::io::IsTerminal as _;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::{Instant, interval};

use super::{Outcome, act, encoded, find, list, of_service, path};
use crate::arguments::{Paging, Parked, ParkedEvent, Projections, Rebuild, View};
use crate::failure::Failure;
use crate::operator::Operator;
use crate::progress::Bar;
use crate::table::Column;

const SUBJECT: &str = "projections";

const COLUMNS: &[Column] = &[
    ("SERVICE", &["/service"]),
    ("NAME", &["/name"]),
    ("VERSION", &["/version"]),
    ("STATE", &["/state"]),
    ("MODE", &["/mode"]),
    ("POSITION", &["/position"]),
    ("LAG", &["/lag"]),
    ("SECONDS", &["/lag_seconds"]),
    ("PARKED", &["/parked"]),
    ("REBUILT", &["/rebuild/progress"]),
    ("STOPPED", &["/stopped/reason"]),
];

const PARKED: &[Column] = &[
    ("POSITION", &["/position"]),
    ("KEY", &["/key"]),
    ("STATE", &["/state"]),
    ("KIND", &["/kind"]),
    ("ATTEMPTS", &["/attempts"]),
    ("PARKED", &["/parked_at"]),
    ("REASON", &["/reason"]),
];

/// How often a rebuild is asked how far it is.
const LOOK: Duration = Duration::from_millis(250);

/// A rebuild that has not moved for so long is not waited for any longer.
const STILL: Duration = Duration::from_secs(30);

pub(super) async fn run(operator: &Operator, command: &Projections, json: bool) -> Result<Outcome, Failure> {
    match command {
        Projections::List { page } => {
            let (mut items, more) = list(operator, SUBJECT, &[], page, None).await?;
            items.iter_mut().for_each(round);
            Ok(Outcome::List { columns: COLUMNS, items, none: "there is no projection", more })
        }
        Projections::Show(view) => {
            let (_, mut value) = find(operator, SUBJECT, &view.one()).await?;
            round(&mut value);
            Ok(Outcome::One { value, part: None })
        }
        Projections::Rebuild(wanted) => rebuild(operator, wanted, json).await,
        Projections::Cancel(view) => done(operator, view, "cancel", "its rebuild is called off").await,
        Projections::Pause(view) => done(operator, view, "pause", "it stands still").await,
        Projections::Resume(view) => done(operator, view, "resume", "it goes on").await,
        Projections::Parked(wanted) => parked(operator, wanted).await,
        Projections::Retry(event) => {
            done_with(operator, event, "retry", "the parked events of its key are folded again, in order")
                .await
        }
        Projections::Drop(event) => {
            done_with(operator, event, "drop", "the event is left out of the rows for good").await
        }
    }
}

async fn done(operator: &Operator, view: &View, verb: &str, what: &str) -> Result<Outcome, Failure> {
    let (service, answer) = act(operator, SUBJECT, &view.one(), verb).await?;
    Ok(Outcome::Done { said: format!("`{}` of {service}: {what}", view.name), answer })
}

async fn done_with(
    operator: &Operator,
    event: &ParkedEvent,
    verb: &str,
    what: &str,
) -> Result<Outcome, Failure> {
    let ParkedEvent { view, position } = event;
    let (service, answer) = act(operator, SUBJECT, &view.one(), &format!("parked/{position}/{verb}")).await?;
    Ok(Outcome::Done { said: format!("{position} in `{}` of {service}: {what}", view.name), answer })
}

async fn parked(operator: &Operator, wanted: &Parked) -> Result<Outcome, Failure> {
    let name = &wanted.view.name;
    let (service, _) = find(operator, SUBJECT, &wanted.view.one()).await?;
    let page = Paging { service: Some(service), limit: wanted.limit };
    let (items, more) =
        list(operator, &format!("{SUBJECT}/{}/parked", encoded(name)), &[], &page, None).await?;
    Ok(Outcome::List { columns: PARKED, items, none: "no event is parked", more })
}

async fn rebuild(operator: &Operator, wanted: &Rebuild, json: bool) -> Result<Outcome, Failure> {
    let view = &wanted.view;
    let (service, answer) = act(operator, SUBJECT, &view.one(), "rebuild").await?;
    let name = format!("`{}` of {service}", view.name);
    if operator.alone() {
        let said = format!("{name} is built anew when its process is started");
        return Ok(Outcome::Done { said, answer });
    }
    let waits = wanted.wait || !(wanted.no_wait || json) && std::io::stderr().is_terminal();
    if !waits {
        let said = format!("{name} is built anew beside its live rows");
        return Ok(Outcome::Done { said, answer });
    }
    tokio::select! {
        ended = until_built(operator, &service, &view.name) => {
            let answer = ended?;
            let (state, position) = (answer["state"].as_str().unwrap_or("?"), &answer["position"]);
            let said = format!("the rebuild of {name} has ended: it is {state}, at {position}");
            Ok(Outcome::Done { said, answer })
        }
        // It was asked for, and is done whether somebody looks or not.
        _ = tokio::signal::ctrl_c() => {
            let said = format!("the rebuild of {name} goes on; `purlin projections cancel` calls it off");
            Ok(Outcome::Done { said, answer })
        }
    }
}

/// Shows how far a rebuild is until there is none any more; gives the projection as it is then.
async fn until_built(operator: &Operator, service: &str, name: &str) -> Result<Value, Failure> {
    let bar = Bar::told(&format!("building {name}"), "positions");
    let (mut looks, mut before, mut moved) = (interval(LOOK), Value::Null, Instant::now());
    loop {
        looks.tick().await;
        let mut status = operator.get(&path(service, SUBJECT, name)).await?;
        let rebuild = &status["rebuild"];
        if rebuild.is_null() {
            round(&mut status);
            return Ok(of_service(service, status));
        }
        let position = rebuild["position"].as_u64().unwrap_or_default();
        let head = rebuild["head"].as_u64().unwrap_or_default();
        bar.at(position, head);
        bar.say(pace(rebuild));
        if rebuild["position"] != before {
            (before, moved) = (rebuild["position"].clone(), Instant::now());
        }
        let wants = "its rebuild is asked for, and begins or goes on by itself when that is done";
        if status["state"] == "paused" {
            return Err(Failure::Refused(format!(
                "`{name}` is paused: let it go on with `purlin projections resume {name}`; {wants}"
            )));
        }
        if moved.elapsed() > STILL {
            let why = status["stopped"]["reason"].as_str();
            let why =
                why.map_or_else(String::new, |reason| format!(", as it cannot fold an event ({reason})"));
            return Err(Failure::Refused(format!(
                "`{name}` stands at {position} of {head} for {} s{why}: see whether its process runs it; {wants}",
                STILL.as_secs()
            )));
        }
    }
}

/// How fast a rebuild is, and how long it will take yet, to be said behind how far it is.
fn pace(rebuild: &Value) -> String {
    let rate = rebuild["rate"].as_f64().filter(|rate| *rate > 0.0);
    let left = rebuild["seconds_left"].as_f64().and_then(|left| Duration::try_from_secs_f64(left).ok());
    match (rate, left) {
        (Some(rate), Some(left)) => format!(", {rate:.0}/s, {} left", indicatif::HumanDuration(left)),
        (Some(rate), None) => format!(", {rate:.0}/s"),
        (None, _) => String::new(),
    }
}

/// Seconds, shares and rates to three digits behind the point.
fn round(status: &mut Value) {
    match status {
        Value::Object(members) => members.values_mut().for_each(round),
        Value::Number(number) if number.is_f64() => {
            if let Some(exact) = number.as_f64() {
                *status = json!((exact * 1000.0).round() / 1000.0);
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rebuild_says_how_fast_it_is_and_how_long_it_will_take_as_soon_as_it_knows() {
        assert_eq!(pace(&json!({"rate": 0.0, "seconds_left": null})), "");
        assert_eq!(pace(&json!({"rate": 2499.6, "seconds_left": 180.2})), ", 2500/s, 3 minutes left");
        assert_eq!(pace(&json!({"rate": 1e-9, "seconds_left": 1e30})), ", 0/s");
    }

    #[test]
    fn numbers_are_rounded_wherever_they_stand_and_positions_are_not() {
        let mut status = json!({"position": 9_007_199_254_740_993_u64, "lag_seconds": 0.123456,
            "rebuild": {"progress": 0.66666}});
        round(&mut status);
        let expected = json!({"position": 9_007_199_254_740_993_u64, "lag_seconds": 0.123,
            "rebuild": {"progress": 0.667}});
        assert_eq!(status, expected);
    }
}
