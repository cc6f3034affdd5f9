//! One log line.

use std::collections::BTreeMap;
use std::fmt::{self, Write};

use serde::Serialize;
use serde_json::Value;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields, FormattedFields};
use tracing_subscriber::registry::LookupSpan;

use crate::message::Clock;
use crate::telemetry::{self, service};

use super::Format;

/// Formats events, with what the running task knows.
pub(super) struct Line {
    pub(super) format: Format,
    pub(super) clock: Clock,
}

impl<S, N> FormatEvent<S, N> for Line
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, ctx: &FmtContext<'_, S, N>, out: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let mut said = Said::default();
        event.record(&mut said);
        let spans = spans(ctx);
        match self.format {
            Format::Text => self.text(out, event, &said, &spans),
            Format::Json => self.json(out, event, &said, &spans),
        }
    }
}

impl Line {
    fn text(&self, mut out: Writer<'_>, event: &Event<'_>, said: &Said, spans: &[String]) -> fmt::Result {
        write!(out, "{:.6} ", self.clock.now())?;
        level(&mut out, *event.metadata().level())?;
        if let Some(service) = service::current() {
            write!(out, " {service}")?;
        }
        write!(out, " {}: {}", said.target(event), Plain(&said.message))?;
        for (name, value) in &said.fields {
            match value {
                Value::String(text) if text.contains([' ', '"', '=']) => {
                    write!(out, " {name}={}", Plain(&value.to_string()))?;
                }
                Value::String(text) => write!(out, " {name}={}", Plain(text))?,
                other => write!(out, " {name}={other}")?,
            }
        }
        if !spans.is_empty() {
            write!(out, " in {}", Plain(&spans.join(":")))?;
        }
        if let Some(trace) = telemetry::current() {
            write!(out, " trace={:032x}", trace.trace_id)?;
        }
        writeln!(out)
    }

    fn json(&self, mut out: Writer<'_>, event: &Event<'_>, said: &Said, spans: &[String]) -> fmt::Result {
        let (trace, service) = (telemetry::current(), service::current());
        let line = JsonLine {
            time: format!("{:.6}", self.clock.now()),
            level: event.metadata().level().as_str(),
            target: said.target(event),
            service: service.as_deref(),
            trace_id: trace.map(|trace| trace.trace_id_hex()),
            span_id: trace.map(|trace| format!("{:016x}", trace.span_id)),
            message: &said.message,
            fields: said.fields.iter().map(|(name, value)| (*name, value)).collect(),
            spans,
        };
        writeln!(out, "{}", serde_json::to_string(&line).map_err(|_| fmt::Error)?)
    }
}

#[derive(Serialize)]
struct JsonLine<'a> {
    time: String,
    level: &'a str,
    target: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    service: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    trace_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    span_id: Option<String>,
    message: &'a str,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    fields: BTreeMap<&'a str, &'a Value>,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    spans: &'a [String],
}

fn level(out: &mut Writer<'_>, level: Level) -> fmt::Result {
    if !out.has_ansi_escapes() {
        return write!(out, "{level:>5}");
    }
    let colour = match level {
        Level::ERROR => 31,
        Level::WARN => 33,
        Level::INFO => 32,
        _ => 34,
    };
    write!(out, "\u{1b}[{colour}m{level:>5}\u{1b}[0m")
}

/// The spans that the event is in, outermost first, each `name{fields}`.
fn spans<S, N>(ctx: &FmtContext<'_, S, N>) -> Vec<String>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    let scope = ctx.event_scope().into_iter().flat_map(|scope| scope.from_root());
    scope
        .map(|span| match span.extensions().get::<FormattedFields<N>>() {
            Some(fields) if !fields.is_empty() => format!("{}{{{fields}}}", span.name()),
            _ => span.name().to_owned(),
        })
        .collect()
}

/// What an event says.
#[derive(Default)]
struct Said {
    message: String,
    /// The target of a record that came through the `log` crate.
    logged_by: Option<String>,
    fields: Vec<(&'static str, Value)>,
}

impl Said {
    fn target<'a>(&'a self, event: &'a Event<'_>) -> &'a str {
        self.logged_by.as_deref().unwrap_or_else(|| event.metadata().target())
    }

    fn put(&mut self, field: &Field, value: Value) {
        match (field.name(), value) {
            ("message", Value::String(text)) => self.message = text,
            ("log.target", Value::String(target)) => self.logged_by = Some(target),
            (name, _) if name.starts_with("log.") => {}
            (name, value) => self.fields.push((name, value)),
        }
    }
}

impl Visit for Said {
    fn record_f64(&mut self, field: &Field, value: f64) {
        self.put(field, value.into());
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field, value.into());
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field, value.into());
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field, value.into());
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field, value.into());
    }

    /// An error is written with all that caused it.
    fn record_error(&mut self, field: &Field, value: &(dyn std::error::Error + 'static)) {
        let mut text = value.to_string();
        let mut cause = value.source();
        while let Some(error) = cause {
            let _ = write!(text, ": {error}");
            cause = error.source();
        }
        self.put(field, text.into());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.put(field, format!("{value:?}").into());
    }
}

/// Text with its control characters escaped: what comes from outside must not make lines or move a cursor.
struct Plain<'a>(&'a str);

impl fmt::Display for Plain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rest = self.0;
        while let Some(at) = rest.find(char::is_control) {
            let control = rest[at..].chars().next().expect("a character was found here");
            write!(f, "{}{}", &rest[..at], control.escape_default())?;
            rest = &rest[at + control.len_utf8()..];
        }
        f.write_str(rest)
    }
}
