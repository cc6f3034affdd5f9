//! The breaker beside a model that is slow and obviously right: it keeps every result of the present state, and looks
//! at all of them whenever one is bad. `PROPTEST_CASES=20000` looks longer.

use std::time::Duration;

use proptest::prelude::*;
use tokio::time::Instant;

use super::buckets::Ticks;
use super::*;

const SECOND: Duration = Duration::from_secs(1);

/// How a call that was let through ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Good,
    Failed,
    Abandoned,
}

/// A result that counts.
#[derive(Debug, Clone, Copy)]
struct Seen {
    failed: bool,
    slow: bool,
    at: Duration,
}

#[derive(Debug, Clone, Copy)]
enum State {
    Closed { since: Duration },
    Open { until: Duration },
    HalfOpen { under_way: u32, succeeded: u32, last: Duration },
    Forced(Forced),
}

struct Model {
    config: BreakerConfig,
    state: State,
    /// Grows with each change of state; a result of another one counts for nothing.
    generation: u64,
    results: Vec<Seen>,
    last_span: Option<Duration>,
    opened: u64,
    changes: Vec<(BreakerState, BreakerState, &'static str)>,
}

/// A call under way.
#[derive(Clone, Copy)]
struct Call {
    generation: u64,
    since: Duration,
}

impl Model {
    fn new(config: BreakerConfig) -> Self {
        let state = State::Closed { since: Duration::ZERO };
        let (results, changes) = (Vec::new(), Vec::new());
        Self { config, state, generation: 0, results, last_span: None, opened: 0, changes }
    }

    fn is(&self) -> BreakerState {
        match self.state {
            State::Closed { .. } | State::Forced(Forced::Closed) => BreakerState::Closed,
            State::Open { .. } | State::Forced(Forced::Open) => BreakerState::Open,
            State::HalfOpen { .. } => BreakerState::HalfOpen,
        }
    }

    fn enter(&mut self, state: State, why: &'static str) {
        let from = self.is();
        self.state = state;
        self.generation += 1;
        self.results.clear();
        self.changes.push((from, self.is(), why));
    }

    fn admit(&mut self, now: Duration) -> Option<Call> {
        let config = self.config;
        let first = State::HalfOpen { under_way: 1, succeeded: 0, last: now };
        match &mut self.state {
            State::Closed { .. } | State::Forced(Forced::Closed) => {}
            State::Forced(Forced::Open) => return None,
            State::Open { until } if now < *until => return None,
            State::Open { .. } => self.enter(first, "timed out"),
            State::HalfOpen { under_way, succeeded, last } => {
                let may = *under_way < config.probes.unwrap_or(u32::MAX);
                if may && *under_way + *succeeded < config.success_threshold {
                    *under_way += 1;
                    *last = now;
                } else if now.saturating_sub(*last) >= config.probe_timeout {
                    self.enter(first, "hung");
                } else {
                    return None;
                }
            }
        }
        Some(Call { generation: self.generation, since: now })
    }

    fn end(&mut self, call: Call, end: End, now: Duration) {
        if call.generation != self.generation {
            return;
        }
        let took = now.saturating_sub(call.since);
        let slow = self.config.slow_after().is_some_and(|after| took >= after);
        let nothing = end == End::Abandoned && took < self.config.abandoned_after;
        let failed = end != End::Good;
        match &mut self.state {
            State::HalfOpen { under_way, .. } if nothing => *under_way -= 1,
            State::HalfOpen { .. } if failed => self.open(now, "probe failed"),
            State::HalfOpen { .. } if slow => self.open(now, "probe slow"),
            State::HalfOpen { under_way, succeeded, .. } => {
                *under_way -= 1;
                *succeeded += 1;
                if *succeeded == self.config.success_threshold {
                    self.enter(State::Closed { since: now }, "succeeded");
                }
            }
            State::Closed { .. } if !nothing => {
                self.results.push(Seen { failed, slow, at: now });
                if let Some(why) = self.reason() {
                    self.open(now, why);
                }
            }
            _ => {}
        }
    }

