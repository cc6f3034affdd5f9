//! `purlin streams audit`.

use std::time::{Duration, Instant};

use purlin::store::audit::{Audit, Finding, Report};
use purlin::store::{Position, Store};
use serde_json::{Value, json};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::oneshot;

use super::store::refused;
use super::{Outcome, services};
use crate::arguments;
use crate::failure::Failure;
use crate::operator::Operator;
use crate::place::{Place, say_which};
use crate::progress::Bar;

/// Signals that come so soon one after the other are one: `timeout` sends two.
const ONCE: Duration = Duration::from_secs(1);

/// What ends a program that is asked to end.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
    /// When one was last received.
    last: Option<Instant>,
}

/// What became of it.
struct Done {
    report: Report,
    /// How many times it was looked back; none when it was ended before it had come to its end.
    looks: Option<u64>,
    took: Duration,
}

pub(super) async fn run(place: Place, wanted: &arguments::Audit) -> Result<Outcome, Failure> {
    match place {
        Place::Database { url, service } => {
            let service = wanted.service.clone().or(service);
            let operator = Operator::reach(&Place::Database { url, service: service.clone() }).await?;
            let audited = in_database(&operator, service.as_deref(), wanted).await;
            operator.close().await;
            audited
        }
        place => in_file(&place, wanted).await,
    }
}

/// Reads beside the processes that use the database.
async fn in_database(
    operator: &Operator,
    service: Option<&str>,
    wanted: &arguments::Audit,
) -> Result<Outcome, Failure> {
    let known = services(operator, service).await?;
    let [service] = &known[..] else { return Err(say_which(known.iter().map(String::as_str))) };
    let served = operator.stores().iter().find(|served| served.name == *service);
    let served = served.ok_or_else(|| Failure::NoSuchThing(format!("there is no store of `{service}`")))?;
    audit(&served.store, service, wanted).await
}

/// Reads the file itself, beside the process that has the store open.
async fn in_file(place: &Place, wanted: &arguments::Audit) -> Result<Outcome, Failure> {
    let (file, archive) = match place.clone().of(wanted.service.as_deref()) {
        Ok(Place::File(file, archive)) if file.is_file() => (file, archive),
        Err(Failure::NoData(_)) | Ok(Place::File(..))
            if matches!(place.clone().of(None), Err(Failure::NoData(_)))
                && matches!(Operator::reach(place).await, Ok(Operator::Process(_))) =>
        {
            let said = format!("the process on `{place}` has its stores elsewhere: name them with --store");
            return Err(Failure::Refused(said));
        }
        Ok(Place::File(file, _)) => {
            return Err(Failure::NoSuchThing(format!("there is no store `{}`", file.display())));
        }
        Ok(one) => return Err(Failure::Refused(format!("`{one}` is not the place of one store"))),
        Err(error) => return Err(error),
    };
    let opened = purlin_sqlite::open_beside(&file, archive).await;
    let store = opened.map_err(|error| Failure::Open { path: file.clone(), source: error.into() })?;
    let name = file.file_stem().unwrap_or_default().to_string_lossy();
    let audited = audit(&store, &name, wanted).await;
    store.close().await;
    audited
}

async fn audit(store: &Store, service: &str, wanted: &arguments::Audit) -> Result<Outcome, Failure> {
    let head = store.head();
    let after = if wanted.now { head } else { Position(wanted.from) };
    if after > head {
        return Err(Failure::Refused(format!("the log has only reached {head}, not {after}")));
    }
    if wanted.now && !wanted.follow && wanted.seconds.is_none() {
        return Err(Failure::Usage("nothing has come yet: say --follow, or --seconds".to_owned()));
    }
    let signals = Signals::new()?;
    let Done { report, looks, took } = follow(store, (service, after), wanted, signals).await?;
    let Report { events, streams, through, found, .. } = &report;
    let read = format!(
        "{service}: {events} events of {streams} streams behind position {after} and up to {through}, read in {:.1} s",
        took.as_secs_f64()
    );
    let looked = match looks {
        Some(looks) => format!("what was read was read again {looks} times"),
        None => "ended before its end: what was read was not all read again".to_owned(),
    };
    let mut said = match found {
        0 => format!("{read}: no gap, nothing out of order; {looked}"),
        found => format!("{read}; faults: {found}; {looked}"),
    };
    for finding in &report.findings {
        said += &format!("\n  {finding}");
    }
    if *found > report.findings.len() as u64 {
        said += &format!("\n  and {} more", found - report.findings.len() as u64);
    }
    let answer = json!({
        "service": service,
        "log": report.log.log,
        "incarnation": report.log.incarnation,
        "after": after,
        "through": through,
        "events": events,
        "streams": streams,
        "complete": looks.is_some(),
        "looks": looks,
        "found": found,
        "findings": report.findings.iter().map(described).collect::<Vec<_>>(),
        "seconds": took.as_secs_f64(),
    });
    // Of a part that is sound nothing follows for the whole.
    Ok(Outcome::Judged { said, answer, is_sound: report.is_clean() && looks.is_some() })
}

