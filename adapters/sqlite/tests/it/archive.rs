//! The archive: what left the store's file is read as before, and never lost on the way.

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

#[tokio::test]
async fn another_stores_archive_is_refused_by_name() {
    let folder = Folder::new();
    let (ours, other) = (folder.file("ours"), folder.file("other"));
    let log = archived(&ours).await;
    archived(&other).await;
    let kept = folder.path().join("kept");
    std::fs::rename(archive_of(&ours), &kept).unwrap();
    let refused = async |why: &str| {
        let error = Sqlite::open(options(&ours)).await.err().expect("refused");
        let told = told(&error);
        assert!(told.contains(&archive_of(&ours).display().to_string()) && told.contains(why), "{told}");
        let found = purlin_sqlite::check(&ours).await.unwrap();
        assert!(found.iter().any(|found| found.contains(why)), "{found:?}");
    };
    std::fs::copy(archive_of(&other), archive_of(&ours)).unwrap();
    refused("another log").await;
    std::fs::copy(&other, archive_of(&ours)).unwrap();
    refused("no archive").await;
    std::fs::write(archive_of(&ours), "").unwrap();
    refused("there is no archive in it").await;
    let mut broken = std::fs::read(&kept).unwrap();
    broken[..40].fill(7);
    std::fs::write(archive_of(&ours), &broken).unwrap();
    refused("damaged").await;
    // Of another life of the log.
    std::fs::copy(&kept, archive_of(&ours)).unwrap();
    let lives = rusqlite::Connection::open(archive_of(&ours)).unwrap();
    lives.execute("UPDATE _meta SET value = 7 WHERE name = 'incarnation'", []).unwrap();
    drop(lives);
    refused("its identity does not match its checksum").await;
    purlin_sqlite::restore(&other, folder.file("none")).await.unwrap();
    std::fs::rename(&kept, archive_of(&ours)).unwrap();
    let store = open(&ours).await;
    assert_eq!(whole(&store).await, log);
    store.close().await;

    // One that lies there before anything was archived.
    let fresh = folder.file("fresh");
    std::fs::copy(archive_of(&other), archive_of(&fresh)).unwrap();
    let store = open(&fresh).await;
    append(&store, 0, 50).await;
    let error = store.archive(&all(), |_| ()).await.unwrap_err();
    assert!(told(&error).contains("another log"), "{}", told(&error));
    assert_eq!(whole(&store).await.len(), 50);
    store.close().await;
}

/// Another program must not take what it cannot read for lost.
#[tokio::test]
async fn a_store_of_a_newer_format_is_refused() {
    let folder = Folder::new();
    let file = folder.file("a");
    open(&file).await.close().await;
    let edited = rusqlite::Connection::open(&file).unwrap();
    edited.execute("UPDATE _meta SET value = 6 WHERE name = 'format'", []).unwrap();
    drop(edited);
    let newer = Sqlite::open(options(&file)).await.err().expect("refused");
    assert!(told(&newer).contains("format 6, this program knows formats up to 5"), "{}", told(&newer));
}

#[tokio::test]
async fn a_damaged_archived_event_is_named() {
    let folder = Folder::new();
    let file = folder.file("a");
    let log = archived(&file).await;
    let archive = rusqlite::Connection::open(archive_of(&file)).unwrap();
    archive.execute("UPDATE _event SET data = '{}' WHERE position = 18", []).unwrap();
    drop(archive);
    let store = open(&file).await;
    let named = |error: ReadError| match error {
        ReadError::Unreadable { what, .. } => what,
        other => panic!("{other:?}"),
    };
    let damaged = &log[17];
    let reads = [
        named(store.read_log(Position(17), &LogFilter::all(), 1).await.unwrap_err()),
        named(store.read_stream(&damaged.stream, damaged.version, 1).await.unwrap_err()),
    ];
    for what in reads {
        assert!(what.contains("the event at 18 ") && what.contains("a.db.archive"), "{what}");
    }
    assert_eq!(store.read_log(Position(18), &LogFilter::all(), 5).await.unwrap().events, log[18..23]);
    store.close().await;
    let found = purlin_sqlite::check(&file).await.unwrap();
    assert!(
        found.len() == 1 && found[0].contains("the event at 18 ") && found[0].contains("archive"),
        "{found:?}"
    );

    let archive = rusqlite::Connection::open(archive_of(&file)).unwrap();
    archive.execute("DELETE FROM _event WHERE position = 18", []).unwrap();
    drop(archive);
    let found = purlin_sqlite::check(&file).await.unwrap();
    assert!(found.contains(&"the events from 18 to 18 are missing".to_owned()), "{found:?}");
}

