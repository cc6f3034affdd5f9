//! The decisions of a breaker, over times that are given as spans since it was made.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::buckets::Buckets;
use super::window::{Bad, Window};
use super::{BreakerConfig, Growth, Operator, Reason};

/// What a breaker does with a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BreakerState {
    /// It lets calls through and counts failures.
    Closed,
    /// It refuses calls.
    Open,
    /// It lets a few calls through, to see how they end.
    HalfOpen,
}

/// A state that an operator chose, until he gives it up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Forced {
    /// Calls are refused, however healthy the callee is.
    Open,
    /// Calls go through, however sick the callee is.
    Closed,
}

/// How a call ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    Success {
        slow: bool,
    },
    Failure {
        slow: bool,
    },
    /// It was given up before it could tell.
    Abandoned,
}

/// A stretch between two changes of state; only results of its own calls count in it.
pub(super) type Generation = u32;

/// Generations are counted modulo this, so that one fits the word that is read without a lock.
pub(super) const GENERATIONS: Generation = 1 << 21;

/// From which state to which, and why.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Transition {
    pub(super) from: BreakerState,
    pub(super) to: BreakerState,
    pub(super) reason: Reason,
}

#[derive(Debug, Clone)]
pub(super) struct Machine {
    config: BreakerConfig,
    generation: Generation,
    phase: Phase,
    /// How long it was open the last time, which grows.
    span: Option<Duration>,
    opened: u64,
    /// Who holds it.
    holder: Option<Operator>,
    transition: Option<Transition>,
}

#[derive(Debug, Clone)]
pub(super) enum Phase {
    Closed {
        window: Window,
        since: Duration,
    },
    Open {
        until: Duration,
    },
    HalfOpen {
        under_way: u32,
        succeeded: u32,
        /// When the last probe was let through.
        last: Duration,
    },
    Forced(Forced),
}

impl Machine {
    /// The longest that a refused caller is told to wait while others probe.
    const PROBING: Duration = Duration::from_secs(1);

    pub(super) fn new(config: BreakerConfig) -> Self {
        let window = Window::new(&config);
        let phase = Phase::Closed { window, since: Duration::ZERO };
        Self { config, generation: 0, phase, span: None, opened: 0, holder: None, transition: None }
    }

    /// Lets a call through, or says after how long to ask again.
    pub(super) fn admit(&mut self, now: Duration) -> Result<Generation, Duration> {
        let is_full = self.places() == 0;
        match &mut self.phase {
            Phase::Closed { .. } | Phase::Forced(Forced::Closed) => Ok(self.generation),
            Phase::Forced(Forced::Open) => Err(self.config.timeout),
            Phase::Open { until } if now < *until => Err(*until - now),
            Phase::Open { .. } => Ok(self.probe(now, Reason::TimedOut)),
            Phase::HalfOpen { last, .. } if is_full => {
                if now.saturating_sub(*last) >= self.config.probe_timeout {
                    return Ok(self.probe(now, Reason::ProbesHung));
                }
                Err(Self::patience(&self.config))
            }
            Phase::HalfOpen { under_way, last, .. } => {
                *under_way += 1;
                *last = now;
                Ok(self.generation)
            }
        }
    }

    /// How many more probes may begin.
    fn places(&self) -> u32 {
        let Phase::HalfOpen { under_way, succeeded, .. } = self.phase else { return 0 };
        let needed = self.config.success_threshold.saturating_sub(succeeded);
        needed.min(self.config.probes.unwrap_or(u32::MAX)).saturating_sub(under_way)
    }

    /// How long a caller waits while others probe, before he asks again.
    pub(super) fn patience(config: &BreakerConfig) -> Duration {
        config.timeout.min(Self::PROBING)
    }

    /// If all that may probe do: until when nobody else may.
    pub(super) fn full_until(&self) -> Option<Duration> {
        match &self.phase {
            Phase::HalfOpen { last, .. } if self.places() == 0 => {
                Some(last.saturating_add(self.config.probe_timeout))
            }
            _ => None,
        }
    }

    /// Good calls that were counted outside since the last result that was told, all of this generation.
    pub(super) fn absorb(&mut self, successes: u64) {
        if let Phase::Closed { window, .. } = &mut self.phase {
            window.successes(&self.config, successes);
        }
    }

    /// Takes the result of a call that was let through in `generation`; `elsewhere` are the good calls of a window
    /// of time that are counted outside.
    pub(super) fn settle(
        &mut self,
        generation: Generation,
        outcome: Outcome,
        now: Duration,
        elsewhere: Option<&Buckets>,
    ) {
        if generation != self.generation {
            return;
        }
        match &mut self.phase {
            Phase::Closed { window, .. } => {
                let bad = match outcome {
                    Outcome::Abandoned => return,
                    Outcome::Success { slow: false } => return window.success(&self.config, now),
                    Outcome::Success { slow } => Bad { failed: false, slow },
                    Outcome::Failure { slow } => Bad { failed: true, slow },
                };
                if let Some(reason) = window.bad(&self.config, bad, now, elsewhere) {
                    self.open(now, reason);
                }
            }
            Phase::HalfOpen { under_way, succeeded, .. } => match outcome {
                Outcome::Abandoned => *under_way -= 1,
                Outcome::Failure { .. } => self.open(now, Reason::ProbeFailed),
                Outcome::Success { slow: true } => self.open(now, Reason::ProbeSlow),
                Outcome::Success { slow: false } => {
                    *under_way -= 1;
                    *succeeded += 1;
                    if *succeeded >= self.config.success_threshold {
                        self.close(now, Reason::ProbesSucceeded);
                    }
                }
            },
            Phase::Open { .. } | Phase::Forced(_) => {}
        }
    }

