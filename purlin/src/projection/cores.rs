//! Folding on several cores: a batch is dealt out by key, and each share of it has the rows to itself that it asks for.
//!
//! Events of a key are in one share, in order, as are those that want the same row ([`Fold::wants`](super::Fold::wants)).
//! A row that a share asks for is moved to it. So the rows are what they were had one thread folded the batch: each of
//! them has met its events in the order of the log. When a share asks for a row that another one has, the whole
//! batch is folded again by one.
//!
//! That pays only where folding is dear: what an event takes is measured, and a batch that is folded within less time than
//! it takes to deal it out is not.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, OnceLock};
use std::time::Duration;

use crate::store::ReadError;

use super::batch::{Batch, Left, load};
use super::loaded::{Address, Loaded};
use super::rows::{Common, Wanted};
use super::share::{End, Share};

/// What folding an event must take before it is worth while to deal a batch out, which costs about a microsecond an event
/// (`cargo xtask bench store --case "projection sqlite threads"`).
const DEAR: Duration = Duration::from_micros(8);
/// And all events of the batch, as threads are begun for it.
const LONG: Duration = Duration::from_millis(1);
/// A thread is begun for no less work than this.
const EACH: Duration = Duration::from_micros(500);
/// How many shares a thread has, so that those who got the cheap events take others'.
const SHARES: usize = 2;
/// Of so many events one share must not have more than three quarters.
const QUARTERS: usize = 3;
/// After shares got into each other's way, or one had nearly all, so many batches are folded by one thread; twice as
/// many the next time.
const REST: u32 = 8;
/// At most.
const LONGEST_REST: u32 = 1024;

/// Whether, and on how many threads, the batches of a view are folded.
#[derive(Debug, Default)]
pub(super) struct Cores {
    /// At most so many threads; 0: as many as there are cores.
    threads: AtomicUsize,
    /// What folding an event takes on one thread, in nanoseconds; 0: not known yet.
    cost: AtomicU64,
    /// Batches for which one thread is to do.
    rest: AtomicU32,
    /// How long the last rest was.
    rested: AtomicU32,
}

/// The events that one thread takes up, with the rows that it has to itself.
struct Part {
    share: Share,
    rows: Loaded,
    end: Option<End>,
}

impl Cores {
    /// Folds on at most so many threads.
    pub(super) fn limit(&self, threads: NonZeroUsize) {
        self.threads.store(threads.get(), Ordering::Relaxed);
    }

    /// Takes note of how long it took to fold so many events.
    pub(super) fn note(&self, took: Duration, events: usize) {
        let now = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX) / events.max(1) as u64;
        let before = match self.cost.load(Ordering::Relaxed) {
            0 => now,
            before => before,
        };
        // One batch in which something else had the core does not decide.
        self.cost.store((before / 4 * 3 + now / 4).max(1), Ordering::Relaxed);
    }

    /// Folds a batch on several threads, and gives what was left of it; none: one thread is to fold it.
    pub(super) async fn fold(
        &self,
        batch: &Batch<'_>,
        keys: &[String],
        loaded: &mut Loaded,
    ) -> Result<Option<Vec<Left>>, ReadError> {
        let threads = self.threads_for(batch.events.len());
        if threads < 2 {
            return Ok(None);
        }
        let shares = deal(batch, keys, loaded, threads * SHARES);
        if shares.iter().any(|share| share.len() * 4 > batch.events.len() * QUARTERS) {
            // After many events, the next ones are likely to be so too. Of a few, as they come while a view is up to date,
            // nothing follows for a rebuild.
            if batch.events.len() >= TELLING {
                self.rest.store(REST, Ordering::Relaxed);
            }
            return Ok(None);
        }
        let mut parts = Vec::with_capacity(shares.len());
        for (number, share) in shares.into_iter().enumerate() {
            parts.push(Part { share: Share::new(share), rows: loaded.for_share(number), end: None });
        }
        let folded = in_rounds(batch, keys, loaded, &mut parts, threads).await;
        let (mut left, mut took) = (Vec::new(), Duration::ZERO);
        for part in parts {
            loaded.take_back(part.rows);
            left.extend(part.share.left);
            took += part.share.took;
        }
        if !matches!(folded, Ok(true)) {
            loaded.restart();
        }
        if !folded? {
            self.rest_for_a_while();
            return Ok(None);
        }
        self.rested.store(0, Ordering::Relaxed);
        self.note(took, batch.events.len());
        left.sort_unstable_by_key(|left| left.index);
        Ok(Some(left))
    }

    /// On how many threads so many events are to be folded.
    fn threads_for(&self, events: usize) -> usize {
        let each = Duration::from_nanos(self.cost.load(Ordering::Relaxed));
        let all = each.saturating_mul(u32::try_from(events).unwrap_or(u32::MAX));
        if each < DEAR || all < LONG {
            return 1;
        }
        if self.rest.load(Ordering::Relaxed) > 0 {
            self.rest.fetch_sub(1, Ordering::Relaxed);
            return 1;
        }
        let most = match self.threads.load(Ordering::Relaxed) {
            0 => cores(),
            threads => threads,
        };
        most.min(usize::try_from(all.as_nanos() / EACH.as_nanos()).unwrap_or(usize::MAX))
    }

    /// Batches were dealt out, or folded, in vain.
    fn rest_for_a_while(&self) {
        let rest = (self.rested.load(Ordering::Relaxed) * 2).clamp(REST, LONGEST_REST);
        self.rested.store(rest, Ordering::Relaxed);
        self.rest.store(rest, Ordering::Relaxed);
    }
}

