//! Files: who may open them, and what is in them.

use std::time::Duration;

use futures_util::future::{join, join_all};
use purlin::message::{Clock, Envelope, Fault, FaultKind};
use purlin::store::{Commit, CommitError, Expected, LogFilter, Position, Row, Store, StreamId};
use purlin_sqlite::{OpenError, Options, Sqlite};

use crate::folder::Folder;

fn stream(key: u64) -> StreamId {
    StreamId::new("thing", key).expect("a name")
}

fn event() -> Envelope {
    Envelope::raw("thing.counted", "{}")
}

#[tokio::test]
async fn a_file_that_is_open_is_refused_and_can_be_opened_once_it_is_closed() {
    let folder = Folder::new();
    let store = purlin_sqlite::open(folder.file("a")).await.unwrap();
    let refused = purlin_sqlite::open(folder.file("a")).await.unwrap_err();
    assert!(matches!(refused, OpenError::InUse { .. }), "{refused}");
    assert!(refused.to_string().contains("in use by another process"), "{refused}");
    store.close().await;
    purlin_sqlite::open(folder.file("a")).await.unwrap().close().await;
}

#[tokio::test]
async fn a_file_of_a_newer_format_is_refused() {
    let folder = Folder::new();
    purlin_sqlite::open(folder.file("a")).await.unwrap().close().await;
    let file = rusqlite::Connection::open(folder.file("a")).unwrap();
    file.execute("UPDATE _meta SET value = 99 WHERE name = 'format'", []).unwrap();
    drop(file);
    let refused = purlin_sqlite::open(folder.file("a")).await.unwrap_err();
    assert!(matches!(refused, OpenError::Newer { found: 99, known: 5, .. }), "{refused}");
    assert_eq!(refused.kind(), FaultKind::Rejected);
}

#[tokio::test]
async fn what_is_not_a_store_is_refused_and_left_alone() {
    let folder = Folder::new();
    let foreign = rusqlite::Connection::open(folder.file("a")).unwrap();
    foreign.execute_batch("CREATE TABLE mine(x); INSERT INTO mine VALUES(1)").unwrap();
    drop(foreign);
    let before = std::fs::read(folder.file("a")).unwrap();
    std::fs::write(folder.file("b"), "this is not a database, and long enough to be read as one".repeat(50))
        .unwrap();
    for name in ["a", "b"] {
        let refused = purlin_sqlite::open(folder.file(name)).await.unwrap_err();
        assert!(matches!(refused, OpenError::Database { .. }), "{refused}");
    }
    assert_eq!(std::fs::read(folder.file("a")).unwrap(), before, "not a byte of it is changed");
}

#[tokio::test]
async fn stores_whose_names_differ_only_in_the_end_are_open_side_by_side() {
    let folder = Folder::new();
    let names = ["shop.orders", "shop.payments", "shop"];
    let mut stores = Vec::new();
    for file in
        names.map(|name| folder.file(name)).into_iter().chain([folder.file("a").with_extension("sqlite")])
    {
        stores.push(purlin_sqlite::open(file).await.unwrap());
    }
    for store in stores {
        store.close().await;
    }
}

#[cfg(unix)]
#[tokio::test]
async fn nobody_but_the_owner_reads_the_files_of_a_store() {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = Folder::new();
    let inner = folder.file("inner");
    let file = inner.join("a.db");
    let store = purlin_sqlite::open(&file).await.unwrap();
    store.commit(Commit::new().append(stream(1), Expected::Any, [event()])).await.unwrap();
    store.backup(&inner.join("copy.db")).await.unwrap();
    let mode = |path: &std::path::Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&inner), 0o700);
    let mut names = Vec::new();
    for entry in std::fs::read_dir(&inner).unwrap() {
        let path = entry.unwrap().path();
        assert_eq!(mode(&path), 0o600, "{}", path.display());
        names.push(path.file_name().unwrap().to_str().unwrap().to_owned());
    }
    names.sort();
    assert_eq!(names, ["a.db", "a.db-shm", "a.db-wal", "a.db.lock", "copy.db"]);
    store.close().await;
}

