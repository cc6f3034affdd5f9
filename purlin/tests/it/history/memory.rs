//! The engine in memory, while it refuses and is slow, and clients are gone before they hear.

use std::time::{Duration, Instant};

use purlin::store::Store;
use purlin::store::memory::{Faults, Memory};
use purlin::testing::Dice;
use purlin::testing::gaps::{gapless, how_long};
use purlin::testing::history::{Counts, Entry, History, Journal, Workload, how_many};

use super::undisturbed;

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn its_histories_are_linearizable() {
    let mut all = Counts::default();
    for seed in 0..how_many(200) {
        let journal = Journal::memory();
        let store = live(seed, &journal).await;
        Workload::finish(&store, &journal).await.unwrap();
        let mut history = journal.history();
        forget(&mut history, &mut Dice::new(!seed));
        all = all + history.insist(seed);
    }
    println!("{all:?}");
    for (count, what) in [
        (all.applied, "commits"),
        (all.untold, "commits that nobody was told of"),
        (all.conflicts, "conflicts"),
        (all.excluded, "conditions that were not met"),
        (all.met, "conditions that were met"),
        (all.repeated, "repetitions"),
        (all.in_vain, "refusals"),
        (all.reads, "reads"),
    ] {
        assert!(count > 0, "there are no {what} in these histories");
    }
}

/// Some did not live to hear the answer.
fn forget(history: &mut History, dice: &mut Dice) {
    history.0.retain(|entry| !matches!(entry, Entry::Answered(..)) || !dice.percent(5));
}

/// A store that is slow and refuses at times, and clients that are gone at some moment.
async fn live(seed: u64, journal: &Journal) -> Store {
    let mut dice = Dice::new(seed);
    let memory = Memory::new().short_pages(1 + dice.below(40) as usize);
    let store = Store::new(memory.clone());
    Workload::prepare(&store).await.unwrap();
    let workload = Workload::drawn(seed);
    let (slow, gone) = (dice.below(300), dice.below(6_000));
    memory.set_faults(Faults { refuse: dice.below(5) as usize, delay: Duration::from_micros(slow) });
    let gone = tokio::time::sleep(Duration::from_micros(gone));
    workload.run_until(&store, journal, gone).await;
    memory.set_faults(Faults::default());
    let later = Workload { seed: !seed, operations: 3, ..workload };
    later.run(&store, journal).await;
    store
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn ten_thousand_operations_are_judged_at_once() {
    let workload =
        Workload { clients: 16, operations: 625, streams: 20, records: 10, ids: 100, ..Workload::drawn(1) };
    let history = undisturbed(&workload).await;
    assert_eq!(history.operations(), 10_000);
    let begun = Instant::now();
    let counts = history.insist(1);
    println!("{counts:?} in {:?}", begun.elapsed());
    assert!(begun.elapsed() < Duration::from_secs(2), "also unoptimized, on a machine that is busy");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn its_log_has_no_gap() {
    let seen = gapless(&[Store::memory()], how_long(Duration::from_millis(500))).await;
    assert!(seen.commits > 16, "{seen:?}");
    println!("{} commits, {} events; {}", seen.commits, seen.events, seen.readers[0]);
}
