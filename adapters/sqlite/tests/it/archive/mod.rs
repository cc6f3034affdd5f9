//! The archive: what left the store's file is read as before, and never lost on the way.

mod copies;
mod damaged;
mod other;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use purlin::message::Envelope;
use purlin::store::archive::Selection;
use purlin::store::{Commit, Expected, LogFilter, Position, ReadError, Recorded, Store, StreamId};
use purlin_sqlite::{Options, Sqlite, Synchronous};

use crate::folder::Folder;

const STREAMS: u64 = 10;

fn stream(key: u64) -> StreamId {
    StreamId::new("thing", key).expect("a name")
}

fn event(n: u64) -> Envelope {
    let event = Envelope::raw(format!("thing.k{}", n % 3), format!("{{\"n\":{n}}}"));
    if n.is_multiple_of(4) { event.tagged([format!("t{}", n % 5)]) } else { event }
}

fn options(file: &Path) -> Options {
    Options { run: 40, window: 30, synchronous: Synchronous::Off, ..Options::new(file) }
}

async fn open(file: &Path) -> Store {
    Store::new(Sqlite::open(options(file)).await.unwrap())
}

async fn append(store: &Store, from: u64, to: u64) {
    for n in from..to {
        let commit = Commit::new().append(stream(n * n % STREAMS), Expected::Any, [event(n)]);
        store.commit(commit).await.unwrap();
    }
}

fn all() -> Selection {
    Selection::category("thing")
}

async fn whole(store: &Store) -> Vec<Recorded> {
    let (mut events, mut after) = (Vec::new(), Position::START);
    while after < store.head() {
        let page = store.read_log(after, &LogFilter::all(), 1000).await.unwrap();
        after = page.through;
        events.extend(page.events);
    }
    events
}

/// All that an error says, down to its first cause.
fn told(error: &(dyn std::error::Error + 'static)) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

fn archive_of(file: &Path) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(".archive");
    name.into()
}

fn count(file: &Path) -> u64 {
    let file = rusqlite::Connection::open(file).unwrap();
    file.query_row("SELECT count(*) FROM _event", [], |row| row.get::<_, i64>(0)).unwrap().unsigned_abs()
}

/// A closed store of 300 events, all but ten of which are archived; what it says.
async fn archived(file: &Path) -> Vec<Recorded> {
    let store = open(file).await;
    append(&store, 0, 300).await;
    let log = whole(&store).await;
    let done = store.archive(&all(), |_| ()).await.unwrap();
    let streams = log.iter().filter(|event| event.version == 1).count() as u64;
    assert_eq!((done.chosen, done.events), (streams, 300 - streams));
    assert_eq!(whole(&store).await, log);
    store.close().await;
    assert_eq!(
        (count(file), count(&archive_of(file))),
        (streams, 300 - streams),
        "they lie where they should"
    );
    assert!(!archive_of(file).with_extension("archive-wal").exists(), "and nothing beside");
    log
}

/// How many locks of this process the system knows on a file.
#[cfg(target_os = "linux")]
fn locks(file: &Path) -> usize {
    use std::os::unix::fs::MetadataExt as _;
    let (own, inode) = (std::process::id().to_string(), std::fs::metadata(file).unwrap().ino());
    let inode = format!(":{inode}");
    let locks = std::fs::read_to_string("/proc/locks").unwrap();
    let is_ours = |line: &&str| {
        let mut words = line.split(' ').filter(|word| !word.is_empty());
        words.any(|word| word == own) && words.next().is_some_and(|place| place.ends_with(&inode))
    };
    locks.lines().filter(is_ours).count()
}

/// What another program looks at before it takes the file for its own.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn who_archives_keeps_the_locks_of_those_who_read_the_archive() {
    let folder = Folder::new();
    let file = folder.file("a");
    archived(&file).await;
    let store = open(&file).await;
    whole(&store).await;
    let before = locks(&archive_of(&file));
    assert!(before > 0, "somebody reads it");
    append(&store, 300, 330).await;
    store.archive(&all(), |_| ()).await.unwrap();
    assert!(locks(&archive_of(&file)) >= before, "he reads it still");
    store.close().await;
}

