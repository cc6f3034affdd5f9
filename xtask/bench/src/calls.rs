//! Callers who do the same thing again and again for a time: how often, and how long each waited.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use tokio::runtime::Runtime;
use tokio::task::JoinSet;

use crate::Reading;

/// What one caller did.
pub struct Tally {
    stop: Arc<AtomicBool>,
    microseconds: Vec<u32>,
}

impl Tally {
    /// Whether the time is not over.
    pub fn goes_on(&self) -> bool {
        !self.stop.load(Ordering::Relaxed)
    }

    /// Does it once, and counts it.
    pub async fn time<T>(&mut self, call: impl Future<Output = T>) -> T {
        let begun = Instant::now();
        let done = call.await;
        self.microseconds.push(u32::try_from(begun.elapsed().as_micros()).unwrap_or(u32::MAX));
        done
    }
}

/// What all callers did.
pub struct Calls {
    /// Calls a second.
    pub rate: f64,
    /// How many.
    pub count: usize,
    microseconds: Vec<u32>,
}

impl Calls {
    /// Runs so many callers at once for about `time`. Each does its calls by [`Tally::time`] while the tally goes on.
    pub fn made<F>(
        runtime: &Runtime,
        callers: usize,
        time: Duration,
        mut caller: impl FnMut(usize, Tally) -> F,
    ) -> Result<Self>
    where
        F: Future<Output = Result<Tally>> + Send + 'static,
    {
        let stop = Arc::new(AtomicBool::new(false));
        let begun = Instant::now();
        let tallies = runtime.block_on(async {
            let mut running = JoinSet::new();
            for number in 0..callers {
                let tally = Tally { stop: Arc::clone(&stop), microseconds: Vec::new() };
                running.spawn(caller(number, tally));
            }
            tokio::time::sleep(time).await;
            stop.store(true, Ordering::Relaxed);
            running.join_all().await
        });
        let elapsed = begun.elapsed().as_secs_f64();
        let mut microseconds = Vec::new();
        for tally in tallies {
            microseconds.extend(tally.context("a caller failed")?.microseconds);
        }
        microseconds.sort_unstable();
        Ok(Self { rate: microseconds.len() as f64 / elapsed, count: microseconds.len(), microseconds })
    }

    /// The milliseconds that this part of the calls did not exceed.
    pub fn quantile(&self, part: f64) -> f64 {
        let last = self.microseconds.len().saturating_sub(1);
        let at = (last as f64 * part).round() as usize;
        self.microseconds.get(at).map_or(f64::NAN, |us| f64::from(*us) / 1000.0)
    }

    /// The rate of something of which a call does so many, with the latencies of the calls.
    pub fn reading(&self, each: usize) -> Reading {
        let reading = Reading::from(self.rate * each as f64);
        reading.with("p50 ms", self.quantile(0.5)).with("p99 ms", self.quantile(0.99))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_call_of_every_caller_counts() {
        let runtime = Runtime::new().expect("a runtime");
        let caller = |_, mut tally: Tally| async move {
            for _ in 0..10 {
                tally.time(std::future::ready(())).await;
            }
            Ok(tally)
        };
        let calls = Calls::made(&runtime, 3, Duration::from_millis(1), caller).expect("calls");
        assert_eq!(calls.count, 30);
        assert!(calls.quantile(0.5) <= calls.quantile(0.99));
    }

    #[test]
    fn a_caller_who_fails_is_no_measurement() {
        let runtime = Runtime::new().expect("a runtime");
        let caller = |_, _| async { anyhow::bail!("no") };
        assert!(Calls::made(&runtime, 1, Duration::from_millis(1), caller).is_err());
    }
}
