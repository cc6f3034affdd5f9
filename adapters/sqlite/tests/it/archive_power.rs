//! A power failure at any write and any sync of an archiving: no event is in neither file.

use std::path::Path;

use purlin::message::Envelope;
use purlin::store::archive::Selection;
use purlin::store::{Commit, Expected, LogFilter, Position, Store, StreamId};
use purlin_sqlite::{Options, Sqlite};

use crate::shim::{Disk, Ran, is_preloaded, say};

/// Names the store's file to the child; without it `the_child` has nothing to do.
const FILE: &str = "PURLIN_TEST_ARCHIVE";

const STREAMS: u64 = 7;
const EVENTS: u64 = 60;

fn stream(key: u64) -> StreamId {
    StreamId::new("thing", key).expect("a name")
}

fn selection() -> Selection {
    Selection::category("thing")
}

#[test]
fn the_child() {
    let Ok(file) = std::env::var(FILE) else { return };
    assert!(is_preloaded(), "the library is not preloaded: is the test linked statically?");
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(live(Path::new(&file)));
}

async fn live(file: &Path) {
    for _ in 0..2 {
        let options = Options { run: 20, ..Options::new(file) };
        let Ok(store) = Sqlite::open(options).await.map(Store::new) else { return say("not opened") };
        for _ in 0..2 {
            let head = store.head().0;
            for n in head..head + EVENTS / 4 {
                let event = Envelope::raw("thing.counted", n.to_string()).tagged(["all"]);
                let commit = Commit::new().append(stream(n * n % STREAMS), Expected::Any, [event]);
                if let Ok(done) = store.commit(commit).await {
                    say(&format!("done {}", done.position));
                }
            }
            match store.archive(&selection(), |_| ()).await {
                Ok(done) => say(&format!("archived {}", done.events)),
                Err(_) => say("not archived"),
            }
        }
        store.close().await;
    }
    say("end");
}

fn run(disk: &Disk) -> Ran {
    let file = disk.seen().join("inner/a.db");
    disk.run(
        "archive_power::the_child",
        &[(FILE, file.to_str().expect("a temporary folder has a plain name"))],
    )
}

/// How far the child was told it had come.
fn answered(ran: &Ran) -> u64 {
    let said = ran.said();
    let done = said.iter().filter_map(|line| line.strip_prefix("done ")?.parse().ok());
    done.max().unwrap_or(0)
}

/// What is left of the disk has every event that was answered, and can be archived to the end.
async fn check(left: &Path, answered: u64) -> Result<(), String> {
    let file = left.join("inner/a.db");
    if answered == 0 && !file.exists() {
        return Ok(());
    }
    let store = purlin_sqlite::open(&file).await.map_err(|error| format!("it does not open: {error:?}"))?;
    let head = store.head();
    if head.0 < answered {
        return Err(format!("{answered} were answered, and it ends with {head}"));
    }
    let read = async |store: &Store| {
        let log = store.read_log(Position::START, &LogFilter::all(), 1000).await;
        let log = log.map_err(|error| format!("it cannot be read: {error:?}"))?.events;
        let dense = log.iter().zip(1..).all(|(event, position)| event.position.0 == position);
        if !dense || log.len() as u64 != head.0 {
            return Err("the log has a gap, or an event twice".to_owned());
        }
        let tagged = store.read_log(Position::START, &LogFilter::tagged(["all"]), 1000).await;
        match tagged.map_err(|error| format!("{error:?}"))?.events == log {
            true => Ok(log),
            false => Err("the tags tell something else".to_owned()),
        }
    };
    let log = read(&store).await?;
    store
        .archive(&selection(), |_| ())
        .await
        .map_err(|error| format!("it is not gone on with: {error:?}"))?;
    if read(&store).await? != log {
        return Err("it is another log now".to_owned());
    }
    store.close().await;
    match purlin_sqlite::check(&file).await.map_err(|error| format!("{error:?}"))? {
        whole if whole.is_empty() => Ok(()),
        found => Err(found.join("; ")),
    }
}

#[tokio::test]
async fn no_event_is_lost_by_a_power_failure_at_any_write_and_any_sync_of_an_archiving() {
    let Some(disk) = Disk::new() else { return };
    let whole = run(&disk);
    whole.expect_success();
    assert_eq!(answered(&whole), EVENTS);
    let archived = whole
        .said()
        .iter()
        .filter_map(|line| line.strip_prefix("archived ")?.parse::<u64>().ok())
        .sum::<u64>();
    assert_eq!(archived, EVENTS - whole_streams());
    assert_eq!(check(&disk.left(), EVENTS).await, Ok(()));
    let (writes, syncs) = whole.counted().expect("the power did not fail");
    let ends = (0..syncs).map(|n| format!("sync:{n}"));
    let ends = ends.chain((0..writes).step_by(3).map(|n| format!("write:{n}")));
    for (seed, end) in ends.enumerate() {
        let disk = Disk::new().unwrap().with("PURLIN_DISK_END", &end).with("PURLIN_DISK_SEED", &seed);
        let answered = answered(&run(&disk));
        assert_eq!(
            check(&disk.left(), answered).await,
            Ok(()),
            "end {end}, seed {seed}, {answered} answered"
        );
    }
}

/// How many streams the child makes.
fn whole_streams() -> u64 {
    let keys: std::collections::BTreeSet<u64> = (0..EVENTS).map(|n| n * n % STREAMS).collect();
    keys.len() as u64
}

#[tokio::test]
async fn no_event_is_lost_when_syncs_of_an_archiving_fail() {
    let Some(disk) = Disk::new() else { return };
    let whole = run(&disk);
    let (_, syncs) = whole.counted().expect("the power did not fail");
    for fails in 0..syncs {
        let disk = Disk::new().unwrap().with("PURLIN_DISK_FAIL", &fails).with("PURLIN_DISK_SEED", &fails);
        let answered = answered(&run(&disk));
        assert_eq!(check(&disk.left(), answered).await, Ok(()), "sync {fails} fails, {answered} answered");
    }
}
