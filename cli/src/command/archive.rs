//! `purlin streams archive`.

use std::time::{Duration, Instant};

use purlin::store::archive::Progress;
use serde_json::{Value, json};

use super::{Outcome, encoded, encoded_query, services};
use crate::arguments::Archive;
use crate::failure::Failure;
use crate::operator::Operator;
use crate::place::say_which;
use crate::progress::Bar;

/// What was done of it.
#[derive(Default)]
struct Done {
    seen: u64,
    chosen: u64,
    events: u64,
    bytes: u64,
    /// All streams that began at or before this position are done.
    through: u64,
    /// Events that are damaged and stay where they are.
    damaged: Vec<String>,
    took: Duration,
}

pub(super) async fn run(operator: &Operator, wanted: &Archive) -> Result<Outcome, Failure> {
    let known = services(operator, wanted.service.as_deref()).await?;
    let [service] = &known[..] else { return Err(say_which(known.iter().map(String::as_str))) };
    let done = archive(operator, service, wanted).await?;
    let rate = done.rate();
    let Done { seen, chosen, events, bytes, through, damaged, took } = done;
    let mut said = match wanted.dry_run {
        true => format!(
            "{chosen} of {seen} streams would be archived: they have {events} events before their last ones, those that \
             are archived already included"
        ),
        false => format!(
            "{chosen} of {seen} streams are archived: {events} events with {bytes} bytes of data were moved, {rate:.0} a \
             second"
        ),
    };
    said += &format!("; all that began at or before position {through} are done");
    for damaged in &damaged {
        said +=
            &format!("\n{damaged} is damaged: it stays where it is, with what comes behind it in its stream");
    }
    let answer = json!({
        "service": service,
        "category": wanted.category,
        "dry_run": wanted.dry_run,
        "seen": seen,
        "chosen": chosen,
        "events": events,
        "bytes": bytes,
        "through": through,
        "damaged": damaged,
        "seconds": took.as_secs_f64(),
        "events_per_second": rate,
    });
    Ok(Outcome::Done { said, answer })
}

/// Asks for part after part, until the streams are done that there were when it began.
async fn archive(operator: &Operator, service: &str, wanted: &Archive) -> Result<Done, Failure> {
    let bar = Bar::told(&format!("archiving {service}"), "positions");
    let began = Instant::now();
    let (mut after, mut end) = (wanted.after.unwrap_or(0), None);
    let mut done = Done { through: after, ..Done::default() };
    let (idle, kinds) = (wanted.idle_for.to_string(), wanted.ended_by.join(","));
    loop {
        let from = after.to_string();
        let mut query = vec![("category", wanted.category.as_str()), ("idle", &idle), ("after", &from)];
        query.extend(wanted.tenant.as_deref().map(|tenant| ("tenant", tenant)));
        query.extend((!kinds.is_empty()).then_some(("ended_by", kinds.as_str())));
        query.extend(wanted.dry_run.then_some(("dry_run", "true")));
        let path = format!("/{}/archive?{}", encoded(service), encoded_query(&query));
        let part = operator.post_patiently(&path).await.map_err(|failure| done.failed(&failure))?;
        done.add(&part);
        done.took = began.elapsed();
        let number = |name: &str| part.get(name).and_then(Value::as_u64).unwrap_or_default();
        let end = *end.get_or_insert_with(|| number("of"));
        bar.at(number("through"), end);
        bar.say(format!(", {} events moved, {:.0} a second", done.events, done.rate()));
        if number("through") >= end || (number("through") <= after && number("events") == 0) {
            return Ok(done);
        }
        after = number("through");
    }
}

impl Done {
    fn add(&mut self, part: &Value) {
        let number = |name: &str| part.get(name).and_then(Value::as_u64).unwrap_or_default();
        self.seen += number("seen");
        self.chosen += number("chosen");
        self.events += number("events");
        self.bytes += number("bytes");
        self.through = self.through.max(number("through"));
        let damaged = part.get("damaged").and_then(Value::as_array).into_iter().flatten();
        for damaged in damaged.filter_map(Value::as_str) {
            if self.damaged.len() < Progress::DAMAGED && !self.damaged.iter().any(|named| named == damaged) {
                self.damaged.push(damaged.to_owned());
            }
        }
    }

    /// The failure, with how far it came before: who asks again goes on from there.
    fn failed(&mut self, failure: &Failure) -> Failure {
        if let Failure::Halfway { progress, .. } = failure {
            self.add(progress);
        }
        let Self { events, through, .. } = self;
        let said = format!(
            "{}; {events} events were moved before, and all streams that began at or before position {through} are done: \
             go on with --after {through}",
            failure.told()
        );
        Failure::Halfway { said, progress: json!({ "events": events, "through": through }) }
    }

    /// Events a second.
    fn rate(&self) -> f64 {
        #[expect(clippy::cast_precision_loss, reason = "it is shown to a person")]
        let events = self.events as f64;
        let seconds = self.took.as_secs_f64();
        if seconds > 0.0 { (events / seconds).round() } else { 0.0 }
    }
}
