//! What a closed breaker remembers.

use std::collections::VecDeque;
use std::time::Duration;

use super::buckets::{Buckets, Counts};
use super::{BreakerConfig, Over, RateConfig, Reason};

/// The bad calls among the last ones. Good calls only have a number: that is all they need to push others out.
#[derive(Debug, Clone)]
pub(super) struct Window {
    calls: u64,
    /// Failures with the number of their call and their time, for `failure_threshold`.
    failures: VecDeque<(u64, Duration)>,
    shares: Shares,
}

/// Of what `rates` takes its shares.
#[derive(Debug, Clone)]
enum Shares {
    None,
    Calls(RateConfig, Last),
    Time(RateConfig, Box<Buckets>),
}

/// A call that failed, was slow, or both.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Bad {
    pub(super) failed: bool,
    pub(super) slow: bool,
}

/// The bad calls among the last `reach`, each with its number and its time, which is no earlier than that of the one
/// before.
#[derive(Debug, Clone)]
struct Last {
    reach: u64,
    /// The last call that was forgotten by its age: all up to it are older still, and no part of any share.
    forgotten: u64,
    bad: VecDeque<(u64, Duration, Bad)>,
    latest: Duration,
    counts: Counts,
}

impl Window {
    pub(super) fn new(config: &BreakerConfig) -> Self {
        let shares = match config.rates {
            None => Shares::None,
            Some(rates) => match rates.over {
                Over::Calls(calls) => Shares::Calls(rates, Last::new(calls)),
                Over::Time(time) => Shares::Time(rates, Box::new(Buckets::new(time))),
            },
        };
        Self { calls: 0, failures: VecDeque::new(), shares }
    }

    /// How many failures are remembered, in whichever window has more, when so many good calls came since.
    pub(super) fn failures(&self, config: &BreakerConfig, since: u64, now: Duration) -> u32 {
        let calls = self.calls + since;
        let is_young = |at: Duration| now.saturating_sub(at) <= config.memory;
        let counts = |(call, at): &&(u64, Duration)| call + reach(config) > calls && is_young(*at);
        let in_count = self.failures.iter().filter(counts).count();
        let in_shares = match &self.shares {
            Shares::None => 0,
            Shares::Calls(_, last) => {
                let counts = |(call, at, bad): &&(u64, Duration, Bad)| {
                    bad.failed && call + last.reach > calls && is_young(*at)
                };
                last.bad.iter().filter(counts).count()
            }
            Shares::Time(_, buckets) => buckets.counts(now, None).failed as usize,
        };
        in_count.max(in_shares) as u32
    }

    /// Good calls, all since the last bad one.
    pub(super) fn successes(&mut self, config: &BreakerConfig, successes: u64) {
        self.calls += successes;
        self.forget(config);
    }

    /// One good call, of which nobody else keeps count.
    pub(super) fn success(&mut self, config: &BreakerConfig, now: Duration) {
        self.successes(config, 1);
        if let Shares::Time(_, buckets) = &mut self.shares {
            buckets.add(now, Counts { calls: 1, ..Counts::default() });
        }
    }

    /// A bad call; `elsewhere` are the good calls that are counted outside. The reason to open, if it is one.
    pub(super) fn bad(
        &mut self,
        config: &BreakerConfig,
        bad: Bad,
        now: Duration,
        elsewhere: Option<&Buckets>,
    ) -> Option<Reason> {
        self.calls += 1;
        self.forget(config);
        if bad.failed && config.failure_threshold != BreakerConfig::NEVER {
            self.failures.retain(|(_, at)| now.saturating_sub(*at) <= config.memory);
            self.failures.push_back((self.calls, now));
            if self.failures.len() >= config.failure_threshold as usize {
                return Some(Reason::Failures { failures: self.failures.len() as u32 });
            }
        }
        let (rates, counts) = match &mut self.shares {
            Shares::None => return None,
            Shares::Calls(rates, last) => (rates, last.push(self.calls, bad, now, config.memory)),
            Shares::Time(rates, buckets) => {
                buckets.add(now, Counts { calls: 1, failed: bad.failed.into(), slow: bad.slow.into() });
                (rates, buckets.counts(now, elsewhere))
            }
        };
        too_many(rates, counts)
    }

