//! A power failure at any write and any sync: what was answered is true.
//!
//! A process commits with many callers on a disk that forgets what was not synced (see `shim`), and says each answer
//! that it got. Then the store is opened from what is left of the disk. A process that is killed proves none of this:
//! the system keeps what it wrote.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use purlin::message::Envelope;
use purlin::store::{Commit, Expected, LogFilter, Position, Row, Store, StreamId};
use purlin_sqlite::{Options, Sqlite, Synchronous};
use tokio::task::JoinSet;

use crate::shim::{Disk, Ran, is_preloaded, say};

/// Names the store's file to the child; without it `the_child` has nothing to do.
const FILE: &str = "PURLIN_TEST_DURABILITY";
/// What the store is opened with from the second time on.
const SYNCHRONOUS: &str = "PURLIN_TEST_SYNCHRONOUS";

const CALLERS: u64 = 6;
/// How often the child opens and closes the store.
const LIVES: u64 = 3;
/// Commits of a caller between opening and closing.
const COMMITS: u64 = 9;

#[derive(Debug, serde::Serialize, serde::Deserialize)]
struct Mark {
    n: u64,
}

impl Row for Mark {
    const COLLECTION: &'static str = "marks";
}

fn stream(caller: u64) -> StreamId {
    StreamId::new("thing", caller).expect("a name")
}

/// How many events a caller's n-th commit has; some have none.
fn events_of(n: u64) -> u64 {
    n % 4
}

#[test]
fn the_child() {
    let Ok(file) = std::env::var(FILE) else { return };
    assert!(is_preloaded(), "the library is not preloaded: is the test linked statically?");
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(live(Path::new(&file)));
}

async fn live(file: &Path) {
    let mut callers: Vec<(u64, u64)> = vec![(0, 0); CALLERS as usize];
    for life in 0..LIVES {
        let synchronous = match std::env::var(SYNCHRONOUS) {
            Ok(off) if off == "off" && life > 0 => Synchronous::Off,
            _ => Synchronous::Full,
        };
        // Small runs, so that there are merges too.
        let options = Options { run: 20, synchronous, ..Options::new(file) };
        let Ok(store) = Sqlite::open(options).await.map(Store::new) else { return say("not opened") };
        if store.define::<Mark>().await.is_err() {
            return say("not defined");
        }
        let mut calls = JoinSet::new();
        for (caller, state) in callers.iter().enumerate() {
            calls.spawn(call(store.clone(), caller as u64, *state));
        }
        for (caller, state) in calls.join_all().await {
            callers[caller as usize] = state;
        }
        let backup = file.with_extension(life.to_string());
        if life == 1 && store.backup(&backup).await.is_ok() {
            say(&format!("copied {}", store.head()));
        }
        store.close().await;
    }
    say("end");
}

/// Commits one after the other, and says what became of each.
async fn call(store: Store, caller: u64, (mut n, mut version): (u64, u64)) -> (u64, (u64, u64)) {
    for _ in 0..COMMITS {
        n += 1;
        let event = |part| Envelope::raw("thing.counted", format!("[{n},{part}]"));
        let commit = Commit::new().put(caller.to_string(), &Mark { n });
        let append = (events_of(n) > 0).then(|| (stream(caller), (0..events_of(n)).map(event)));
        let commit = append.into_iter().fold(commit, |commit, (stream, events)| {
            commit.append(stream, Expected::Version(version), events)
        });
        match store.commit(commit).await {
            Ok(_) => {
                version += events_of(n);
                say(&format!("done {caller} {n}"));
            }
            Err(_) => say(&format!("refused {caller} {n}")),
        }
    }
    (caller, (n, version))
}

/// What the child heard of its commits.
#[derive(Default)]
struct Answers {
    done: BTreeMap<u64, BTreeSet<u64>>,
    refused: BTreeMap<u64, BTreeSet<u64>>,
    copied: bool,
}

