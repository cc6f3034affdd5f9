//! How long a call takes that is over in nanoseconds.

use std::hint::black_box;
use std::pin::pin;
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use purlin_bench::Reading;
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// Makes so many calls, one after the other.
pub(super) type Calls<'a> = Box<dyn FnMut(u64) + 'a>;

/// Calls between two looks at the clock.
const CHUNK: u64 = 10_000;

/// Threads that shared a core say nothing about two that share a breaker: so often it is tried to have a core for each,
/// until both were on theirs for so much of the time; below the least it is not a measurement.
const TRIES: usize = 20;
const ENOUGH: f64 = 0.95;
const LEAST: f64 = 0.75;

/// A column of the table: how many threads share a breaker.
#[derive(Debug, Clone, Copy)]
pub(super) enum Threads {
    One,
    Two,
}

impl Threads {
    pub(super) const ALL: [Self; 2] = [Self::One, Self::Two];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::One => "1 thread",
            Self::Two => "2 threads",
        }
    }

    /// The nanoseconds that a call takes, less those of a bare one.
    pub(super) fn added<'a>(
        self,
        time: Duration,
        bare: &(dyn Fn() -> Calls<'a> + Sync),
        make: &(dyn Fn() -> Calls<'a> + Sync),
    ) -> Result<Reading> {
        let bare = least(&mut bare(), time / 4);
        let whole = match self {
            Self::One => Reading::from(least(&mut make(), time)),
            Self::Two => at_once(make, time)?,
        };
        Ok(Reading { value: whole.value - bare, ..whole }.with("bare ns", bare))
    }
}

/// The least time of a call: whatever disturbed the others is not the breaker.
fn least(calls: &mut Calls<'_>, time: Duration) -> f64 {
    calls(CHUNK);
    let (start, mut least) = (Instant::now(), f64::INFINITY);
    while start.elapsed() < time {
        least = least.min(chunk(calls));
    }
    least
}

fn chunk(calls: &mut Calls<'_>) -> f64 {
    let start = Instant::now();
    calls(CHUNK);
    start.elapsed().as_secs_f64() * 1e9 / CHUNK as f64
}

/// The time of a call of two threads that make them at once, each on a core of its own: the median of all chunks of both,
/// so that a stretch in which one was alone does not count. That both ran nearly all the time is looked at; on a machine
/// that others share it takes some tries.
fn at_once<'a>(make: &(dyn Fn() -> Calls<'a> + Sync), time: Duration) -> Result<Reading> {
    let allowed = sched_getaffinity(None)?;
    let cores: Vec<usize> = (0..CpuSet::MAX_CPU).filter(|core| allowed.is_set(*core)).take(2).collect();
    let [first, second] = cores[..] else { bail!("two threads at once need two cores") };
    let (time, mut best) = (time / 4, None::<(f64, Vec<f64>)>);
    for _ in 0..TRIES {
        let (barrier, stop) = (Barrier::new(2), AtomicBool::new(false));
        let (a, b) = std::thread::scope(|scope| {
            let a = scope.spawn(|| run(first, make, time, &barrier, &stop));
            let b = scope.spawn(|| run(second, make, time, &barrier, &stop));
            (a.join().expect("a thread that measures"), b.join().expect("a thread that measures"))
        });
        let (a, b) = (a?, b?);
        let share = a.on_core.min(b.on_core);
        if best.as_ref().is_none_or(|(most, _)| share > *most) {
            best = Some((share, [a.chunks, b.chunks].concat()));
        }
        if share >= ENOUGH {
            break;
        }
    }
    match best {
        Some((share, mut all)) if share >= LEAST => {
            all.sort_by(f64::total_cmp);
            Ok(Reading::from(all[all.len() / 2]).with("share of a core", share))
        }
        _ => bail!("the two threads never had a core each: the machine is too busy to measure them"),
    }
}

struct Ran {
    chunks: Vec<f64>,
    /// Which part of the time the thread was on its core.
    on_core: f64,
}

fn run<'a>(
    core: usize,
    make: &(dyn Fn() -> Calls<'a> + Sync),
    time: Duration,
    barrier: &Barrier,
    stop: &AtomicBool,
) -> Result<Ran> {
    let mut cores = CpuSet::new();
    cores.set(core);
    sched_setaffinity(None, &cores)?;
    let (mut calls, mut chunks) = (make(), Vec::with_capacity(1 << 20));
    barrier.wait();
    let (start, cpu) = (Instant::now(), cpu_time());
    while !stop.load(Ordering::Relaxed) {
        chunks.push(chunk(&mut calls));
        if start.elapsed() >= time {
            stop.store(true, Ordering::Relaxed);
        }
    }
    let on_core = (cpu_time() - cpu).as_secs_f64() / start.elapsed().as_secs_f64();
    Ok(Ran { chunks, on_core })
}

fn cpu_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// Polls a future until it is over.
#[inline]
pub(super) fn finish<F: Future>(future: F) -> F::Output {
    let (mut future, mut cx) = (pin!(future), Context::from_waker(Waker::noop()));
    loop {
        if let Poll::Ready(answer) = future.as_mut().poll(&mut cx) {
            return answer;
        }
        std::hint::spin_loop();
    }
}

/// Calls of a function whose answer the compiler must not know.
pub(super) fn repeat<'a, T>(mut call: impl FnMut() -> T + 'a) -> Calls<'a> {
    Box::new(move |times| {
        for _ in 0..times {
            black_box(call());
        }
    })
}