#[tokio::test]
async fn without_its_archive_a_store_goes_on_and_says_what_it_cannot_read() {
    let folder = Folder::new();
    let file = folder.file("a");
    let log = archived(&file).await;
    let away = folder.path().join("away");
    std::fs::rename(archive_of(&file), &away).unwrap();
    let hot = log.last().unwrap();
    let cold = log.iter().find(|event| event.stream == hot.stream).unwrap();

    let store = open(&file).await;
    let next = Commit::new().append(hot.stream.clone(), Expected::Version(hot.version), [event(1)]);
    store.commit(next).await.unwrap();
    for n in 0..STREAMS {
        let last = store.read_stream_back(&stream(n), u64::MAX, 1).await.unwrap();
        assert_eq!(
            last.len(),
            usize::from(log.iter().any(|event| event.stream == stream(n))),
            "heads are known"
        );
    }
    let wrong = Commit::new().append(hot.stream.clone(), Expected::Version(1), [event(1)]);
    assert!(store.commit(wrong).await.is_err(), "and checked");
    let page = store.read_log(Position(299), &LogFilter::all(), 10).await.unwrap();
    assert_eq!((page.events.len(), page.through), (2, Position(301)), "the log's end is there");
    let refused = [
        store.read_log(Position::START, &LogFilter::all(), 10).await.map(|page| page.events),
        store.read_log(Position::START, &LogFilter::tagged(["t0"]), 10).await.map(|page| page.events),
        store.read_stream(&cold.stream, 1, 10).await,
        store.read_stream_back(&cold.stream, 3, 1).await,
    ];
    for (n, refused) in refused.into_iter().enumerate() {
        let error = refused.unwrap_err();
        assert!(matches!(error, ReadError::Unavailable(_)), "it is not lost: {error:?}");
        let told = told(&error);
        let archive = archive_of(&file).display().to_string();
        assert!(
            told.contains("the event at ") && told.contains(&archive) && told.contains("put it back"),
            "{told}"
        );
        assert!(n > 0 || told.contains("the event at 1 "), "which event: {told}");
    }
    let error = store.archive(&all(), |_| ()).await.unwrap_err();
    assert!(told(&error).contains("is not there"), "a new archive is not begun: {}", told(&error));
    assert!(!archive_of(&file).exists());
    assert!(store.backup(&folder.file("copy")).await.is_err(), "nor half a copy made");
    store.close().await;
    let found = purlin_sqlite::check(&file).await.unwrap();
    assert!(found.len() == 1 && found[0].contains("is not there"), "{found:?}");
    let inspected = purlin_sqlite::inspect(&file).await.unwrap();
    assert_eq!((inspected.head, inspected.format), (Position(301), 5));
    assert!(inspected.archive.unwrap().refused.unwrap().contains("is not there"));

    // In another place, which is remembered.
    let elsewhere = Options { archive: Some(away.clone()), ..options(&file) };
    let store = Store::new(Sqlite::open(elsewhere).await.unwrap());
    assert_eq!(whole(&store).await[..300], log);
    store.close().await;
    let store = open(&file).await;
    assert_eq!(whole(&store).await[..300], log);
    assert_eq!(store.archive(&all(), |_| ()).await.unwrap().events, 1, "what was its last event");
    store.close().await;
    assert_eq!(purlin_sqlite::check(&file).await.unwrap(), Vec::<String>::new());
    let inspected = purlin_sqlite::inspect(&file).await.unwrap().archive.unwrap();
    assert_eq!((inspected.file, inspected.refused), (away.clone(), None));
    assert_eq!(inspected.events, count(&away));
    let bytes = log.iter().map(|event| event.envelope.data.len() as u64).sum::<u64>();
    assert!(inspected.data_bytes > bytes * 9 / 10 && inspected.data_bytes < bytes);
}

fn positions(file: &Path) -> Vec<u64> {
    let file = rusqlite::Connection::open(file).unwrap();
    let mut select = file.prepare("SELECT position FROM _event").unwrap();
    let positions = select.query_map([], |row| row.get::<_, i64>(0)).unwrap();
    positions.map(|position| position.unwrap().unsigned_abs()).collect()
}

/// Who reads while events move finds each once, in order.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn readers_that_race_an_archiving_see_neither_gap_nor_double() {
    let folder = Folder::new();
    let store = Store::new(Sqlite::open(Options { readers: 4, ..options(&folder.file("a")) }).await.unwrap());
    append(&store, 0, 600).await;
    let over = Arc::new(AtomicBool::new(false));
    let mut readers = tokio::task::JoinSet::new();
    for reader in 0..4_u64 {
        let (store, over) = (store.clone(), Arc::clone(&over));
        readers.spawn(async move {
            let mut rounds = 0_u64;
            while !over.load(Ordering::SeqCst) {
                match reader {
                    0 => {
                        let log = whole(&store).await;
                        let positions = log.iter().map(|event| event.position.0);
                        assert!(positions.eq(1..=log.len() as u64), "the log is dense");
                    }
                    1 => {
                        let key = rounds % STREAMS;
                        let events = store.read_stream(&stream(key), 1, 10_000).await.unwrap();
                        let versions = events.iter().map(|event| event.version);
                        assert!(versions.eq(1..=events.len() as u64), "a stream is dense");
                    }
                    2 => {
                        let mut subscription = store.subscribe(Position::START, LogFilter::all()).unwrap();
                        let head = store.head().0;
                        let mut next = 1;
                        while next <= head {
                            for event in subscription.page(100).await.unwrap().events {
                                assert_eq!(event.position.0, next, "a subscriber sees each once");
                                next += 1;
                            }
                        }
                    }
                    _ => {
                        let filter = LogFilter::tagged(["t1"]);
                        let page = store.read_log(Position::START, &filter, 10_000).await.unwrap();
                        assert!(
                            page.events.is_sorted_by(|a, b| a.position < b.position)
                                && page.events.len() > 10
                        );
                    }
                }
                rounds += 1;
            }
            rounds
        });
    }
    for round in 0..12_u64 {
        append(&store, 600 + round * 50, 650 + round * 50).await;
        store.archive(&all(), |_| ()).await.unwrap();
    }
    over.store(true, Ordering::SeqCst);
    assert!(readers.join_all().await.into_iter().all(|rounds| rounds > 0));
    let log = whole(&store).await;
    assert_eq!(log.len(), 1200);
    store.close().await;
}

#[tokio::test]
async fn a_dropped_archiving_is_gone_on_with() {
    let folder = Folder::new();
    let engine = Sqlite::open(options(&folder.file("a"))).await.unwrap();
    let store = Store::new(engine);
    append(&store, 0, 200).await;
    let log = whole(&store).await;
    {
        let mut archiving = purlin::store::archive::Archiving::new(&store, &all()).unwrap();
        assert!(archiving.step().await.unwrap(), "it looked at some");
        let step = archiving.step();
        futures_util::pin_mut!(step);
        assert!(futures_util::poll!(step).is_pending(), "and is dropped when it moves them");
    }
    let done = store.archive(&all(), |_| ()).await.unwrap();
    assert!(done.is_done());
    assert_eq!(whole(&store).await, log);
    store.close().await;
    let streams = log.iter().filter(|event| event.version == 1).count() as u64;
    assert_eq!(count(&folder.file("a")), streams, "all was moved");
}