    /// Whether a good call would change nothing, except for a window of time, which is counted elsewhere.
    pub(super) fn is_clean(&self) -> bool {
        let full_of_good_ones = match &self.shares {
            Shares::Calls(_, last) => last.bad.is_empty() && self.calls >= last.reach,
            Shares::None | Shares::Time(..) => true,
        };
        self.failures.is_empty() && full_of_good_ones
    }

    /// Whether no bad call would count any more with one that came now, if so many good calls came since.
    pub(super) fn has_no_bad(&self, config: &BreakerConfig, since: u64, now: Duration) -> bool {
        let calls = self.calls + since;
        let counts = |(call, at): &(u64, Duration)| {
            call + reach(config) > calls && now.saturating_sub(*at) <= config.memory
        };
        let none_in_shares = match &self.shares {
            Shares::None => true,
            Shares::Calls(_, last) => last
                .bad
                .iter()
                .all(|(call, at, _)| call + last.reach <= calls || now.saturating_sub(*at) > config.memory),
            Shares::Time(_, buckets) => {
                let Counts { failed, slow, .. } = buckets.counts(now, None);
                failed == 0 && slow == 0
            }
        };
        none_in_shares && !self.failures.iter().any(counts)
    }

    /// Forgets the bad calls that are further back than the windows reach.
    fn forget(&mut self, config: &BreakerConfig) {
        let reach = reach(config);
        while self.failures.front().is_some_and(|(call, _)| call + reach <= self.calls) {
            self.failures.pop_front();
        }
        if let Shares::Calls(_, last) = &mut self.shares {
            last.forget(self.calls);
        }
    }
}

fn reach(config: &BreakerConfig) -> u64 {
    u64::from(config.window.max(config.failure_threshold))
}

impl Last {
    fn new(reach: u32) -> Self {
        let (bad, counts) = (VecDeque::new(), Counts::default());
        Self { reach: reach.into(), forgotten: 0, bad, latest: Duration::ZERO, counts }
    }

    fn push(&mut self, call: u64, bad: Bad, now: Duration, memory: Duration) -> Counts {
        let latest = self.latest.max(now);
        self.latest = latest;
        if let Some(forgotten) = self.forget_while(|_, at| latest - at > memory) {
            self.forgotten = forgotten;
        }
        self.bad.push_back((call, latest, bad));
        self.counts.failed += u64::from(bad.failed);
        self.counts.slow += u64::from(bad.slow);
        Counts { calls: (call - self.forgotten).min(self.reach), ..self.counts }
    }

    fn forget(&mut self, calls: u64) {
        let reach = self.reach;
        self.forget_while(|call, _| call + reach <= calls);
    }

    /// Forgets from the first one on, and says which was the last.
    fn forget_while(&mut self, is_old: impl Fn(u64, Duration) -> bool) -> Option<u64> {
        let mut last = None;
        while let Some((call, at, bad)) = self.bad.front()
            && is_old(*call, *at)
        {
            self.counts.failed -= u64::from(bad.failed);
            self.counts.slow -= u64::from(bad.slow);
            last = Some(*call);
            self.bad.pop_front();
        }
        last
    }
}

/// The reason to open that these counts give.
fn too_many(rates: &RateConfig, counts: Counts) -> Option<Reason> {
    if counts.calls < u64::from(rates.minimum_calls) {
        return None;
    }
    let share = |part: u64| part as f64 / counts.calls as f64;
    let (failed, slow) = (share(counts.failed), share(counts.slow));
    if rates.failures.is_some_and(|rate| failed >= rate) {
        return Some(Reason::FailureRate { rate: failed, calls: counts.calls });
    }
    let too_slow = rates.slow.is_some_and(|limit| slow >= limit.rate);
    too_slow.then_some(Reason::SlowRate { rate: slow, calls: counts.calls })
}
