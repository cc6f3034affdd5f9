//! Calls of an async closure that answers at once.

use std::hint::black_box;

use anyhow::Result;
use failsafe::futures::CircuitBreaker;
use purlin::message::Refusal;
use purlin_bench::{Comparison, Session};
use recloser::AsyncRecloser;

use super::nanoseconds::{Calls, Threads, finish, repeat};
use super::{ADDED, BENCH, calls, in_a_row, opened, ours, recloser};

pub(super) fn run(session: &mut Session) -> Result<()> {
    for threads in Threads::ALL {
        for closed in [true, false] {
            compare(session, threads, closed)?;
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

fn compare(session: &mut Session, threads: Threads, closed: bool) -> Result<()> {
    let case = if closed { "async closed" } else { "async refused" };
    let (name, time) = (format!("{case} {}", threads.name()), session.duration());
    let in_a_row = in_a_row();
    let (ours, recloser) = match closed {
        true => (ours(), recloser()),
        false => {
            while failsafe::CircuitBreaker::call(&in_a_row, || Err::<u64, ()>(()))
                .is_err_and(|error| !matches!(error, failsafe::Error::Rejected))
            {}
            (opened(ours()), calls::tripped(recloser()))
        }
    };
    let recloser = AsyncRecloser::from(recloser);
    let comparison = Comparison::new(BENCH.name, ADDED, || {
        threads.added(time, &bare, &|| repeat(|| finish(ours.call(answer))))
    })
    .peer(format!("{name} failsafe in a row"), || {
        threads.added(time, &bare, &|| repeat(|| finish(in_a_row.call(answer()))))
    })
    .peer(format!("{name} recloser"), || {
        threads.added(time, &bare, &|| repeat(|| finish(recloser.call(answer()))))
    });
    session.comparison(&name, comparison)
}