impl Answers {
    fn of(ran: &Ran) -> Self {
        let mut answers = Self::default();
        for line in ran.said() {
            let mut words = line.split(' ');
            let (what, mut number) =
                (words.next().unwrap(), || words.next().unwrap().parse::<u64>().unwrap());
            match what {
                "done" => drop(answers.done.entry(number()).or_default().insert(number())),
                "refused" => drop(answers.refused.entry(number()).or_default().insert(number())),
                "copied" => answers.copied = true,
                _ => {}
            }
        }
        answers
    }

    fn count(&self) -> usize {
        self.done.values().map(BTreeSet::len).sum()
    }

    /// Whether what is left of the disk says the same; the first thing that does not.
    async fn check(&self, left: &Path) -> Result<(), String> {
        let file = left.join("inner/a.db");
        if self.count() > 0 && !file.exists() {
            return Err("the store is gone".into());
        }
        let store =
            purlin_sqlite::open(&file).await.map_err(|error| format!("it does not open: {error:?}"))?;
        let checked = self.check_store(&store).await;
        store.close().await;
        if self.copied {
            let copy = purlin_sqlite::open(left.join("inner/a.1")).await;
            copy.map_err(|error| format!("the backup does not open: {error:?}"))?.close().await;
        }
        checked
    }

    async fn check_store(&self, store: &Store) -> Result<(), String> {
        let error = |error| format!("it cannot be read: {error:?}");
        let log = store.read_log(Position::START, &LogFilter::all(), 100_000).await.map_err(error)?;
        let dense = log.events.iter().zip(1..).all(|(event, position)| event.position.0 == position);
        if !dense || log.events.len() as u64 != store.head().0 {
            return Err("the log has a gap".into());
        }
        store.define::<Mark>().await.map_err(|error| format!("{error:?}"))?;
        for caller in 0..CALLERS {
            let events = store.read_stream(&stream(caller), 1, 100_000).await.map_err(error)?;
            let mut found = BTreeMap::<u64, u64>::new();
            for (event, version) in events.iter().zip(1..) {
                let [n, part]: [u64; 2] = serde_json::from_slice(&event.envelope.data).unwrap();
                let parts = found.entry(n).or_default();
                if event.version != version || *parts != part {
                    return Err(format!("{caller}'s {n} is out of order"));
                }
                *parts += 1;
            }
            if let Some((n, _)) = found.iter().find(|(n, parts)| **parts != events_of(**n)) {
                return Err(format!("{caller}'s {n} is there by half"));
            }
            let mark = store.get::<Mark>(&caller.to_string()).await.map_err(error)?.map_or(0, |mark| mark.n);
            self.check_caller(caller, &found.into_keys().collect(), mark)?;
        }
        Ok(())
    }

    /// A caller waits for each answer, so that only its very last commit may be either there or not.
    fn check_caller(&self, caller: u64, found: &BTreeSet<u64>, mark: u64) -> Result<(), String> {
        let none = BTreeSet::new();
        let done = self.done.get(&caller).unwrap_or(&none);
        let refused = self.refused.get(&caller).unwrap_or(&none);
        let open = 1 + done.last().max(refused.last()).copied().unwrap_or(0);
        let with_events = done.iter().filter(|n| events_of(**n) > 0);
        if let Some(lost) = with_events.clone().find(|n| !found.contains(n)) {
            return Err(format!("{caller}'s {lost} was answered and is lost"));
        }
        if let Some(n) = found.iter().find(|n| !done.contains(n) && **n != open) {
            return Err(format!("{caller}'s {n} was refused and is there"));
        }
        let last = done.last().copied().unwrap_or(0);
        if mark != last && mark != open {
            return Err(format!("{caller}'s record is of {mark}; {last} was answered last"));
        }
        if events_of(open) > 0 && found.contains(&open) != (mark == open) {
            return Err(format!("{caller}'s {open} is there by half"));
        }
        Ok(())
    }
}

