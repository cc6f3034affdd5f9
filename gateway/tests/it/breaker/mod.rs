//! A service that is away is left alone: what its breaker counts, what it does not, and who may hold it.

mod blame;
mod broken;
mod hop;
mod probe;

use std::time::Duration;

use purlin::resilience::policies::Section;
use purlin::resilience::{Breaker, BreakerState, Breakers, Calls, Policies};
use purlin_gateway::calls::{callee, section};
use tokio::time::Instant;

use crate::world::{Answer, passes};

const GET: &str = "GET / HTTP/1.1\r\nHost: shop\r\n\r\n";

/// As many failures in a row open it.
const ENOUGH: usize = 10;

fn calls(said: serde_json::Value) -> (Calls, Breakers) {
    let file: Section = serde_json::from_value(said).unwrap();
    let policies = Policies::built_in().with("the gateway", section(["service", "other"])).unwrap();
    let breakers = Breakers::new();
    (Calls::new(policies.with("this test", file).unwrap(), &breakers), breakers)
}

fn breaker(breakers: &Breakers, pool: &str) -> Breaker {
    breakers.find(&callee(pool)).unwrap()
}

fn state(breakers: &Breakers) -> BreakerState {
    breaker(breakers, "service").status(Instant::now()).state
}

fn is_open(answer: &Answer) {
    assert_eq!((answer.status, answer.problem().as_str()), (503, "circuit-open"));
    let after: u64 = answer.header("retry-after").unwrap().parse().unwrap();
    assert!((1..=2).contains(&after), "{after}");
}

/// Lets time pass until the next request may be a probe.
async fn may_probe(breakers: &Breakers) {
    let breaker = breaker(breakers, "service");
    // It says how long that is, up to the last millisecond.
    let moment = Duration::from_millis(1);
    while let Some(rests) = breaker.rests(Instant::now() - moment) {
        passes(rests).await;
    }
    assert_eq!(breaker.state(), BreakerState::Open);
}