    /// The end of a call that was given up before.
    fn end_late(&mut self, call: Call, end: End, now: Duration) {
        if let (true, State::HalfOpen { under_way, .. }) =
            (call.generation == self.generation, &mut self.state)
        {
            *under_way += 1;
        }
        self.end(call, end, now);
    }

    /// A call is given up, and says nothing.
    fn give_up(&mut self, call: Call) {
        if let (true, State::HalfOpen { under_way, .. }) =
            (call.generation == self.generation, &mut self.state)
        {
            *under_way -= 1;
        }
    }

    fn open(&mut self, now: Duration, why: &'static str) {
        let calm = |growth: Growth| matches!(self.state, State::Closed { since } if now.saturating_sub(since) >= growth.calm);
        let span = match (self.last_span, self.config.growth) {
            (Some(last), Some(growth)) if !calm(growth) && growth.factor > 1.0 => {
                last.mul_f64(growth.factor).min(growth.max)
            }
            _ => self.config.timeout,
        };
        self.last_span = Some(span);
        self.opened += 1;
        self.enter(State::Open { until: now + span }, why);
    }

    /// Why the results so far are a reason to open.
    fn reason(&self) -> Option<&'static str> {
        let (config, newest) = (self.config, self.results.last()?);
        let last = |n: u32| &self.results[self.results.len().saturating_sub(n as usize)..];
        if newest.failed && config.failure_threshold != BreakerConfig::NEVER {
            let failures: Vec<_> =
                last(config.window.max(config.failure_threshold)).iter().filter(|seen| seen.failed).collect();
            // A failure is forgotten once it was too old when another one came.
            let remembered = |index: usize| {
                failures[index..]
                    .iter()
                    .all(|later| later.at.saturating_sub(failures[index].at) <= config.memory)
            };
            let count = (0..failures.len()).filter(|index| remembered(*index)).count();
            if count >= config.failure_threshold as usize {
                return Some("failures");
            }
        }
        let rates = config.rates.filter(|_| newest.failed || newest.slow)?;
        let considered: Vec<_> = match rates.over {
            Over::Calls(calls) => self.remembered(calls),
            Over::Time(time) => {
                let part = |seen: &Seen| Ticks::of(time).at(seen.at);
                let end = self.results.iter().map(part).max()?;
                self.results.iter().filter(|seen| part(seen) + 10 > end).copied().collect()
            }
        };
        if considered.len() < rates.minimum_calls as usize {
            return None;
        }
        let share = |of: fn(&Seen) -> bool| {
            considered.iter().filter(|s| of(s)).count() as f64 / considered.len() as f64
        };
        if rates.failures.is_some_and(|rate| share(|seen| seen.failed) >= rate) {
            return Some("failure rate");
        }
        rates.slow.is_some_and(|slow| share(|seen| seen.slow) >= slow.rate).then_some("slow rate")
    }

    /// The last so many results, without those up to the last bad one that was too old when another came: what came before
    /// it is older.
    fn remembered(&self, calls: u32) -> Vec<Seen> {
        let bad = |seen: &Seen| seen.failed || seen.slow;
        // A time that goes back is that of the bad one before.
        let mut latest = Duration::ZERO;
        let times: Vec<_> = self
            .results
            .iter()
            .map(|seen| {
                latest = if bad(seen) { latest.max(seen.at) } else { latest };
                latest
            })
            .collect();
        let is_old =
            |index: &usize| bad(&self.results[*index]) && latest - times[*index] > self.config.memory;
        let from = (0..times.len()).rfind(is_old).map_or(0, |old| old + 1);
        self.results[from.max(times.len().saturating_sub(calls as usize))..].to_vec()
    }

    fn force(&mut self, forced: Option<Forced>, now: Duration) {
        self.last_span = None;
        self.enter(forced.map_or(State::Closed { since: now }, State::Forced), "operator");
    }
}