#[tokio::test]
async fn what_is_damaged_is_told_from_what_cannot_be_read_at_the_moment() {
    let folder = Folder::new();
    let store = purlin_sqlite::open(folder.file("a")).await.unwrap();
    store.define::<Lease>().await.unwrap();
    for key in 1..=2 {
        store.commit(Commit::new().append(stream(key), Expected::Any, [event()])).await.unwrap();
    }
    store.commit(Commit::new().put("a", &Lease {})).await.unwrap();
    store.close().await;
    let file = rusqlite::Connection::open(folder.file("a")).unwrap();
    let id = "CAST(substr(header, 1, 24) || x'00' || substr(header, 26) AS BLOB)";
    file.execute_batch(&format!(
        "UPDATE _event SET header = {id} WHERE position = 2; UPDATE leases SET _revision = 'x'"
    ))
    .unwrap();
    drop(file);
    let store = purlin_sqlite::open(folder.file("a")).await.unwrap();
    let log = store.read_log(Position::START, &LogFilter::all(), 10).await.unwrap_err();
    let of_stream = store.read_stream(&stream(2), 1, 10).await.unwrap_err();
    for error in [&log, &of_stream, &store.get::<Lease>("a").await.unwrap_err()] {
        assert_eq!(error.kind(), FaultKind::Bug, "asking again would not help: {error}");
    }
    for error in [log, of_stream] {
        assert!(
            error.to_string().contains("event at 2 (`thing.counted` of the stream `thing-2`)"),
            "{error}"
        );
    }
    store.close().await;
}

#[tokio::test]
async fn a_reader_of_few_events_goes_past_all_that_it_does_not_want() {
    let folder = Folder::new();
    let options = Options { window: 10, ..Options::new(folder.file("a")) };
    let store = Store::new(Sqlite::open(options).await.unwrap());
    for n in 0..95 {
        let event = if n % 50 == 42 { event().public() } else { event() };
        store.commit(Commit::new().append(stream(n), Expected::Any, [event])).await.unwrap();
    }
    let (mut after, mut found) = (Position::START, Vec::new());
    while after < store.head() {
        let page = store.read_log(after, &LogFilter::public(), 7).await.unwrap();
        assert!(page.through > after && page.through.0 <= after.0 + 10, "{after} to {}", page.through);
        after = page.through;
        found.extend(page.events.iter().map(|event| event.position.0));
    }
    assert_eq!((found, after), (vec![43, 93], Position(95)));
    store.close().await;
}

#[tokio::test]
async fn more_commits_than_the_queue_holds_are_refused_at_once() {
    let folder = Folder::new();
    let options = Options { queue: 4, ..Options::new(folder.file("a")) };
    let store = Store::new(Sqlite::open(options).await.unwrap());
    let append = |key| store.commit(Commit::new().append(stream(key), Expected::Any, [event()]));
    let outcomes = join_all((0..2000).map(append)).await;
    let done = outcomes.iter().filter(|outcome| outcome.is_ok()).count();
    let refused = outcomes
        .iter()
        .filter_map(|outcome| outcome.as_ref().err())
        .all(|error| error.kind() == FaultKind::Overloaded);
    assert!((4..2000).contains(&done) && refused, "{done} of 2000");
    assert_eq!(store.head(), Position(done as u64), "what was refused was not applied");
    store.close().await;
}

#[tokio::test]
async fn streams_are_found_through_runs_merges_and_restarts() {
    const STREAMS: u64 = 97;
    let folder = Folder::new();
    // Small runs, and as few heads in mind as the writer can do with, so that little data goes through much.
    let options = || Options { run: 50, heads: 0, ..Options::new(folder.file("a")) };
    let (mut versions, mut total) = (vec![0_u64; STREAMS as usize], 0_u64);
    for round in 0..12_u64 {
        let store = Store::new(Sqlite::open(options()).await.unwrap());
        assert_eq!(store.head(), Position(total));
        for n in 0..400_u64 {
            let key = (n * n * 31 + round * 7 + n) % STREAMS;
            let count = 1 + n % 3;
            let expected = Expected::Version(versions[key as usize]);
            store
                .commit(Commit::new().append(stream(key), expected, (0..count).map(|_| event())))
                .await
                .unwrap();
            versions[key as usize] += count;
            total += count;
        }
        for key in 0..STREAMS {
            let wrong =
                Commit::new().append(stream(key), Expected::Version(versions[key as usize] + 1), [event()]);
            assert!(store.commit(wrong).await.is_err());
            let from = 1 + versions[key as usize] / 2;
            let events = store.read_stream(&stream(key), from, 1000).await.unwrap();
            let found: Vec<u64> = events.iter().map(|event| event.version).collect();
            assert_eq!(
                found,
                (from..=versions[key as usize]).collect::<Vec<_>>(),
                "stream {key} in round {round}"
            );
        }
        store.close().await;
    }
    let file = rusqlite::Connection::open(folder.file("a")).unwrap();
    let count = |sql: &str| file.query_row(sql, [], |row| row.get::<_, i64>(0)).unwrap();
    assert!(count("SELECT max(level) FROM _run") >= 2, "runs were merged, and merged again");
    assert!(count("SELECT count(*) FROM _run WHERE level >= 0") < 24, "and few are left");
    assert_eq!(count("SELECT count(*) FROM _event"), total.cast_signed());
}

