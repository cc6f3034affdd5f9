//! Numbers about what happened: counters, gauges and histograms, written as Prometheus text.
//!
//! A room registers what it counts, by name and names of labels, and keeps the [`Family`]. Registering a name
//! again gives the same family, so that services in one process share it and tell themselves apart by a
//! label.

mod family;

use std::any::Any;
use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::{Metric, Registry};

pub use family::Family;
pub use prometheus_client::metrics::counter::Counter;
pub use prometheus_client::metrics::gauge::Gauge;
pub use prometheus_client::metrics::histogram::Histogram;

/// The `Content-Type` of what [`Metrics::render`] writes.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Bounds of buckets for durations in seconds, from half a millisecond to 30 s.
pub const SECONDS: &[f64] =
    &[0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0];

/// All metrics of a process; cheap to clone.
#[derive(Clone, Default)]
pub struct Metrics {
    known: Arc<Mutex<Known>>,
}

#[derive(Default)]
struct Known {
    registry: Registry,
    families: HashMap<String, Box<dyn Any + Send>>,
}

impl Metrics {
    /// Without any metric.
    pub fn new() -> Self {
        Self::default()
    }

    /// What only grows. The name is given without `_total`, which is added when it is written.
    pub fn counter<const N: usize>(
        &self,
        name: &str,
        help: &str,
        labels: [&'static str; N],
    ) -> Family<Counter, N> {
        self.family(name.trim_end_matches("_total"), help, labels, Counter::default)
    }

    /// What goes up and down.
    pub fn gauge<const N: usize>(
        &self,
        name: &str,
        help: &str,
        labels: [&'static str; N],
    ) -> Family<Gauge, N> {
        self.family(name, help, labels, Gauge::default)
    }

    /// How values are spread over buckets, whose upper bounds are given in ascending order (see [`SECONDS`]).
    pub fn histogram<const N: usize>(
        &self,
        name: &str,
        help: &str,
        labels: [&'static str; N],
        bounds: &'static [f64],
    ) -> Family<Histogram, N> {
        self.family(name, help, labels, || Histogram::new(bounds.iter().copied()))
    }

    /// Gauges that are read when somebody asks: `read` gives the values of the labels, and the number.
    ///
    /// A second one of the same name is ignored.
    pub fn gauges_from<const N: usize, R>(&self, name: &str, help: &str, labels: [&'static str; N], read: R)
    where
        R: Fn() -> Vec<([String; N], f64)> + Send + Sync + 'static,
    {
        let mut known = self.lock();
        if known.families.contains_key(name) {
            return;
        }
        known.families.insert(name.to_owned(), Box::new(()));
        let (name, help) = (name.to_owned(), format!("{help}."));
        known.registry.register_collector(Box::new(Asked { name, help, labels, read }));
    }

    /// All metrics as Prometheus text.
    pub fn render(&self) -> String {
        let mut text = String::new();
        prometheus_client::encoding::text::encode_registry(&mut text, &self.lock().registry)
            .expect("writing to a string does not fail");
        classic(&text)
    }

    fn family<M, const N: usize>(
        &self,
        name: &str,
        help: &str,
        labels: [&'static str; N],
        make: impl Fn() -> M + Send + Sync + 'static,
    ) -> Family<M, N>
    where
        Family<M, N>: Metric,
        M: Clone + 'static,
    {
        let mut known = self.lock();
        let new = Family::new(labels, make);
        let Some(old) = known.families.get(name) else {
            known.registry.register(name, help, new.clone());
            known.families.insert(name.to_owned(), Box::new(new.clone()));
            return new;
        };
        match old.downcast_ref::<Family<M, N>>() {
            Some(old) if *old.labels() == labels => old.clone(),
            _ => {
                tracing::error!(name, "a metric was registered twice, differently; the second is not shown");
                new
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").finish_non_exhaustive()
    }
}

/// OpenMetrics describes the counter `x_total` as `x`; Prometheus text, which more tools read, as `x_total`.
fn classic(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 256);
    let mut lines = text.lines().peekable();
    while let Some(line) = lines.next() {
        let described = line.strip_prefix("# HELP ").and_then(|rest| rest.split_once(' '));
        match described {
            Some((name, help)) if lines.peek() == Some(&format!("# TYPE {name} counter").as_str()) => {
                lines.next();
                out.push_str(&format!("# HELP {name}_total {help}\n# TYPE {name}_total counter\n"));
            }
            _ => {
                out.push_str(line);
                out.push('\n');
            }
        }
    }
    out
}

/// Gauges that are read when somebody asks.
struct Asked<const N: usize, R> {
    name: String,
    help: String,
    labels: [&'static str; N],
    read: R,
}

impl<const N: usize, R> Collector for Asked<N, R>
where
    R: Fn() -> Vec<([String; N], f64)> + Send + Sync + 'static,
{
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut metric = encoder.encode_descriptor(&self.name, &self.help, None, MetricType::Gauge)?;
        for (values, number) in (self.read)() {
            let labels: Vec<_> = self.labels.into_iter().zip(values).collect();
            ConstGauge::new(number).encode(metric.encode_family(&labels)?)?;
        }
        Ok(())
    }
}

impl<const N: usize, R> fmt::Debug for Asked<N, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Asked").field("name", &self.name).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_are_written_as_prometheus_text() {
        let metrics = Metrics::new();
        metrics.counter("calls", "Calls made", ["callee", "outcome"]).with(["users", "ok"]).inc_by(2);
        metrics.gauge("queue", "What waits", []).with([]).set(-3);
        metrics.histogram("took_seconds", "How long", ["callee"], &[0.5, 1.0]).with(["users"]).observe(0.7);
        metrics.gauges_from("state", "Asked for", ["name"], || vec![(["a\"\n".into()], 1.5)]);
        let text = metrics.render();
        let lines: Vec<_> = text.lines().collect();
        for line in [
            "# HELP calls_total Calls made.",
            "# TYPE calls_total counter",
            "calls_total{callee=\"users\",outcome=\"ok\"} 2",
            "# TYPE queue gauge",
            "queue -3",
            "# TYPE took_seconds histogram",
            "took_seconds_bucket{le=\"0.5\",callee=\"users\"} 0",
            "took_seconds_bucket{le=\"1.0\",callee=\"users\"} 1",
            "took_seconds_bucket{le=\"+Inf\",callee=\"users\"} 1",
            "took_seconds_count{callee=\"users\"} 1",
            "state{name=\"a\\\"\\n\"} 1.5",
        ] {
            assert!(lines.contains(&line), "{line} is missing in\n{text}");
        }
    }

    #[test]
    fn registering_a_name_again_gives_the_same_family() {
        let metrics = Metrics::new();
        metrics.counter("calls", "Calls made", ["callee"]).with(["a"]).inc();
        metrics.counter("calls_total", "Calls made", ["callee"]).with(["a"]).inc();
        metrics.gauge("calls", "Something else", ["callee"]).with(["a"]).set(7);
        let text = metrics.render();
        assert!(text.contains("calls_total{callee=\"a\"} 2"), "{text}");
        assert_eq!(text.matches("# TYPE").count(), 1, "{text}");
    }
}