/// Nor does it keep other streams from moving.
#[tokio::test]
async fn a_damaged_event_is_not_moved() {
    let folder = Folder::new();
    let file = folder.file("a");
    let store = open(&file).await;
    append(&store, 0, 60).await;
    let log = whole(&store).await;
    store.close().await;
    let damaged = log.iter().find(|event| event.version == 2).unwrap();
    let hot = rusqlite::Connection::open(&file).unwrap();
    let position = damaged.position.0;
    hot.execute("UPDATE _event SET data = '{}' WHERE position = ?1", [position.cast_signed()]).unwrap();
    drop(hot);
    let store = open(&file).await;
    for _ in 0..2 {
        let done = store.archive(&all(), |_| ()).await.unwrap();
        assert!(done.is_done());
        let named = format!("the event at {position} ");
        assert!(done.damaged.len() == 1 && done.damaged[0].contains(&named), "{:?}", done.damaged);
    }
    store.close().await;
    let (hot, cold) = (positions(&file), positions(&archive_of(&file)));
    for event in &log {
        let last = log.iter().rfind(|last| last.stream == event.stream).unwrap();
        let stays = event.position == last.position || event.stream == damaged.stream && event.version > 1;
        let there = (hot.contains(&event.position.0), cold.contains(&event.position.0));
        assert_eq!(there, (stays, !stays), "{event:?}");
    }
}

/// What is read to choose streams may be damaged too: an event of another, one by which a stream begins or ends.
#[tokio::test]
async fn streams_are_chosen_past_what_is_damaged() {
    let folder = Folder::new();
    let file = folder.file("a");
    let store = open(&file).await;
    append(&store, 0, 60).await;
    let log = whole(&store).await;
    store.close().await;
    let birth = log.iter().rfind(|event| event.version == 1).unwrap();
    let last = log.last().unwrap();
    assert_ne!(last.stream, birth.stream);
    let of_another =
        |event: &&Recorded| event.version == 3 && event.stream != birth.stream && event.stream != last.stream;
    let middle = log.iter().find(of_another).unwrap();
    let hot = rusqlite::Connection::open(&file).unwrap();
    let damage = |column: &str, position: u64| {
        let sql = format!("UPDATE _event SET {column} = '{{}}' WHERE position = {position}");
        assert_eq!(hot.execute(&sql, []), Ok(1));
    };
    damage("data", birth.position.0);
    damage("header", middle.position.0);
    damage("data", last.position.0);
    drop(hot);
    let store = open(&file).await;
    let done = store.archive(&all(), |_| ()).await.unwrap();
    store.close().await;
    assert!(done.is_done());
    for damaged in [birth, middle, last] {
        let name = format!("the event at {} ", damaged.position);
        assert!(done.damaged.iter().any(|said| said.contains(&name)), "{name}: {:?}", done.damaged);
    }
    let streams = log.iter().filter(|event| event.version == 1).count();
    assert!(streams > 3 && done.chosen as usize == streams - 2, "{done:?}");
    let cold = positions(&archive_of(&file));
    let whole_streams =
        log.iter().filter(|event| ![birth, middle, last].iter().any(|one| one.stream == event.stream));
    let moved = whole_streams.clone().filter(|event| {
        let later = |other: &Recorded| other.stream == event.stream && other.version > event.version;
        log.iter().any(later)
    });
    assert!(moved.clone().count() > 10 && moved.clone().all(|event| cold.contains(&event.position.0)));
}