fn run(disk: &Disk, synchronous: &str) -> Ran {
    let file = disk.seen().join("inner/a.db");
    let file = file.to_str().expect("a temporary folder has a plain name");
    disk.run("durability::the_child", &[(FILE, file), (SYNCHRONOUS, synchronous)])
}

/// Numbers that are the same each time.
struct Dice(u64);

impl Dice {
    fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % end
    }
}

/// How many writes and syncs a whole life takes.
fn whole_life() -> Option<(u64, u64)> {
    let ran = run(&Disk::new()?, "full");
    ran.expect_success();
    assert_eq!(Answers::of(&ran).count() as u64, CALLERS * LIVES * COMMITS);
    ran.counted()
}

/// The end of a life: one of its writes or syncs.
fn end(dice: &mut Dice, (writes, syncs): (u64, u64)) -> String {
    match dice.below(2) {
        0 => format!("write:{}", dice.below(writes)),
        _ => format!("sync:{}", dice.below(syncs)),
    }
}

#[tokio::test]
async fn what_was_answered_outlives_a_power_failure_at_any_write_and_any_sync() {
    let Some(counts) = whole_life() else { return };
    let (mut dice, mut answered) = (Dice(0x5eed), 0);
    // The first of all, the last of all, and many between.
    let ends = ["write:0", "sync:0", "sync:1", "sync:2", "sync:3", "none"].map(str::to_owned);
    let ends = ends.into_iter().chain((0..60).map(|_| end(&mut dice, counts))).collect::<Vec<_>>();
    for (seed, end) in ends.into_iter().enumerate() {
        let disk = Disk::new().unwrap().with("PURLIN_DISK_END", &end).with("PURLIN_DISK_SEED", &seed);
        let answers = Answers::of(&run(&disk, "full"));
        let checked = answers.check(&disk.left()).await;
        assert_eq!(checked, Ok(()), "end {end}, seed {seed}, {} answered", answers.count());
        answered += answers.count();
    }
    assert!(answered > 1_000, "{answered}");
}

#[tokio::test]
async fn the_answers_are_true_when_syncs_fail_and_then_the_power() {
    let Some(counts) = whole_life() else { return };
    let (mut dice, mut refused) = (Dice(0xfa11), 0);
    for seed in 0..40 {
        // The first syncs make the file.
        let fails = if seed < 12 { seed } else { dice.below(counts.1) };
        let end = end(&mut dice, counts);
        let fails = if seed % 3 == 0 { format!("{fails}:9") } else { fails.to_string() };
        let disk = Disk::new()
            .unwrap()
            .with("PURLIN_DISK_FAIL", &fails)
            .with("PURLIN_DISK_END", &end)
            .with("PURLIN_DISK_SEED", &seed);
        let answers = Answers::of(&run(&disk, "full"));
        let checked = answers.check(&disk.left()).await;
        assert_eq!(
            checked,
            Ok(()),
            "sync {fails} fails, end {end}, seed {seed}, {} answered",
            answers.count()
        );
        refused += answers.refused.values().map(BTreeSet::len).sum::<usize>();
    }
    assert!(refused > 0, "some commits were refused");
}

#[tokio::test]
async fn without_syncs_the_same_test_finds_losses() {
    let Some(counts) = whole_life() else { return };
    let (mut dice, mut found) = (Dice(0x0ff), 0);
    for seed in 0..12 {
        // In the second half, when nothing is synced any more.
        let end = format!("write:{}", counts.0 / 2 + dice.below(counts.0 / 2));
        let disk = Disk::new().unwrap().with("PURLIN_DISK_END", &end).with("PURLIN_DISK_SEED", &seed);
        let answers = Answers::of(&run(&disk, "off"));
        assert!(answers.count() > 0);
        found += usize::from(answers.check(&disk.left()).await.is_err());
    }
    assert!(found >= 10, "losses in {found} of 12");
}
