//! The usual stack around a call that answers at once, as a service has it: a caller of `Calls`, whose calls and changes
//! are seen in metrics and by a subscriber.

use std::hint::black_box;

use anyhow::Result;
use purlin::message::Refusal;
use purlin::resilience::{
    AdaptiveConfig, BreakerClock, Breakers, BulkheadConfig, CallPolicy, Caller, HedgeConfig,
};
use purlin::telemetry::Metrics;
use purlin_bench::{Figure, Session};

use super::nanoseconds::{Calls, Threads, finish, repeat};
use super::{ADDED, BENCH};

pub(super) fn run(session: &mut Session) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let built_in = CallPolicy::default();
    let adaptive = Some(AdaptiveConfig::default());
    let concurrency = BulkheadConfig { adaptive, ..BulkheadConfig::default() };
    let all = CallPolicy { concurrency, hedge: Some(HedgeConfig::default()), ..built_in };
    for (stack, policy) in [("caller", built_in), ("caller, adaptive and hedging", all)] {
        for threads in Threads::ALL {
            let (name, time) = (format!("{stack} {}", threads.name()), session.duration());
            let (metrics, breakers) = (Metrics::new(), Breakers::with_clock(BreakerClock::Coarse));
            breakers.observe(&metrics);
            let _changes = breakers.changes();
            let caller = Caller::observed("callee", policy, &breakers, &metrics);
            let figure = Figure::new(BENCH.name, &name, ADDED).ours(|| {
                threads.added(time, &bare, &|| {
                    let (caller, handle) = (&caller, runtime.handle().clone());
                    Box::new(move |times| {
                        // The deadline is a timer of the runtime.
                        let _inside = handle.enter();
                        for _ in 0..times {
                            let _ = black_box(finish(caller.call(answer)));
                        }
                    })
                })
            });
            session.figure(&name, figure)?;
        }
    }
    Ok(())
}

async fn answer() -> Result<u64, Refusal> {
    Ok(black_box(7))
}

fn bare<'a>() -> Calls<'a> {
    repeat(|| finish(answer()))
}
