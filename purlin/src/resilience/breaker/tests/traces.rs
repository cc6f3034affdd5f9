//! What the log says of a breaker.

use std::fmt;
use std::sync::{Arc, Mutex};

use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

use super::*;

/// Keeps what is said at the level of information and above, with the span that it is said in.
#[derive(Default, Clone)]
struct Said {
    lines: Arc<Mutex<Vec<(Level, String)>>>,
    span: Arc<Mutex<Option<&'static str>>>,
}

impl Subscriber for Said {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() <= Level::INFO
    }

    fn new_span(&self, span: &Attributes<'_>) -> Id {
        *self.span.lock().unwrap() = Some(span.metadata().name());
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut line = format!("{}:", self.span.lock().unwrap().unwrap_or("nowhere"));
        event.record(&mut Line(&mut line));
        self.lines.lock().unwrap().push((*event.metadata().level(), line));
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

struct Line<'a>(&'a mut String);

impl Visit for Line<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.0.push_str(&format!(" {}={value:?}", field.name()));
    }
}

#[test]
fn each_change_is_in_the_trace_of_the_call_that_made_it() {
    let said = Said::default();
    let changes = || {
        let _checkout = tracing::info_span!("checkout").entered();
        let (breaker, now) = (Breaker::new("payments", config()), Instant::now());
        trip(&breaker, now);
        let later = now + breaker.config().timeout;
        for _ in 0..3 {
            breaker.admit(later).unwrap().succeeded();
        }
        breaker.force_by(Some(Forced::Open), Operator::new("ann", "they move"));
    };
    // A line that is logged for the first time by a test beside this one, just now, could be taken for one to which nobody
    // listens.
    changes();
    tracing::subscriber::with_default(said.clone(), changes);
    let expected = [
        (Level::WARN, "opened", "3 calls failed"),
        (Level::INFO, "lets probes through", "its time is over"),
        (Level::INFO, "closed", "enough probes succeeded"),
        (Level::WARN, "opened", "ann: they move"),
    ];
    let lines = said.lines.lock().unwrap();
    assert_eq!(lines.len(), expected.len(), "{lines:?}");
    for ((level, line), (expected, change, reason)) in lines.iter().zip(expected) {
        assert_eq!(*level, expected, "{line}");
        let of =
            [format!("the circuit breaker {change}"), format!("reason={reason}"), "callee=payments".into()];
        assert!(line.starts_with("checkout:") && of.iter().all(|part| line.contains(part)), "{line}");
    }
}