fn described(finding: &Finding) -> Value {
    json!({
        "position": finding.position,
        "stream": finding.stream.as_ref().map(ToString::to_string),
        "what": finding.damage.to_string(),
    })
}

/// Follows the log as long as is wanted. What is wrong is told as soon as it is seen.
async fn follow(
    store: &Store,
    (service, after): (&str, Position),
    wanted: &arguments::Audit,
    mut signals: Signals,
) -> Result<Done, Failure> {
    let bar = Bar::new(&format!("auditing {service}"), "events");
    let (began, audit) = (Instant::now(), Audit::default());
    let (ending, ended) = oneshot::channel();
    let until = async {
        let time = wanted.seconds.map(Duration::from_secs);
        match (time, wanted.follow) {
            (Some(time), _) => drop(tokio::time::timeout(time, signals.received()).await),
            (None, true) => signals.received().await,
            (None, false) => {}
        }
        bar.say("(ctrl-c ends at once)".to_owned());
        let _ = ending.send(signals);
    };
    // To its end, and once more: who asks again does not want to wait for that.
    let at_once = async {
        match ended.await {
            Ok(mut signals) => signals.received_again().await,
            Err(_) => std::future::pending().await,
        }
    };
    if wanted.follow || wanted.seconds.is_some() {
        bar.tell(&format!("following the log of {service} behind position {after}; ctrl-c ends it"));
    }
    let (mut last, mut told) = (None, 0);
    let heard = |report: &Report| {
        bar.at(report.through.0, store.head().0);
        report.findings[told..].iter().for_each(|finding| bar.tell(&finding.to_string()));
        told = report.findings.len();
        last = Some(report.clone());
    };
    let followed = tokio::select! {
        followed = audit.follow(store, after, until, heard) => Some(followed),
        () = at_once => None,
    };
    let took = began.elapsed();
    match (followed, last) {
        (Some(Ok(followed)), _) => Ok(Done { report: followed.report, looks: Some(followed.looks), took }),
        (Some(Err(error)), last) => {
            let read = last.map_or(after, |report| report.through);
            Err(refused(&format!("the log of {service} cannot be read behind {read}"), &error))
        }
        (None, Some(report)) => Ok(Done { report, looks: None, took }),
        (None, None) => Err(Failure::Refused("it was ended before anything was read".to_owned())),
    }
}

impl Signals {
    fn new() -> Result<Self, Failure> {
        let listen = |kind| {
            signal(kind).map_err(|error| Failure::Refused(format!("no signal can be waited for: {error}")))
        };
        let (interrupt, terminate) = (listen(SignalKind::interrupt())?, listen(SignalKind::terminate())?);
        Ok(Self { interrupt, terminate, last: None })
    }

    async fn received(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
        self.last = Some(Instant::now());
    }

    /// Whether it was received before or not: another time than that.
    async fn received_again(&mut self) {
        let before = self.last;
        loop {
            self.received().await;
            if is_another(before, Instant::now()) {
                return;
            }
        }
    }
}

/// Whether a signal says something else than the one before it.
fn is_another(before: Option<Instant>, now: Instant) -> bool {
    before.is_none_or(|before| now.duration_since(before) > ONCE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_signals_at_once_are_one() {
        let now = Instant::now();
        assert!(is_another(None, now));
        assert!(!is_another(Some(now), now + ONCE / 2));
        assert!(is_another(Some(now), now + 2 * ONCE));
    }
}
