//! Log lines on stderr, as text for people or as JSON for machines.
//!
//! Every line bears the service and the trace of the task that wrote it, so that one trace id finds all that
//! was said about an order, whichever services it went through.

mod line;

use std::io::IsTerminal;
use std::str::FromStr;

use tracing::Subscriber;
use tracing_subscriber::filter::{ParseError, Targets};
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::{Layer, SubscriberExt};
use tracing_subscriber::util::{SubscriberInitExt, TryInitError};

use crate::message::Clock;

use line::Line;

/// How a log line is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Format {
    /// One line of text, for people.
    #[default]
    Text,
    /// One JSON object a line: `time`, `level`, `target`, `service`, `trace_id`, `span_id`, `message`,
    /// `fields`.
    Json,
}

impl FromStr for Format {
    type Err = UnknownFormat;

    fn from_str(text: &str) -> Result<Self, UnknownFormat> {
        match text {
            "text" => Ok(Self::Text),
            "json" => Ok(Self::Json),
            other => Err(UnknownFormat(other.to_owned())),
        }
    }
}

/// The text names no log format.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a log format: `text` or `json`")]
pub struct UnknownFormat(String);

/// Starts logging to stderr for the whole process, `log` records of other crates included.
///
/// `filter` is a level, then levels of targets: `info,purlin=debug,hyper=off`.
pub fn init(format: Format, filter: &str) -> Result<(), InitError> {
    let targets = parse(filter)?;
    let ansi = format == Format::Text && std::io::stderr().is_terminal();
    subscriber(format, targets, ansi, Clock::system(), std::io::stderr).try_init().map_err(InitError::Started)
}

/// Logging could not be started.
#[derive(Debug, thiserror::Error)]
pub enum InitError {
    /// The filter cannot be read.
    #[error("`{filter}` is not a log filter such as `info,purlin=debug`")]
    Filter {
        /// What was given.
        filter: String,
        /// Which part of it cannot be read.
        #[source]
        source: ParseError,
    },
    /// Somebody has started it already.
    #[error("logging has been started before")]
    Started(#[source] TryInitError),
}

fn parse(filter: &str) -> Result<Targets, InitError> {
    filter.parse().map_err(|source| InitError::Filter { filter: filter.to_owned(), source })
}

fn subscriber<W>(
    format: Format,
    filter: Targets,
    ansi: bool,
    clock: Clock,
    writer: W,
) -> impl Subscriber + Send + Sync
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let lines = tracing_subscriber::fmt::layer()
        .with_ansi(ansi)
        .with_writer(writer)
        .event_format(Line { format, clock });
    tracing_subscriber::registry().with(lines.with_filter(filter))
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use serde_json::Value;

    use crate::message::{Timestamp, TraceContext};
    use crate::telemetry::{in_trace, service};

    use super::*;

    #[derive(Clone, Default)]
    struct Sink(Arc<Mutex<Vec<u8>>>);

    impl std::io::Write for Sink {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    /// The lines that `work` logs.
    fn logged<T>(format: Format, filter: &str, work: impl Future<Output = T>) -> Vec<String> {
        let sink = Sink::default();
        let writer = sink.clone();
        let (clock, _) = Clock::manual(Timestamp::UNIX_EPOCH);
        let subscriber = subscriber(format, parse(filter).unwrap(), false, clock, move || writer.clone());
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        tracing::subscriber::with_default(subscriber, || runtime.block_on(work));
        let text = String::from_utf8(sink.0.lock().unwrap().clone()).unwrap();
        text.lines().map(str::to_owned).collect()
    }

    fn trace() -> TraceContext {
        "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01".parse().unwrap()
    }

    #[test]
    fn a_line_made_inside_a_trace_bears_it_and_the_service() {
        let work = || {
            service::within(
                "orders",
                in_trace(trace(), async {
                    let span = tracing::info_span!("submit", order = 7);
                    let _entered = span.enter();
                    tracing::info!(items = 2, user = "ann b", error = ?Some(1), "an order was submitted");
                }),
            )
        };
        let text = logged(Format::Text, "info", work());
        assert_eq!(
            text,
            [
                "1970-01-01T00:00:00.000000Z  INFO orders purlin::telemetry::logs::tests: an order was submitted \
              items=2 user=\"ann b\" error=Some(1) in submit{order=7} trace=4bf92f3577b34da6a3ce929d0e0e4736"
            ]
        );
        let json: Value = serde_json::from_str(&logged(Format::Json, "info", work())[0]).unwrap();
        assert_eq!(
            json,
            serde_json::json!({
                "time": "1970-01-01T00:00:00.000000Z", "level": "INFO", "target": "purlin::telemetry::logs::tests",
                "service": "orders", "trace_id": "4bf92f3577b34da6a3ce929d0e0e4736",
                "span_id": "00f067aa0ba902b7", "message": "an order was submitted",
                "fields": {"items": 2, "user": "ann b", "error": "Some(1)"}, "spans": ["submit{order=7}"],
            })
        );
    }

    #[test]
    fn a_line_made_outside_of_a_trace_has_neither() {
        let json: Value =
            serde_json::from_str(&logged(Format::Json, "info", async { tracing::info!("started") })[0])
                .unwrap();
        let keys: Vec<_> = json.as_object().unwrap().keys().collect();
        assert_eq!(keys, ["level", "message", "target", "time"]);
    }

    #[test]
    fn what_is_logged_cannot_forge_a_line() {
        for format in [Format::Text, Format::Json] {
            let lines = logged(format, "info", async {
                tracing::info!(name = "a\nb\u{1b}[31m", "one\r\ntwo");
            });
            assert_eq!(lines.len(), 1, "{lines:?}");
            assert!(!lines[0].contains(char::is_control), "{lines:?}");
        }
    }

    #[test]
    fn the_filter_sets_levels_by_target() {
        let work = || async {
            tracing::debug!(target: "purlin::bus", "seen");
            tracing::debug!(target: "hyper", "not seen");
            tracing::warn!(target: "hyper", "seen");
        };
        assert_eq!(logged(Format::Text, "info,purlin=debug", work()).len(), 2);
        assert_eq!(logged(Format::Text, "off,purlin=debug", work()).len(), 1);
        let error = parse("info,purlin=loud").unwrap_err();
        assert!(matches!(error, InitError::Filter { .. }), "{error}");
    }
}
