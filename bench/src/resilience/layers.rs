//! A tower service behind the breaker's layer, beside tower-resilience.

use std::hint::black_box;

use anyhow::Result;
use purlin::message::Refusal;
use purlin::resilience::layer::BreakerLayer;
use purlin_bench::{Comparison, Session};
use tokio::runtime::Runtime;
use tower::{Layer, Service, ServiceExt, service_fn};
use tower_resilience::circuitbreaker::CircuitBreakerLayer;

use super::nanoseconds::{Calls, Threads, finish};
use super::{ADDED, BENCH, FOR_EVER, down, opened, ours};

pub(super) fn run(session: &mut Session) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    for threads in Threads::ALL {
        for closed in [true, false] {
            compare(session, &runtime, threads, closed)?;
        }
    }
    Ok(())
}

/// What the callee answers: whether it is well is the request.
async fn answer(well: bool) -> Result<u64, Refusal> {
    if black_box(well) { Ok(7) } else { Err(down()) }
}

/// Asks the service whether it is ready, and calls it; inside of a runtime, because a peer that finds its lock taken
/// waits by a timer.
fn through<'a, S>(runtime: &'a Runtime, mut service: S) -> Calls<'a>
where
    S: Service<bool> + 'a,
{
    Box::new(move |times| {
        let _inside = runtime.enter();
        for _ in 0..times {
            let answer = finish(async {
                match service.ready().await {
                    Ok(ready) => ready.call(true).await,
                    Err(error) => Err(error),
                }
            });
            drop(black_box(answer));
        }
    })
}

fn compare(session: &mut Session, runtime: &Runtime, threads: Threads, closed: bool) -> Result<()> {
    let case = if closed { "layer closed" } else { "layer refused" };
    let (name, time) = (format!("{case} {}", threads.name()), session.duration());
    let breaker = if closed { ours() } else { opened(ours()) };
    let ours = BreakerLayer::by_kind(breaker).layer(service_fn(answer));
    let peer = CircuitBreakerLayer::builder()
        .failure_rate_threshold(0.5)
        .sliding_window_size(100)
        .wait_duration_in_open(FOR_EVER)
        .build()?;
    let peer: tower_resilience::circuitbreaker::CircuitBreaker<_, _> = peer.layer_fn(service_fn(answer));
    if !closed {
        let mut failing = peer.clone();
        for _ in 0..200 {
            let _ = finish(async { failing.ready().await?.call(false).await });
        }
    }
    let bare = || through(runtime, service_fn(answer));
    let comparison =
        Comparison::new(BENCH.name, ADDED, || threads.added(time, &bare, &|| through(runtime, ours.clone())))
            .peer(format!("{name} tower-resilience"), || {
                threads.added(time, &bare, &|| through(runtime, peer.clone()))
            });
    session.comparison(&name, comparison)
}
