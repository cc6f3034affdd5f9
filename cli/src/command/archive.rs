//! `purlin streams archive`.

use std::time::{Duration, Instant};

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
    took: Duration,
}

pub(super) async fn run(operator: &Operator, wanted: &Archive) -> Result<Outcome, Failure> {
    let known = services(operator, wanted.service.as_deref()).await?;
    let [service] = &known[..] else { return Err(say_which(known.iter().map(String::as_str))) };
    let done = archive(operator, service, wanted).await?;
    let Done { seen, chosen, events, bytes, took } = done;
    let rate = done.rate();
    let said = match wanted.dry_run {
        true => format!(
            "{chosen} of {seen} streams would be archived: they have {events} events before their last ones, those that \
             are archived already included"
        ),
        false => format!(
            "{chosen} of {seen} streams are archived: {events} events with {bytes} bytes of data were moved, {rate:.0} a \
             second"
        ),
    };
    let answer = json!({
        "service": service,
        "category": wanted.category,
        "dry_run": wanted.dry_run,
        "seen": seen,
        "chosen": chosen,
        "events": events,
        "bytes": bytes,
        "seconds": took.as_secs_f64(),
        "events_per_second": rate,
    });
    Ok(Outcome::Done { said, answer })
}

/// Asks for part after part, until the streams are done that there were when it began.
async fn archive(operator: &Operator, service: &str, wanted: &Archive) -> Result<Done, Failure> {
    let bar = Bar::told(&format!("archiving {service}"), "positions");
    let began = Instant::now();
    let (mut done, mut after, mut end) = (Done::default(), wanted.after.unwrap_or(0), None);
    let (idle, kinds) = (wanted.idle_for.to_string(), wanted.ended_by.join(","));
    loop {
        let from = after.to_string();
        let mut query = vec![("category", wanted.category.as_str()), ("idle", &idle), ("after", &from)];
        query.extend(wanted.tenant.as_deref().map(|tenant| ("tenant", tenant)));
        query.extend((!kinds.is_empty()).then_some(("ended_by", kinds.as_str())));
        query.extend(wanted.dry_run.then_some(("dry_run", "true")));
        let path = format!("/{}/archive?{}", encoded(service), encoded_query(&query));
        let part = operator.post_patiently(&path).await?;
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
    }

    /// Events a second.
    fn rate(&self) -> f64 {
        #[expect(clippy::cast_precision_loss, reason = "it is shown to a person")]
        let events = self.events as f64;
        let seconds = self.took.as_secs_f64();
        if seconds > 0.0 { (events / seconds).round() } else { 0.0 }
    }
}