#[tokio::test]
async fn the_ends_of_many_streams_are_found_together() {
    const STREAMS: u64 = 200;
    let folder = Folder::new();
    let options = || Options { run: 50, heads: 0, ..Options::new(folder.file("a")) };
    for life in 0..12 {
        let store = Store::new(Sqlite::open(options()).await.unwrap());
        let append = |key, expected| store.commit(Commit::new().append(stream(key), expected, [event()]));
        // They wait together, so that many are looked for at once: streams of all runs, and streams of none.
        let wrong = (0..STREAMS).map(|key| append(key, Expected::Version(life + 1)));
        let right = (0..STREAMS).map(|key| append(key, Expected::Version(life)));
        let new = (0..STREAMS).map(|key| append(1000 * (life + 1) + key, Expected::NoStream));
        let (wrong, right) = join(join_all(wrong), join_all(right.chain(new))).await;
        assert!(wrong.iter().all(|outcome| matches!(outcome, Err(CommitError::Conflict(_)))));
        assert!(right.iter().all(|outcome| outcome.is_ok()), "{right:?}");
        store.close().await;
    }
}

#[tokio::test]
async fn the_index_of_an_older_format_is_made_anew() {
    let folder = Folder::new();
    let options = || Options { run: 50, ..Options::new(folder.file("a")) };
    let store = Store::new(Sqlite::open(options()).await.unwrap());
    for n in 0..300 {
        store.commit(Commit::new().append(stream(n % 100), Expected::Any, [event()])).await.unwrap();
    }
    store.close().await;
    crate::older::as_before(&folder.file("a"));
    // Format 2 had no secret; another one is made, under which nothing of the old index is found.
    let file = rusqlite::Connection::open(folder.file("a")).unwrap();
    let older = "UPDATE _meta SET value = 2 WHERE name = 'format'; DELETE FROM _meta WHERE name = 'secret'";
    file.execute_batch(older).unwrap();
    drop(file);
    assert_eq!(purlin_sqlite::check(folder.file("a")).await.unwrap(), [""; 0]);
    for life in 0..2 {
        let store = Store::new(Sqlite::open(options()).await.unwrap());
        for key in 0..100 {
            let again = Commit::new().append(stream(key), Expected::NoStream, [event()]);
            assert!(store.commit(again).await.is_err(), "stream {key} is there in life {life}");
            let next = Commit::new().append(stream(key), Expected::Version(3 + life), [event()]);
            store.commit(next).await.unwrap();
            assert_eq!(store.read_stream(&stream(key), 1, 10).await.unwrap().len() as u64, 4 + life);
        }
        store.close().await;
        assert_eq!(purlin_sqlite::check(folder.file("a")).await.unwrap(), [""; 0]);
    }
}

#[tokio::test]
async fn a_store_whose_secret_is_damaged_is_not_opened() {
    let folder = Folder::new();
    purlin_sqlite::open(folder.file("a")).await.unwrap().close().await;
    for damage in ["UPDATE _meta SET value = zeroblob(20)", "DELETE FROM _meta"] {
        let file = rusqlite::Connection::open(folder.file("a")).unwrap();
        file.execute(&format!("{damage} WHERE name = 'secret'"), []).unwrap();
        drop(file);
        // With another one, no stream would be found, and all would begin anew.
        let refused = purlin_sqlite::open(folder.file("a")).await.unwrap_err();
        assert!(format!("{refused:?}").contains("secret"), "{refused:?}");
    }
}

