//! The usual stack: deadline, retry, budget and breaker, around a call that answers at once.

use std::hint::black_box;

use anyhow::Result;
use purlin::message::Refusal;
use purlin::resilience::{Breakers, CallPolicy, Caller};
use purlin_bench::{Figure, Session};

use super::nanoseconds::{Calls, Threads, finish, repeat};
use super::{ADDED, BENCH};

pub(super) fn run(session: &mut Session) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    for threads in Threads::ALL {
        let (name, time) = (format!("caller {}", threads.name()), session.duration());
        let caller = Caller::new("callee", CallPolicy::default(), &Breakers::new());
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
    Ok(())
}

async fn answer() -> Result<u64, Refusal> {
    Ok(black_box(7))
}

fn bare<'a>() -> Calls<'a> {
    repeat(|| finish(answer()))
}