/// How many cores there are for this process.
fn cores() -> usize {
    static CORES: OnceLock<usize> = OnceLock::new();
    *CORES.get_or_init(|| std::thread::available_parallelism().map_or(1, NonZeroUsize::get))
}

/// Folds all parts to their ends, and reads what they miss in between; false: one wanted what another had.
async fn in_rounds(
    batch: &Batch<'_>,
    keys: &[String],
    loaded: &mut Loaded,
    parts: &mut [Part],
    threads: usize,
) -> Result<bool, ReadError> {
    loop {
        round(batch, keys, loaded, parts, threads);
        let mut missing = Vec::new();
        for part in &mut *parts {
            match &mut part.end {
                Some(End::Missing(rows)) => missing.append(rows),
                Some(End::Done) => {}
                Some(End::Strayed) | None => return Ok(false),
            }
        }
        if missing.is_empty() {
            return Ok(true);
        }
        load(batch.store, loaded, missing).await?;
    }
}

/// Lets each part that can go on do so. The threads end with the round; should one not be given by the system, the others
/// do its work.
fn round(batch: &Batch<'_>, keys: &[String], loaded: &mut Loaded, parts: &mut [Part], threads: usize) {
    let common = Common::new(std::mem::take(loaded));
    let open = Mutex::new(parts.iter_mut().filter(|part| !matches!(part.end, Some(End::Done))));
    let next = || open.lock().expect("no panic holds the queue").next();
    let work = || {
        while let Some(Part { share, rows, end }) = next() {
            *end = Some(share.fold(batch, keys, rows, Some(&common)));
        }
    };
    std::thread::scope(|scope| {
        for _ in 1..threads {
            let thread = std::thread::Builder::new().name("view-fold".to_owned());
            let _ = thread.spawn_scoped(scope, work);
        }
        work();
    });
    *loaded = common.into_rows();
}

/// Deals the events of a batch out, so that those that must not be folded at once are in one share.
fn deal(batch: &Batch<'_>, keys: &[String], loaded: &Loaded, shares: usize) -> Vec<Vec<usize>> {
    let mut groups = Groups { leaders: (0..batch.events.len()).collect() };
    let mut of_key = HashMap::<&str, usize>::with_capacity(keys.len());
    let mut of_row = HashMap::<Address, usize>::with_capacity(keys.len());
    for (index, (event, key)) in batch.events.iter().zip(keys).enumerate() {
        groups.join(*of_key.entry(key).or_insert(index), index);
        let mut wanted = Wanted { loaded, rows: Vec::new(), here_too: true };
        batch.definition.wants(event, &mut wanted);
        for row in wanted.rows {
            groups.join(*of_row.entry(row).or_insert(index), index);
        }
    }
    let mut sizes = vec![0; batch.events.len()];
    for index in 0..batch.events.len() {
        sizes[groups.leader(index)] += 1;
    }
    let mut sized: Vec<(usize, usize)> = sizes
        .into_iter()
        .enumerate()
        .map(|(leader, size)| (size, leader))
        .filter(|(size, _)| *size > 0)
        .collect();
    // The largest first, each to the share that has the fewest events yet.
    sized.sort_unstable_by_key(|(size, leader)| (Reverse(*size), *leader));
    let mut emptiest: BinaryHeap<_> = (0..shares).map(|share| Reverse((0, share))).collect();
    let mut share_of = vec![0; batch.events.len()];
    for (size, leader) in sized {
        if let Some(Reverse((events, share))) = emptiest.pop() {
            share_of[leader] = share;
            emptiest.push(Reverse((events + size, share)));
        }
    }
    let mut dealt = vec![Vec::new(); shares];
    for index in 0..batch.events.len() {
        dealt[share_of[groups.leader(index)]].push(index);
    }
    dealt.retain(|share| !share.is_empty());
    dealt
}

/// Which events go together: each knows one before it, and the first of them is their leader.
struct Groups {
    leaders: Vec<usize>,
}

impl Groups {
    fn leader(&mut self, mut index: usize) -> usize {
        while self.leaders[index] != index {
            self.leaders[index] = self.leaders[self.leaders[index]];
            index = self.leaders[index];
        }
        index
    }

    fn join(&mut self, one: usize, other: usize) {
        let (one, other) = (self.leader(one), self.leader(other));
        self.leaders[one.max(other)] = one.min(other);
    }
}