fn positions(file: &Path) -> Vec<u64> {
    let file = rusqlite::Connection::open(file).unwrap();
    let mut select = file.prepare("SELECT position FROM _event").unwrap();
    let positions = select.query_map([], |row| row.get::<_, i64>(0)).unwrap();
    positions.map(|position| position.unwrap().unsigned_abs()).collect()
}

/// One in which not all is that left the store.
#[tokio::test]
async fn an_older_archive_is_refused_by_name() {
    let folder = Folder::new();
    let file = folder.file("a");
    let store = open(&file).await;
    append(&store, 0, 200).await;
    store.archive(&all(), |_| ()).await.unwrap();
    store.close().await;
    let (older, newer) = (folder.path().join("older"), folder.path().join("newer"));
    std::fs::copy(archive_of(&file), &older).unwrap();
    let store = open(&file).await;
    append(&store, 200, 300).await;
    store.archive(&all(), |_| ()).await.unwrap();
    let log = whole(&store).await;
    store.close().await;
    std::fs::rename(archive_of(&file), &newer).unwrap();
    std::fs::copy(&older, archive_of(&file)).unwrap();
    let refused = Sqlite::open(options(&file)).await.err().expect("refused");
    assert!(told(&refused).contains("it is an older one"), "{}", told(&refused));
    let found = purlin_sqlite::check(&file).await.unwrap();
    assert!(found.iter().any(|found| found.contains("it is an older one")), "{found:?}");
    let inspected = purlin_sqlite::inspect(&file).await.unwrap().archive.unwrap();
    assert!(inspected.refused.unwrap().contains("it is an older one"));
    std::fs::rename(&newer, archive_of(&file)).unwrap();
    let store = open(&file).await;
    assert_eq!(whole(&store).await, log);
    store.close().await;
}

/// A reader has the file open that was there, and what moves now would go to the other.
#[tokio::test]
async fn an_archive_that_is_replaced_while_the_store_is_open_is_noticed() {
    let folder = Folder::new();
    let file = folder.file("a");
    archived(&file).await;
    let store = open(&file).await;
    let log = whole(&store).await;
    append(&store, 300, 400).await;
    let copied = folder.path().join("copied");
    std::fs::copy(archive_of(&file), &copied).unwrap();
    std::fs::rename(&copied, archive_of(&file)).unwrap();
    let error = store.archive(&all(), |_| ()).await.unwrap_err();
    assert!(told(&error).contains("was replaced"), "{}", told(&error));
    let error = store.read_log(Position::START, &LogFilter::all(), 10).await.unwrap_err();
    assert!(matches!(error, ReadError::Unavailable(_)) && told(&error).contains("was replaced"), "{error:?}");
    store.close().await;
    let store = open(&file).await;
    store.archive(&all(), |_| ()).await.unwrap();
    assert_eq!(whole(&store).await[..300], log);
    store.close().await;
    assert_eq!(purlin_sqlite::check(&file).await.unwrap(), Vec::<String>::new());
}

#[tokio::test]
async fn where_an_archive_is_said_to_be_is_remembered_once_it_is_there() {
    let folder = Folder::new();
    let file = folder.file("a");
    let at = |name: &str| Options { archive: Some(folder.path().join(name)), ..options(&file) };
    // Before there is one.
    let store = Store::new(Sqlite::open(at("elsewhere")).await.unwrap());
    append(&store, 0, 100).await;
    let copy = folder.file("copy");
    store.backup(&copy).await.unwrap();
    store.close().await;
    let store = open(&file).await;
    store.archive(&all(), |_| ()).await.unwrap();
    let log = whole(&store).await;
    store.close().await;
    assert!(folder.path().join("elsewhere").exists() && !archive_of(&file).exists());
    // A copy has an archive of its own.
    let store = open(&copy).await;
    store.archive(&all(), |_| ()).await.unwrap();
    store.close().await;
    assert!(archive_of(&copy).exists());
    // Where it is not, or where another is.
    let store = Store::new(Sqlite::open(at("nowhere")).await.unwrap());
    assert!(store.read_log(Position::START, &LogFilter::all(), 10).await.is_err());
    store.close().await;
    assert!(Sqlite::open(at("copy.db.archive")).await.is_err());
    let store = open(&file).await;
    assert_eq!(whole(&store).await, log);
    store.close().await;
}

