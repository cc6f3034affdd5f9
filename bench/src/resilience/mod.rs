//! What a circuit breaker adds to a call, beside failsafe, recloser and tower-resilience; and what a whole `Caller` adds.
//!
//! Nanoseconds over the bare call, of one thread, and of each of two that share one breaker and run at the same time on
//! a core each. Each peer is used as its documentation shows: a window of 100 calls and half of them failed, or
//! failsafe's two policies. Ours is as it is by default, and with the same window.

mod async_calls;
mod calls;
mod layers;
mod nanoseconds;
mod stack;

use std::time::Duration;

use anyhow::Result;
use failsafe::StateMachine;
use failsafe::backoff::{self, Constant};
use failsafe::failure_policy::{self, ConsecutiveFailures};
use purlin::message::{FaultKind, Refusal};
use purlin::resilience::{Breaker, BreakerClock, BreakerConfig, Over, RateConfig};
use purlin_bench::{Bench, Session, Unit};
use recloser::Recloser;

pub(crate) const BENCH: Bench = Bench {
    name: "resilience",
    about: "what a breaker and a whole caller add to a call, beside failsafe, recloser and tower-resilience",
    run,
};

/// Nanoseconds that a call takes longer than the bare one.
const ADDED: Unit = Unit::Cost("ns");

/// Nothing that opens closes again while it is measured.
const FOR_EVER: Duration = Duration::from_secs(3600);

fn run(session: &mut Session) -> Result<()> {
    calls::run(session)?;
    async_calls::run(session)?;
    layers::run(session)?;
    stack::run(session)
}

/// Ours, as it is by default but for the time that it stays open.
fn ours() -> Breaker {
    let config = BreakerConfig { timeout: FOR_EVER, ..BreakerConfig::default() };
    Breaker::with_clock("callee", config, BreakerClock::Coarse)
}

/// Ours, which opens when half of these calls failed, and no sooner.
fn by_rate(over: Over) -> Breaker {
    let rates = RateConfig { over, minimum_calls: 100, failures: Some(0.5), slow: None };
    let config = BreakerConfig { timeout: FOR_EVER, ..BreakerConfig::by_rate(rates) };
    Breaker::with_clock("callee", config, BreakerClock::Coarse)
}

fn opened(breaker: Breaker) -> Breaker {
    while let Ok(permit) = breaker.enter() {
        permit.failed(tokio::time::Instant::now());
    }
    breaker
}

fn recloser() -> Recloser {
    Recloser::custom().error_rate(0.5).closed_len(100).half_open_len(10).open_wait(FOR_EVER).build()
}

/// failsafe with its policy of failures in a row, which is its fastest.
fn in_a_row() -> StateMachine<ConsecutiveFailures<Constant>, ()> {
    let policy = failure_policy::consecutive_failures(5, backoff::constant(FOR_EVER));
    failsafe::Config::new().failure_policy(policy).build()
}

fn down() -> Refusal {
    Refusal::new(FaultKind::Unavailable, "down", "it is down")
}