    /// Takes the result of a call of this generation that was given up before: it has no place to give back.
    pub(super) fn settle_late(
        &mut self,
        generation: Generation,
        outcome: Outcome,
        now: Duration,
        elsewhere: Option<&Buckets>,
    ) {
        if generation != self.generation {
            return;
        }
        if let Phase::HalfOpen { under_way, .. } = &mut self.phase {
            // One for a moment, of which there may be more than there are.
            *under_way += 1;
        }
        self.settle(generation, outcome, now, elsewhere);
    }

    /// Holds a state, or goes back to deciding itself, beginning closed as if nothing had been.
    pub(super) fn force(&mut self, forced: Option<Forced>, now: Duration, reason: Reason) {
        self.span = None;
        self.holder = match (&reason, forced) {
            (Reason::Operator(operator), Some(_)) => Some(operator.clone()),
            _ => None,
        };
        match forced {
            Some(forced) => {
                self.enter(Phase::Forced(forced), reason);
            }
            None => self.close(now, reason),
        }
    }

    fn close(&mut self, now: Duration, reason: Reason) {
        let window = Window::new(&self.config);
        self.enter(Phase::Closed { window, since: now }, reason);
    }

    fn open(&mut self, now: Duration, reason: Reason) {
        let span = match self.config.grows().zip(self.span) {
            Some((growth, before)) if !self.is_calm(growth, now) => {
                let span = before.as_secs_f64() * growth.factor;
                // A span that is no `Duration` is longer than the longest.
                if span < growth.max.as_secs_f64() { Duration::from_secs_f64(span) } else { growth.max }
            }
            _ => self.config.timeout,
        };
        self.span = Some(span);
        self.opened += 1;
        self.enter(Phase::Open { until: now.saturating_add(span) }, reason);
    }

    /// Whether it has been closed for so long that the time that it stays open begins anew.
    fn is_calm(&self, growth: Growth, now: Duration) -> bool {
        matches!(&self.phase, Phase::Closed { since, .. } if now.saturating_sub(*since) >= growth.calm)
    }

    /// Begins to probe; the results of earlier probes count for nothing.
    fn probe(&mut self, now: Duration, reason: Reason) -> Generation {
        self.enter(Phase::HalfOpen { under_way: 1, succeeded: 0, last: now }, reason)
    }

    fn enter(&mut self, phase: Phase, reason: Reason) -> Generation {
        let from = self.state();
        self.phase = phase;
        self.generation = (self.generation + 1) % GENERATIONS;
        self.transition = Some(Transition { from, to: self.state(), reason });
        self.generation
    }

    /// What changed since this was asked last.
    pub(super) fn take_transition(&mut self) -> Option<Transition> {
        self.transition.take()
    }

    pub(super) fn state(&self) -> BreakerState {
        match self.phase {
            Phase::Closed { .. } | Phase::Forced(Forced::Closed) => BreakerState::Closed,
            Phase::Open { .. } | Phase::Forced(Forced::Open) => BreakerState::Open,
            Phase::HalfOpen { .. } => BreakerState::HalfOpen,
        }
    }

    pub(super) fn phase(&self) -> &Phase {
        &self.phase
    }

    pub(super) fn config(&self) -> &BreakerConfig {
        &self.config
    }

    pub(super) fn generation(&self) -> Generation {
        self.generation
    }

    /// Goes on where another one was replaced: held as that was, and its openings counted with it. That is no change of
    /// state.
    pub(super) fn continues(&mut self, old: &Self) {
        self.opened += old.opened;
        if let Phase::Forced(forced) = old.phase {
            self.phase = Phase::Forced(forced);
            self.holder.clone_from(&old.holder);
        }
    }

    /// Who holds it, if somebody does.
    pub(super) fn holder(&self) -> Option<&Operator> {
        self.holder.as_ref()
    }

    /// Whether nothing would be lost with it. While it is closed: no bad call is remembered, `good` calls having come since
    /// the last one that it was told of, and the time that it stays open does not grow any more. Else: nobody has called
    /// since it may be called again, for as long as bad calls are remembered, or growth.
    pub(super) fn is_at_rest(&self, good: u64, now: Duration) -> bool {
        let grows = self.config.grows();
        let is_over = |until: Duration| {
            let quiet = grows.map_or(self.config.memory, |growth| growth.calm.max(self.config.memory));
            now >= until.saturating_add(quiet)
        };
        match &self.phase {
            Phase::Closed { window, .. } => {
                let grows = grows.filter(|_| self.span.is_some());
                grows.is_none_or(|growth| self.is_calm(growth, now))
                    && window.has_no_bad(&self.config, good, now)
            }
            Phase::Open { until } => is_over(*until),
            Phase::HalfOpen { last, .. } => is_over(last.saturating_add(self.config.probe_timeout)),
            Phase::Forced(_) => false,
        }
    }

    /// How often it has opened by itself.
    pub(super) fn opened(&self) -> u64 {
        self.opened
    }
}

#[cfg(test)]
mod tests;