fn name(reason: &Reason) -> &'static str {
    match reason {
        Reason::Failures { .. } => "failures",
        Reason::FailureRate { .. } => "failure rate",
        Reason::SlowRate { .. } => "slow rate",
        Reason::TimedOut => "timed out",
        Reason::ProbesSucceeded => "succeeded",
        Reason::ProbeFailed => "probe failed",
        Reason::ProbeSlow => "probe slow",
        Reason::ProbesHung => "hung",
        Reason::Operator(_) => "operator",
    }
}

/// What may happen to a breaker.
#[derive(Debug, Clone)]
enum Step {
    Admit,
    /// So many calls that end well, one after the other.
    GoodCalls(u32),
    /// One of the calls that are under way ends.
    End(prop::sample::Index, End),
    /// One of them is given up, but what comes of it may be told.
    GiveUp(prop::sample::Index),
    /// One that was given up succeeds, or fails.
    Late(prop::sample::Index, bool),
    Forward(Duration),
    Back(Duration),
    Force(Option<Forced>),
}

fn span(least: u64, most: u64) -> impl Strategy<Value = Duration> {
    (least * 1000..most * 1000).prop_map(Duration::from_micros)
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let end = prop_oneof![5 => Just(End::Good), 4 => Just(End::Failed), 1 => Just(End::Abandoned)];
    let forced = prop_oneof![Just(None), Just(Some(Forced::Open)), Just(Some(Forced::Closed))];
    let step = prop_oneof![
        80 => Just(Step::Admit),
        10 => (1..25_u32).prop_map(Step::GoodCalls),
        80 => (any::<prop::sample::Index>(), end).prop_map(|(which, end)| Step::End(which, end)),
        15 => any::<prop::sample::Index>().prop_map(Step::GiveUp),
        15 => (any::<prop::sample::Index>(), any::<bool>()).prop_map(|(which, good)| Step::Late(which, good)),
        12 => span(0, 1500).prop_map(Step::Forward),
        6 => span(0, 20_000).prop_map(Step::Forward),
        2 => span(0, 15_000).prop_map(Step::Back),
        1 => forced.prop_map(Step::Force),
    ];
    prop::collection::vec(step, 0..400)
}

fn rates() -> impl Strategy<Value = RateConfig> {
    let over = prop_oneof![(1..20_u32).prop_map(Over::Calls), span(100, 20_000).prop_map(Over::Time),];
    let slow = (span(1, 3000), 0.0..=1.0).prop_map(|(after, rate)| SlowCalls { after, rate });
    let shares = (prop::option::of(0.0..=1.0), prop::option::of(slow));
    (over, 1..8_u32, shares).prop_map(|(over, minimum_calls, (failures, slow))| RateConfig {
        over,
        minimum_calls,
        failures,
        slow,
    })
}

fn config() -> impl Strategy<Value = BreakerConfig> {
    let threshold = prop_oneof![3 => 1..6_u32, 2 => Just(BreakerConfig::NEVER)];
    let counts = (threshold, 0..12_u32, 1..4_u32, prop::option::of(1..4_u32));
    let times = (span(1, 30_000), span(0, 10_000), span(1, 20_000), span(0, 3000));
    let growth = (prop_oneof![Just(1.0), Just(1.5), Just(2.0)], span(1000, 60_000), span(0, 20_000));
    (counts, times, growth, prop::option::weighted(0.7, rates())).prop_map(
        |(counts, times, growth, rates)| {
            let (failure_threshold, window, success_threshold, probes) = counts;
            let (memory, timeout, probe_timeout, abandoned_after) = times;
            let (factor, max, calm) = growth;
            let growth = Some(Growth { factor, max, calm });
            let config = BreakerConfig {
                failure_threshold,
                window,
                memory,
                rates,
                success_threshold,
                probes,
                probe_timeout,
                timeout,
                growth,
                abandoned_after,
            };
            config.in_force().sane()
        },
    )
}