#[tokio::test]
async fn who_reads_page_after_page_while_others_write_misses_nothing() {
    let folder = Folder::new();
    let store = purlin_sqlite::open(folder.file("a")).await.unwrap();
    let filters = [LogFilter::all(), LogFilter::kinds(["thing.counted"])];
    let (mut read, mut count) = ([(Position::START, 0); 2], 0);
    for round in 0..50_u64 {
        let kind = |n| if n % 3 == 0 { "thing.counted" } else { "thing.other" };
        let events = (0..40).map(|n| Envelope::raw(kind(n), n.to_string()));
        store.commit(Commit::new().append(stream(round % 7), Expected::Any, events)).await.unwrap();
        count += 40;
        // One of them stands still now and then, and goes on from there.
        for ((position, seen), filter) in read.iter_mut().zip(&filters).skip(usize::from(round % 4 == 2)) {
            while *position < store.head() {
                let page = store.read_log(*position, filter, 9).await.unwrap();
                assert!(page.through > *position && page.events.len() <= 9);
                assert!(page.events.iter().all(|event| event.position > *position));
                assert!(page.events.is_sorted_by_key(|event| event.position));
                *seen += page.events.len();
                *position = page.through;
            }
        }
    }
    assert_eq!(read.map(|(_, seen)| seen), [count, 50 * 14]);
    store.close().await;
    assert!(store.read_log(Position::START, &LogFilter::all(), 9).await.is_err());
}

#[tokio::test]
async fn a_merge_that_was_cut_off_leaves_nothing_behind() {
    let folder = Folder::new();
    let options = || Options { run: 50, ..Options::new(folder.file("a")) };
    let store = Store::new(Sqlite::open(options()).await.unwrap());
    for key in 0..200 {
        store.commit(Commit::new().append(stream(key), Expected::Any, [event()])).await.unwrap();
    }
    store.close().await;
    let file = rusqlite::Connection::open(folder.file("a")).unwrap();
    let blocks = |file: &rusqlite::Connection| {
        file.query_row("SELECT count(*) FROM _block", [], |row| row.get::<_, i64>(0)).unwrap()
    };
    let before = blocks(&file);
    // What a process leaves that dies between two slices of a merge.
    let half = "INSERT INTO _run(level, first, through, fences, filter, sum)
                    SELECT -2, 0, max(block) + 1, x'', x'', 0 FROM _block;
                INSERT INTO _block(entries) VALUES(x'00'); INSERT INTO _block(entries) VALUES(x'00');";
    file.execute_batch(half).unwrap();
    drop(file);
    let store = Store::new(Sqlite::open(options()).await.unwrap());
    assert_eq!(store.read_stream(&stream(7), 1, 10).await.unwrap().len(), 1);
    assert_eq!(store.read_log(Position::START, &LogFilter::all(), 1000).await.unwrap().events.len(), 200);
    // The writer clears it away when it has nothing else to do: it need not have come to that yet.
    let file = rusqlite::Connection::open(folder.file("a")).unwrap();
    let half = || {
        file.query_row("SELECT count(*) FROM _run WHERE level < 0", [], |row| row.get::<_, i64>(0)).unwrap()
    };
    let cleared = async {
        while half() > 0 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), cleared).await.expect("it is cleared away");
    store.close().await;
    assert_eq!(blocks(&file), before);
}

#[derive(Debug, serde::Serialize, serde::Deserialize)]
struct Lease {}

impl Row for Lease {
    const COLLECTION: &'static str = "leases";
}

#[tokio::test]
async fn a_revision_is_not_given_out_again_when_the_clock_is_set_back() {
    let folder = Folder::new();
    let mut last = 0;
    for time in ["2030-01-01T00:00:00Z", "2020-01-01T00:00:00Z", "2010-01-01T00:00:00Z"] {
        let (clock, _) = Clock::manual(time.parse().unwrap());
        let options = Options { clock, ..Options::new(folder.file("a")) };
        let store = Store::new(Sqlite::open(options).await.unwrap());
        store.define::<Lease>().await.unwrap();
        let revision = store.commit(Commit::new().put("a", &Lease {})).await.unwrap().revision;
        assert!(revision > last, "{revision} after {last}");
        last = revision;
        store.close().await;
    }
}