#[tokio::test]
async fn the_index_is_made_anew_from_both_files() {
    let folder = Folder::new();
    let file = folder.file("a");
    let log = archived(&file).await;
    for round in 0..3_u64 {
        let store = rusqlite::Connection::open(&file).unwrap();
        let broken = "UPDATE _block SET entries = zeroblob(length(entries))";
        match round {
            0 => store.execute(broken, []).unwrap(),
            1 => store.execute("UPDATE _run SET sum = sum + 1", []).unwrap(),
            // What the filter of a run excludes is never looked for in it: one that is cut off is damage too.
            _ => store.execute("UPDATE _run SET filter = x'00'", []).unwrap(),
        };
        drop(store);
        let store = open(&file).await;
        for n in 0..STREAMS {
            let wanted: Vec<_> = log.iter().filter(|event| event.stream == stream(n)).cloned().collect();
            // The first read may come upon it.
            let mut read = store.read_stream(&stream(n), 1, wanted.len()).await;
            for _ in 0..500 {
                if read.is_ok() {
                    break;
                }
                tokio::task::yield_now().await;
                read = store.read_stream(&stream(n), 1, wanted.len()).await;
            }
            assert_eq!(read.unwrap(), wanted, "round {round}");
        }
        append(&store, 300 + round * 20, 320 + round * 20).await;
        store.archive(&all(), |_| ()).await.unwrap();
        assert_eq!(whole(&store).await[..300], log);
        store.close().await;
        assert_eq!(purlin_sqlite::check(&file).await.unwrap(), Vec::<String>::new());
    }
}

#[tokio::test]
async fn a_backup_and_what_is_restored_from_it_have_the_archive() {
    let folder = Folder::new();
    let file = folder.file("a");
    let log = archived(&file).await;
    let store = open(&file).await;
    let copy = folder.file("copy");
    store.backup(&copy).await.unwrap();
    assert!(archive_of(&copy).exists());
    // The original goes another way.
    append(&store, 1000, 1100).await;
    store.archive(&all(), |_| ()).await.unwrap();
    let went_on = whole(&store).await;
    store.close().await;
    assert_eq!(purlin_sqlite::check(&copy).await.unwrap(), Vec::<String>::new());
    let restored = folder.file("restored");
    purlin_sqlite::restore(&copy, &restored).await.unwrap();
    assert!(purlin_sqlite::restore(&copy, &restored).await.is_err(), "nothing is written over");
    for file in [&copy, &restored] {
        for life in 0..2_u64 {
            let store = open(file).await;
            assert_eq!(whole(&store).await[..300], log);
            append(&store, 2000 + life * 100, 2050 + life * 100).await;
            let read = whole(&store).await;
            store.archive(&all(), |_| ()).await.unwrap();
            assert_eq!(whole(&store).await, read);
            store.close().await;
        }
        assert_eq!(purlin_sqlite::check(file).await.unwrap(), Vec::<String>::new());
    }
    // An archive of another life of the log, as of which the log says something else.
    let theirs = std::fs::read(archive_of(&restored)).unwrap();
    std::fs::write(archive_of(&file), theirs).unwrap();
    let error = Sqlite::open(options(&file)).await.err().expect("refused");
    assert!(told(&error).contains("incarnation"), "{}", told(&error));
    assert_eq!(went_on.len(), 400);
}

