//! Plain calls: a closure that answers at once.

use std::hint::black_box;

use anyhow::Result;
use failsafe::CircuitBreaker;
use purlin::resilience::{Breaker, Open, Over};
use purlin_bench::{Comparison, Session};
use recloser::Recloser;

use super::nanoseconds::{Calls, Threads, repeat};
use super::{ADDED, BENCH, FOR_EVER, by_rate, in_a_row, opened, ours, recloser};

pub(super) fn run(session: &mut Session) -> Result<()> {
    for threads in Threads::ALL {
        closed(session, threads)?;
        refused(session, threads)?;
        windows(session, threads)?;
    }
    Ok(())
}

fn answer() -> Result<u64, ()> {
    Ok(black_box(7))
}

fn bare<'a>() -> Calls<'a> {
    repeat(answer)
}

#[inline]
fn call(breaker: &Breaker) -> Result<u64, Open> {
    let permit = breaker.enter()?;
    let answer = answer();
    match answer {
        Ok(answer) => {
            permit.succeeded();
            Ok(answer)
        }
        Err(()) => {
            permit.failed(tokio::time::Instant::now());
            Ok(0)
        }
    }
}

fn closed(session: &mut Session, threads: Threads) -> Result<()> {
    let (name, time) = (format!("closed {}", threads.name()), session.duration());
    let (ours, recloser, in_a_row, usual) = (ours(), recloser(), in_a_row(), failsafe::Config::new().build());
    let comparison =
        Comparison::new(BENCH.name, ADDED, || threads.added(time, &bare, &|| repeat(|| call(&ours))))
            .peer(format!("{name} failsafe in a row"), || {
                threads.added(time, &bare, &|| repeat(|| in_a_row.call(answer)))
            })
            .peer(format!("{name} failsafe"), || {
                threads.added(time, &bare, &|| repeat(|| usual.call(answer)))
            })
            .peer(format!("{name} recloser"), || {
                threads.added(time, &bare, &|| repeat(|| recloser.call(answer)))
            });
    session.comparison(&name, comparison)
}

fn refused(session: &mut Session, threads: Threads) -> Result<()> {
    let (name, time) = (format!("refused {}", threads.name()), session.duration());
    let (ours, recloser, in_a_row) = (opened(ours()), tripped(recloser()), in_a_row());
    while in_a_row.call(|| Err::<u64, ()>(())).is_err_and(|error| !matches!(error, failsafe::Error::Rejected))
    {
    }
    let comparison =
        Comparison::new(BENCH.name, ADDED, || threads.added(time, &bare, &|| repeat(|| call(&ours))))
            .peer(format!("{name} failsafe in a row"), || {
                threads.added(time, &bare, &|| repeat(|| in_a_row.call(answer)))
            })
            .peer(format!("{name} recloser"), || {
                threads.added(time, &bare, &|| repeat(|| recloser.call(answer)))
            });
    session.comparison(&name, comparison)
}

pub(super) fn tripped(recloser: Recloser) -> Recloser {
    while recloser.call(|| Err::<u64, ()>(())).is_err_and(|error| !matches!(error, recloser::Error::Rejected))
    {
    }
    recloser
}

/// Ours with other windows: a share of the last 100 calls, of the last 10 seconds, and a failure in the window, so that
/// each good call is counted.
fn windows(session: &mut Session, threads: Threads) -> Result<()> {
    let time = session.duration();
    let with_a_failure = by_rate(Over::Calls(60_000));
    let cases = [
        ("share of 100 calls", by_rate(Over::Calls(100))),
        ("share of 10 s", by_rate(Over::Time(FOR_EVER / 360))),
        ("every call counted", with_a_failure),
    ];
    for (case, ours) in cases {
        let (name, recloser) = (format!("{case} {}", threads.name()), recloser());
        let counted = case == "every call counted";
        let comparison = Comparison::new(BENCH.name, ADDED, || {
            threads.added(time, &bare, &|| {
                let ours = &ours;
                let mut since = 0_u64;
                repeat(move || {
                    since += 1;
                    // A failure in 20,000 calls of this thread keeps it from being clean, and costs nothing itself.
                    if counted && since % 20_000 == 1 {
                        ours.enter()
                            .into_iter()
                            .for_each(|permit| permit.failed(tokio::time::Instant::now()));
                    }
                    call(ours)
                })
            })
        });
        let comparison = comparison.peer(format!("{name} recloser"), || {
            threads.added(time, &bare, &|| repeat(|| recloser.call(answer)))
        });
        session.comparison(&name, comparison)?;
    }
    Ok(())
}