proptest! {
    /// Whatever happens in whatever order, with calls that are given up at any point, a clock that steps forward and
    /// back and an operator who interferes: the breaker lets through, refuses and changes exactly as the model does.
    #[test]
    fn it_does_what_the_model_does(config in config(), steps in steps()) {
        let (breaker, mut model) = (Breaker::new("callee", config), Model::new(config));
        let origin = Instant::now().checked_add(1000 * SECOND).unwrap();
        let offset = breaker.since_origin(origin);
        let (mut now, mut latest) = (Duration::ZERO, Duration::ZERO);
        let (mut under_way, mut given_up) = (Vec::new(), Vec::new());
        let mut heard = Vec::new();
        let mut changes = breaker.changes();
        for step in steps {
            let (at, model_at) = (origin + now, offset + now);
            match step {
                Step::Forward(span) => {
                    now += span;
                    latest = latest.max(now);
                }
                Step::Back(span) => now = now.saturating_sub(span),
                Step::Admit => {
                    let (permit, call) = (breaker.admit(at), model.admit(model_at));
                    prop_assert_eq!(permit.is_ok(), call.is_some());
                    under_way.extend(permit.ok().zip(call));
                }
                Step::GoodCalls(calls) => {
                    for _ in 0..calls {
                        let (permit, call) = (breaker.admit(at), model.admit(model_at));
                        prop_assert_eq!(permit.is_ok(), call.is_some());
                        let (Ok(permit), Some(call)) = (permit, call) else { break };
                        permit.succeeded_at(at);
                        model.end(call, End::Good, model_at);
                    }
                }
                Step::End(which, end) if !under_way.is_empty() => {
                    let (permit, call) = under_way.swap_remove(which.index(under_way.len()));
                    match end {
                        End::Good => permit.succeeded_at(at),
                        End::Failed => permit.failed(at),
                        End::Abandoned => permit.abandoned(at),
                    }
                    model.end(call, end, model_at);
                }
                Step::GiveUp(which) if !under_way.is_empty() => {
                    let (permit, call): (Permit<'_>, Call) = under_way.swap_remove(which.index(under_way.len()));
                    let ticket = permit.ticket();
                    let probes = model.is() == BreakerState::HalfOpen && call.generation == model.generation;
                    prop_assert_eq!(ticket.is_some(), probes);
                    permit.told_nothing();
                    model.give_up(call);
                    given_up.extend(ticket.map(|ticket| (ticket, call)));
                }
                Step::Late(which, good) if !given_up.is_empty() => {
                    let (ticket, call): (Ticket, Call) = given_up.swap_remove(which.index(given_up.len()));
                    prop_assert_eq!(ticket.counts(), call.generation == model.generation);
                    match good {
                        true => ticket.succeeded(at),
                        false => ticket.failed(at),
                    }
                    model.end_late(call, if good { End::Good } else { End::Failed }, model_at);
                }
                Step::End(..) | Step::GiveUp(_) | Step::Late(..) => {}
                Step::Force(forced) => {
                    breaker.force_at(forced, Operator::new("ann", "a test"), at);
                    model.force(forced, model_at);
                }
            }
            let status = breaker.status(at);
            prop_assert_eq!((status.state, status.opened), (model.is(), model.opened));
            while let Some(change) = changes.waiting() {
                heard.push((change.from, change.to, name(&change.reason)));
            }
            prop_assert_eq!(&heard, &model.changes);
        }
        prop_assert_eq!(changes.missed(), 0);
        // Dropping what is left is giving it up; it must not panic, and nothing may stay behind that blocks it.
        for (permit, call) in under_way {
            permit.abandoned(origin + now);
            model.end(call, End::Abandoned, offset + now);
        }
        prop_assert_eq!(breaker.status(origin + now).state, model.is());
        let longest = config.growth.map_or(config.timeout, |growth| growth.max);
        let much_later = latest + longest + config.timeout + config.probe_timeout + SECOND;
        let forced = breaker.status(origin).forced.is_some();
        prop_assert!(forced || breaker.admit(origin + much_later).is_ok(), "it is stuck");
    }
}