/// Its archive is still marked as a copy of the incarnation before.
#[tokio::test]
async fn a_copy_that_was_opened_without_its_archive_can_be_backed_up_once_it_is_back() {
    let folder = Folder::new();
    let file = folder.file("a");
    let log = archived(&file).await;
    let (restored, backup, away) = (folder.file("b"), folder.file("c"), folder.path().join("away"));
    purlin_sqlite::restore(&file, &restored).await.unwrap();
    std::fs::rename(archive_of(&restored), &away).unwrap();
    let store = open(&restored).await;
    std::fs::rename(&away, archive_of(&restored)).unwrap();
    store.backup(&backup).await.unwrap();
    store.close().await;
    assert_eq!(purlin_sqlite::check(&backup).await.unwrap(), Vec::<String>::new());
    let store = open(&backup).await;
    assert_eq!(whole(&store).await, log);
    store.close().await;
}

/// Neither alone keeps it from opening.
#[tokio::test]
async fn a_store_whose_index_is_damaged_and_whose_archive_is_away_says_both() {
    let folder = Folder::new();
    let file = folder.file("a");
    let log = archived(&file).await;
    let edited = rusqlite::Connection::open(&file).unwrap();
    edited.execute("UPDATE _run SET sum = sum + 1", []).unwrap();
    drop(edited);
    let away = folder.path().join("away");
    std::fs::rename(archive_of(&file), &away).unwrap();
    let said = told(&Sqlite::open(options(&file)).await.err().expect("refused"));
    assert!(said.contains("the index of the streams is damaged") && said.contains("put it back"), "{said}");
    std::fs::rename(&away, archive_of(&file)).unwrap();
    let store = open(&file).await;
    assert_eq!(whole(&store).await, log);
    store.close().await;
}

/// One waits for the other, whoever comes first: nothing moves while a copy is made, and appends go on.
#[tokio::test]
async fn a_backup_and_an_archiving_at_once_are_both_done_and_both_whole() {
    let folder = Folder::new();
    let store = open(&folder.file("a")).await;
    append(&store, 0, 400).await;
    for round in 0..8_u64 {
        append(&store, 400 + round * 60, 460 + round * 60).await;
        let head = store.head();
        let copy = folder.file(&format!("copy{round}"));
        let (backup, archived) = (store.backup(&copy), async {
            let moved = store.archive(&all(), |_| ()).await.unwrap().events;
            append(&store, 0, 20).await;
            moved + store.archive(&all(), |_| ()).await.unwrap().events
        });
        let moved = match round % 2 {
            0 => {
                let (made, moved) = futures_util::future::join(backup, archived).await;
                made.unwrap();
                moved
            }
            _ => {
                let (moved, made) = futures_util::future::join(archived, backup).await;
                made.unwrap();
                moved
            }
        };
        assert!(moved >= 60, "it went on: {moved}");
        assert_eq!(purlin_sqlite::check(&copy).await.unwrap(), Vec::<String>::new());
        let (hot, cold) = (positions(&copy), positions_or_none(&archive_of(&copy)));
        let copy = open(&copy).await;
        assert!(copy.head() >= head);
        let mut both: Vec<_> = hot.iter().chain(&cold).copied().collect();
        both.sort_unstable();
        assert!(both.into_iter().eq(1..=copy.head().0), "each event is in one of the two, once");
        assert_eq!(whole(&copy).await[..], whole(&store).await[..usize::try_from(copy.head().0).unwrap()]);
        copy.close().await;
    }
    store.close().await;
}

fn positions_or_none(file: &Path) -> Vec<u64> {
    if file.exists() { positions(file) } else { Vec::new() }
}

/// A crash may come between the names of the two files.
#[tokio::test]
async fn what_a_copy_left_that_was_cut_off_is_said_to_be_that() {
    let folder = Folder::new();
    let file = folder.file("a");
    archived(&file).await;
    let copy = folder.file("copy");
    std::fs::write(archive_of(&copy), "half").unwrap();
    let store = open(&file).await;
    let error = store.backup(&copy).await.unwrap_err();
    let said = told(&*error);
    assert!(said.contains("copy.db.archive") && said.contains("cut off"), "{said}");
    std::fs::remove_file(archive_of(&copy)).unwrap();
    store.backup(&copy).await.unwrap();
    store.close().await;
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
