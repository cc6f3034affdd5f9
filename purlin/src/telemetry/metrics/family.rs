//! One metric for each combination of its labels' values.

use std::collections::HashMap;
use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, PoisonError, RwLock};

use prometheus_client::encoding::{EncodeMetric, MetricEncoder};
use prometheus_client::metrics::{MetricType, TypedMetric};

/// How many combinations a family keeps; further ones are counted together, with `other` as every value.
const MAX_SERIES: usize = 1000;

/// A metric by the values of its `N` labels; cheap to clone.
pub struct Family<M, const N: usize> {
    shared: Arc<Shared<M, N>>,
}

struct Shared<M, const N: usize> {
    labels: [&'static str; N],
    make: Box<dyn Fn() -> M + Send + Sync>,
    hasher: RandomState,
    series: RwLock<AllSeries<M, N>>,
}

/// By the hash of their values, so that looking one up allocates nothing.
struct AllSeries<M, const N: usize> {
    by_hash: HashMap<u64, Vec<Series<M, N>>>,
    len: usize,
}

struct Series<M, const N: usize> {
    values: [Box<str>; N],
    metric: M,
}

impl<M: Clone, const N: usize> Family<M, N> {
    pub(super) fn new(labels: [&'static str; N], make: impl Fn() -> M + Send + Sync + 'static) -> Self {
        let series = RwLock::new(AllSeries { by_hash: HashMap::new(), len: 0 });
        let shared = Shared { labels, make: Box::new(make), hasher: RandomState::new(), series };
        Self { shared: Arc::new(shared) }
    }

    pub(super) fn labels(&self) -> &[&'static str; N] {
        &self.shared.labels
    }

    /// The metric for these values, in the order of the labels. It may be kept, and is cheap to clone.
    pub fn with(&self, values: [&str; N]) -> M {
        let hash = self.shared.hasher.hash_one(values);
        let known = self.shared.series.read().unwrap_or_else(PoisonError::into_inner).find(hash, &values);
        known.unwrap_or_else(|| self.add(hash, values))
    }

    #[cold]
    fn add(&self, hash: u64, values: [&str; N]) -> M {
        let mut series = self.shared.series.write().unwrap_or_else(PoisonError::into_inner);
        let (hash, values) = match series.len < MAX_SERIES {
            true => (hash, values),
            false => (0, ["other"; N]),
        };
        if let Some(metric) = series.find(hash, &values) {
            return metric;
        }
        let metric = (self.shared.make)();
        let new = Series { values: values.map(Box::from), metric: metric.clone() };
        series.by_hash.entry(hash).or_default().push(new);
        series.len += 1;
        metric
    }
}

impl<M: Clone, const N: usize> AllSeries<M, N> {
    fn find(&self, hash: u64, values: &[&str; N]) -> Option<M> {
        let same = |series: &&Series<M, N>| series.values.iter().zip(values).all(|(a, b)| **a == **b);
        self.by_hash.get(&hash)?.iter().find(same).map(|series| series.metric.clone())
    }
}

impl<M: EncodeMetric + TypedMetric, const N: usize> EncodeMetric for Family<M, N> {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> fmt::Result {
        let series = self.shared.series.read().unwrap_or_else(PoisonError::into_inner);
        let mut all: Vec<_> = series.by_hash.values().flatten().collect();
        all.sort_by(|a, b| a.values.cmp(&b.values));
        for series in all {
            if N == 0 {
                series.metric.encode(encoder)?;
                break;
            }
            let values = series.values.iter().map(|value| &**value);
            let labels: Vec<(&str, &str)> = self.shared.labels.iter().copied().zip(values).collect();
            series.metric.encode(encoder.encode_family(&labels)?)?;
        }
        Ok(())
    }

    fn metric_type(&self) -> MetricType {
        M::TYPE
    }
}

impl<M, const N: usize> Clone for Family<M, N> {
    fn clone(&self) -> Self {
        Self { shared: Arc::clone(&self.shared) }
    }
}

impl<M, const N: usize> fmt::Debug for Family<M, N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Family").field("labels", &self.shared.labels).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use prometheus_client::metrics::counter::Counter;

    use super::*;

    #[test]
    fn a_combination_has_one_metric_and_others_have_theirs() {
        let family: Family<Counter, 2> = Family::new(["a", "b"], Counter::default);
        family.with(["x", "y"]).inc();
        family.with(["x", "y"]).inc();
        family.with(["xy", ""]).inc();
        assert_eq!(family.with(["x", "y"]).get(), 2);
        assert_eq!(family.with(["xy", ""]).get(), 1);
    }

    #[test]
    fn combinations_past_the_limit_are_counted_together() {
        let family: Family<Counter, 1> = Family::new(["path"], Counter::default);
        for n in 0..MAX_SERIES + 50 {
            family.with([&n.to_string()]).inc();
        }
        assert_eq!(family.with(["3"]).get(), 1);
        assert_eq!(family.with(["other"]).get(), 50);
        assert_eq!(family.shared.series.read().unwrap().len, MAX_SERIES + 1);
    }
}
