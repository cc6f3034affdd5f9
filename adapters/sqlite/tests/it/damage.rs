//! A damaged file: what is not as it was written is never served, and named.

use std::path::Path;

use purlin::message::{Envelope, Timestamp};
use purlin::store::{
    Collection, Commit, CommitError, EventQuery, Expected, Field, LogFilter, Position, Query, ReadError,
    Record, Recorded, Revision, Row, Store, StreamId,
};
use purlin_sqlite::{Options, Sqlite, Synchronous};

use crate::folder::Folder;

const STREAMS: u64 = 12;
const RECORDS: u64 = 40;

fn stream(key: u64) -> StreamId {
    StreamId::new(if key.is_multiple_of(2) { "thing" } else { "other" }, key).expect("a name")
}

/// Stands for the collection; no test decodes it.
#[derive(serde::Serialize, serde::Deserialize)]
struct Counted {}

impl Row for Counted {
    const COLLECTION: &'static str = "rows";
    const FIELDS: &'static [Field] = &[Field::text("status"), Field::integer("n"), Field::texts("tags")];
}

fn rows() -> Collection {
    Counted::collection()
}

fn options(file: &Path) -> Options {
    // What is damaged here need not wait for the disk.
    Options { run: 60, synchronous: Synchronous::Off, ..Options::new(file) }
}

async fn open(file: &Path) -> Store {
    Store::new(Sqlite::open(options(file)).await.unwrap())
}

fn put(commit: Commit, n: u64, expected: Revision) -> Commit {
    let status = ["new", "paid", "sent"][(n % 3) as usize];
    let row = serde_json::json!({ "status": status, "n": n, "tags": ["all", format!("t{}", n % 5)] });
    let due = n.is_multiple_of(4).then(|| Timestamp::from_second(1_000 + n as i64).expect("a time"));
    commit.put_in(&rows(), format!("key-{n:03}"), &row, expected, due)
}

/// A store with something of everything; closed.
async fn fill(file: &Path) {
    let store = open(file).await;
    store.define_collection(rows()).await.unwrap();
    for n in 0..250_u64 {
        let long = if n % 50 == 7 { 6_000 } else { 20 + n as usize % 90 };
        let event = Envelope::raw(format!("thing.counted-{}", n % 3), format!("\"{}\"", "x".repeat(long)));
        let event = if n.is_multiple_of(5) { event.public() } else { event };
        let commit = Commit::new().append(stream(n * n % STREAMS), Expected::Any, [event]);
        store.commit(if n < RECORDS { put(commit, n, Revision::Absent) } else { commit }).await.unwrap();
    }
    store.close().await;
}

/// All that a store says, by what was asked.
#[derive(Debug, Default, PartialEq)]
struct Said {
    logs: Vec<(String, Result<Vec<Recorded>, String>)>,
    records: Vec<(String, Result<Vec<Record>, String>)>,
}

/// What an error names. One that says neither what nor why is none.
fn named(error: &ReadError) -> String {
    match error {
        ReadError::Unreadable { what, source } => {
            assert!(!what.is_empty() && !source.to_string().is_empty());
            what.clone()
        }
        other => panic!("damage is told as something else: {other:?}"),
    }
}

async fn ask(store: &Store) -> Said {
    let mut said = Said::default();
    for (name, filter) in [
        ("all", LogFilter::all()),
        ("public", LogFilter::public()),
        ("category", LogFilter::category("thing")),
    ] {
        let page = store.read_log(Position::START, &filter, 10_000).await;
        said.logs.push((name.to_owned(), page.map(|page| page.events).map_err(|error| named(&error))));
    }
    for key in 0..=STREAMS {
        let events = store.read_stream(&stream(key), 1, 10_000).await;
        said.logs.push((stream(key).to_string(), events.map_err(|error| named(&error))));
    }
    for n in 0..=RECORDS {
        let key = format!("key-{n:03}");
        let record = store.get_record("rows", &key).await;
        let record = record.map(|record| record.into_iter().collect()).map_err(|error| named(&error));
        said.records.push((key, record));
    }
    for (name, query) in [
        ("list", Query::all().limit(1_000)),
        ("status", Query::all().and("status", "paid").limit(1_000)),
        ("n", Query::all().and("n", 17)),
        ("tags", Query::all().and("tags", "t2").limit(1_000)),
        ("prefix", Query::all().prefix("key-01").descending().limit(1_000)),
    ] {
        let page = store.list_records("rows", query).await;
        said.records.push((name.to_owned(), page.map(|page| page.records).map_err(|error| named(&error))));
    }
    let due = store.due::<Counted>(Timestamp::from_second(1_021).unwrap(), 1_000).await;
    said.records.push(("due".to_owned(), due.map_err(|error| named(&error))));
    said
}

/// What is said is true or an error; how many errors.
fn compare<T: PartialEq + std::fmt::Debug>(
    said: &[(String, Result<T, String>)],
    truth: &[(String, Result<T, String>)],
    flips: &str,
) -> usize {
    said.iter()
        .zip(truth)
        .filter(|((asked, said), (_, truth))| {
            assert!(said.is_err() || said == truth, "{flips}: {asked} is {said:?}, was {truth:?}");
            said.is_err()
        })
        .count()
}

/// Numbers that are the same each time.
struct Dice(u64);

impl Dice {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % end as u64) as usize
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_bytes_are_damaged_a_read_gives_the_truth_or_an_error_that_says_of_what() {
    const FLIPS: u64 = 250;
    let folder = Folder::new();
    fill(&folder.file("a")).await;
    let store = open(&folder.file("a")).await;
    let truth = ask(&store).await;
    let versions: Vec<u64> =
        truth.logs[3..].iter().map(|(_, events)| events.as_ref().unwrap().len() as u64).collect();
    store.close().await;
    let bytes = std::fs::read(folder.file("a")).unwrap();
    let (mut refused, mut errors, mut harmless) = (0, 0, 0);
    for seed in 0..FLIPS {
        let (mut dice, mut damaged) = (Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1), bytes.clone());
        let mut flips = format!("seed {seed}");
        for _ in 0..=dice.below(3) {
            let (at, mask) = (dice.below(bytes.len()), 1 + dice.below(255) as u8);
            damaged[at] ^= mask;
            flips += &format!(", byte {at} ^ {mask}");
        }
        let file = folder.file(&format!("b{seed}"));
        std::fs::write(&file, &damaged).unwrap();
        let Ok(store) = Sqlite::open(options(&file)).await.map(Store::new) else {
            refused += 1;
            continue;
        };
        if store.define_collection(rows()).await.is_err() {
            refused += 1;
        } else {
            let said = ask(&store).await;
            let told =
                compare(&said.logs, &truth.logs, &flips) + compare(&said.records, &truth.records, &flips);
            errors += told;
            harmless += usize::from(told == 0);
            // Nor is anything built on it: no version is given twice, and what is there is not taken for absent.
            for (key, version) in (0..STREAMS).zip(&versions) {
                let event = Envelope::raw("thing.more", "{}");
                if let Ok(done) =
                    store.commit(Commit::new().append(stream(key), Expected::Any, [event])).await
                {
                    assert_eq!(done.appended[0].version, version + 1, "{flips}: {}", stream(key));
                }
            }
            for n in 0..RECORDS {
                let again = store.commit(put(Commit::new(), n, Revision::Absent)).await;
                assert!(again.is_err(), "{flips}: the record {n} was taken for absent");
            }
        }
        store.close().await;
        let _ = std::fs::remove_file(&file);
    }
    let seen = format!("{refused} not opened, {errors} reads refused, {harmless} of {FLIPS} harmless");
    assert!(refused < FLIPS / 2 && errors > 500 && harmless < FLIPS as usize / 3, "{seen}");
}

/// Changes a closed file behind the store's back.
fn change(file: &Path, sql: &str) {
    let file = rusqlite::Connection::open(file).unwrap();
    assert!(file.execute(sql, []).unwrap() > 0, "{sql}");
}

#[tokio::test]
async fn a_damaged_event_is_named_and_the_others_are_served() {
    let folder = Folder::new();
    fill(&folder.file("a")).await;
    change(&folder.file("a"), "UPDATE _event SET data = replace(data, 'x', 'y') WHERE position = 101");
    let store = open(&folder.file("a")).await;
    let id = stream(100 * 100 % STREAMS);
    let expected = format!("the event at 101 (`thing.counted-1` of the stream `{id}`)");
    let of_log = store.read_log(Position(50), &LogFilter::all(), 100).await.unwrap_err();
    let of_stream = store.read_stream(&id, 1, 1_000).await.unwrap_err();
    assert_eq!((named(&of_log), named(&of_stream)), (expected.clone(), expected));
    assert_eq!(store.read_log(Position::START, &LogFilter::all(), 100).await.unwrap().events.len(), 100);
    assert!(!store.read_log(Position(101), &LogFilter::all(), 100).await.unwrap().events.is_empty());
    for other in (0..STREAMS).map(stream).filter(|other| *other != id) {
        store.read_stream(&other, 1, 1_000).await.unwrap();
    }
    // One that the reader does not want, and that seems to be wanted or not, is told all the same.
    store.close().await;
    let public = "CAST(substr(header, 1, 42) || x'02' || substr(header, 44) AS BLOB)";
    change(&folder.file("a"), &format!("UPDATE _event SET header = {public} WHERE position = 11"));
    let store = open(&folder.file("a")).await;
    let of_public = store.read_log(Position::START, &LogFilter::public(), 100).await.unwrap_err();
    assert!(named(&of_public).contains("the event at 11 "), "{of_public:?}");
    store.close().await;
    change(&folder.file("a"), "DELETE FROM _event WHERE position = 31");
    let store = open(&folder.file("a")).await;
    let missing = store.read_log(Position(20), &LogFilter::category("other"), 100).await.unwrap_err();
    assert_eq!(named(&missing), "the event at 31");
    store.close().await;
    let found = purlin_sqlite::check(folder.file("a")).await.unwrap();
    let [one, two, three] = found.as_slice() else { panic!("{found:?}") };
    assert!(one.starts_with("the event at 11 (") && three.starts_with("the event at 101 ("), "{found:?}");
    assert_eq!(two, "the events from 31 to 31 are missing");
}

#[tokio::test]
async fn a_damaged_record_is_named_and_no_commit_is_decided_by_it() {
    let folder = Folder::new();
    fill(&folder.file("a")).await;
    change(&folder.file("a"), "UPDATE rows SET _revision = _revision + 1 WHERE _key = 'key-004'");
    let store = open(&folder.file("a")).await;
    store.define_collection(rows()).await.unwrap();
    let found = purlin_sqlite::check(folder.file("a")).await.unwrap();
    assert_eq!(found, ["the record `key-004` of `rows`"]);
    let named_by = store.get_record("rows", "key-004").await.unwrap_err();
    assert_eq!(named(&named_by), "the record `key-004` of `rows`");
    assert!(store.get_record("rows", "key-005").await.unwrap().is_some());
    let refused = store.commit(put(Commit::new(), 4, Revision::Exact(1))).await.unwrap_err();
    assert!(
        matches!(&refused, CommitError::Unavailable(cause) if cause.to_string().contains("key-004")),
        "{refused:?}"
    );
    // Whether there is another record can no more be known; what is there can be written.
    assert!(store.get_record("rows", "key-999").await.is_err());
    assert!(store.list_records("rows", Query::all()).await.is_err());
    store.commit(put(Commit::new(), 5, Revision::Any)).await.unwrap();
    // Written anew, it is whole again, and the next opening finds nothing.
    store.commit(put(Commit::new(), 4, Revision::Any)).await.unwrap();
    store.close().await;
    assert_eq!(purlin_sqlite::check(folder.file("a")).await.unwrap(), [""; 0]);
    let store = open(&folder.file("a")).await;
    assert_eq!(store.list_records("rows", Query::all()).await.unwrap().records.len(), RECORDS as usize);
    store.close().await;
}

#[tokio::test]
async fn a_damaged_index_is_made_anew_from_the_log() {
    let folder = Folder::new();
    fill(&folder.file("a")).await;
    let store = open(&folder.file("a")).await;
    let truth = ask(&store).await;
    store.close().await;
    for sql in [
        "UPDATE _run SET filter = zeroblob(length(filter))",
        "DELETE FROM _run WHERE run = (SELECT max(run) FROM _run)",
        "UPDATE _run SET level = -1 WHERE run = (SELECT min(run) FROM _run)",
        "UPDATE _block SET entries = zeroblob(length(entries)) WHERE block = (SELECT min(block) FROM _block)",
        "DELETE FROM _block",
    ] {
        change(&folder.file("a"), sql);
        let store = open(&folder.file("a")).await;
        // The first who meets a damaged block is told; then it is mended.
        let mut errors = 0;
        for key in 0..STREAMS {
            while let Err(error) = store.read_stream(&stream(key), 1, 10_000).await {
                assert!(named(&error).starts_with("the index of the stream"), "{error:?}");
                errors += 1;
                assert!(errors < 100_000, "{sql}: it is not mended");
                tokio::task::yield_now().await;
            }
        }
        assert_eq!(ask(&store).await, truth, "{sql}");
        store.close().await;
    }
}

/// As format 1 made it.
const FORMAT_1: &str = "
CREATE TABLE _meta(name TEXT PRIMARY KEY, value) WITHOUT ROWID;
CREATE TABLE _event(
    position INTEGER PRIMARY KEY,
    stream TEXT NOT NULL,
    version INTEGER NOT NULL,
    kind TEXT NOT NULL,
    id BLOB NOT NULL,
    at INTEGER NOT NULL,
    schema INTEGER NOT NULL,
    public INTEGER NOT NULL,
    meta BLOB,
    data TEXT NOT NULL
);
CREATE TABLE _run(
    run INTEGER PRIMARY KEY,
    level INTEGER NOT NULL,
    through INTEGER NOT NULL,
    fences BLOB NOT NULL,
    filter BLOB NOT NULL
);
CREATE TABLE _block(block INTEGER PRIMARY KEY, entries BLOB NOT NULL);
CREATE TABLE _collection(name TEXT PRIMARY KEY, fields TEXT NOT NULL) WITHOUT ROWID;
INSERT INTO _meta(name, value) VALUES('format', 1), ('log', x'000102030405060708090a0b0c0d0e0f'), ('incarnation', 1),
    ('revision', 77);
WITH RECURSIVE n(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < 500)
INSERT INTO _event SELECT n, 'thing-' || (n % 10 * 2), (n - 1) / 10 + 1, 'thing.counted', randomblob(16),
    1700000000000000, 1, 0, NULL, '{\"n\":' || n || '}' FROM n;
INSERT INTO _run VALUES(1, 0, 60, x'00', x'00');
INSERT INTO _block VALUES(1, x'00');
CREATE TABLE \"marks\"(_key TEXT PRIMARY KEY, _revision INTEGER NOT NULL, _position INTEGER NOT NULL,
    _due INTEGER, _value TEXT NOT NULL) WITHOUT ROWID;
CREATE INDEX \"_x._due\" ON \"marks\"(_due) WHERE _due IS NOT NULL;
INSERT INTO _collection VALUES('marks', '');
INSERT INTO marks VALUES('a', 77, 500, NULL, '{}');
";

#[tokio::test]
async fn a_file_without_checksums_is_given_them_from_then_on() {
    let folder = Folder::new();
    let file = rusqlite::Connection::open(folder.file("a")).unwrap();
    file.pragma_update(None, "journal_mode", "WAL").unwrap();
    file.execute_batch(FORMAT_1).unwrap();
    // A stream that cannot have one event more.
    let full = "UPDATE _event SET stream = 'other-1', version = (1 << 40) - 1 WHERE position = 500";
    file.execute(full, []).unwrap();
    drop(file);
    let refused = purlin_sqlite::check(folder.file("a")).await.unwrap_err();
    assert!(format!("{refused:?}").contains("Older(1)"), "{refused:?}");
    let marks = Collection { name: "marks".into(), fields: [].as_slice().into() };
    for life in 0..2 {
        let store = open(&folder.file("a")).await;
        assert_eq!(store.head(), Position(500 + life));
        assert_eq!(store.read_log(Position::START, &LogFilter::all(), 500).await.unwrap().events.len(), 500);
        assert_eq!(store.read_stream(&stream(4), 1, 50).await.unwrap().len(), 50);
        assert_eq!(store.get_record("marks", "a").await.unwrap().unwrap().revision, 77);
        let event = Envelope::raw("thing.counted", "{}");
        let full = Commit::new().append(stream(1), Expected::Any, [event.clone()]);
        assert!(matches!(store.commit(full).await, Err(CommitError::Invalid(_))));
        let commit = Commit::new().append(stream(4), Expected::Version(50 + life), [event]);
        let put = commit.put_in(&marks, format!("new-{life}"), &7, Revision::Absent, None);
        store.commit(put).await.unwrap();
        store.close().await;
    }
    // What was there without stays so, and is believed; what is new is not believed without.
    change(&folder.file("a"), "UPDATE _event SET data = '{}' WHERE position = 17");
    let without = "CAST(x'00000000' || substr(id, 5) AS BLOB)";
    change(&folder.file("a"), &format!("UPDATE _event SET id = {without} WHERE position = 502"));
    change(&folder.file("a"), "UPDATE marks SET _sum = NULL WHERE _key = 'new-1'");
    let store = open(&folder.file("a")).await;
    assert_eq!(store.read_log(Position::START, &LogFilter::all(), 501).await.unwrap().events.len(), 501);
    assert!(named(&store.read_log(Position(501), &LogFilter::all(), 1).await.unwrap_err()).contains("502"));
    assert!(named(&store.get_record("marks", "new-1").await.unwrap_err()).contains("new-1"));
    assert!(store.get_record("marks", "new-0").await.unwrap().is_some());
    store.close().await;
}

#[tokio::test]
async fn a_tag_that_is_missing_or_too_many_is_named() {
    let folder = Folder::new();
    let file = folder.file("a");
    let store = open(&file).await;
    for n in 0..3 {
        let event = Envelope::raw("thing.tagged", "1").tagged([format!("t:{n}"), "all".to_owned()]);
        store.commit(Commit::new().append(stream(1), Expected::Any, [event])).await.unwrap();
    }
    store.close().await;
    assert_eq!(purlin_sqlite::check(&file).await.unwrap(), [""; 0]);
    change(&file, "UPDATE _tag SET tag = 't:9' WHERE tag = 't:1'");
    let found = purlin_sqlite::check(&file).await.unwrap();
    assert_eq!(found, ["a tag of the event at 2 (`thing.tagged` of the stream `other-1`)"]);
    change(&file, "UPDATE _tag SET tag = 't:1' WHERE tag = 't:9'");
    change(&file, "INSERT INTO _tag VALUES('t:9', 7, 'thing.tagged')");
    assert_eq!(purlin_sqlite::check(&file).await.unwrap(), ["1 tags of no event"]);
}

#[tokio::test]
async fn a_tag_that_an_event_has_not_is_told_to_who_reads_by_it() {
    let folder = Folder::new();
    let file = folder.file("a");
    let store = open(&file).await;
    for kind in ["thing.tagged", "thing.tagged", "thing.moved"] {
        let event = Envelope::raw(kind, "1").tagged(["all"]);
        store.commit(Commit::new().append(stream(1), Expected::Any, [event])).await.unwrap();
    }
    store.close().await;
    let (tags, by_kind) = (EventQuery::tagged, |kind| EventQuery::tagged(["all"]).kinds([kind]));
    let damages = [
        ("INSERT INTO _tag VALUES('t:9', 2, 'thing.tagged')", tags(["t:9"])),
        ("UPDATE _tag SET kind = 'thing.moved' WHERE position = 2", by_kind("thing.moved")),
    ];
    for (damage, query) in damages {
        change(&file, damage);
        let store = open(&file).await;
        let read = async |filter: LogFilter| store.read_log(Position::START, &filter, 10).await;
        let refused = read(LogFilter::matching(query.clone())).await.unwrap_err();
        assert_eq!(named(&refused), "the tags of the event at 2");
        // What else is asked may well be what an event with the tag is not.
        let others = LogFilter { category: Some("thing".into()), ..LogFilter::tagged(["all"]) };
        let page = read(others).await.unwrap();
        assert_eq!((page.events.len(), page.through), (0, Position(3)));
        store.close().await;
    }
}

#[tokio::test]
async fn what_is_cut_off_under_a_reader_is_an_error_of_its_read() {
    let folder = Folder::new();
    let file = folder.file("a");
    let store = open(&file).await;
    for n in 0..100 {
        let event = Envelope::raw("thing.counted", format!("\"{}\"", "x".repeat(6_000)));
        store.commit(Commit::new().append(stream(n), Expected::Any, [event])).await.unwrap();
    }
    store.close().await;
    let store = open(&file).await;
    // Whatever a reader does with a file once and for all it has done.
    let all = LogFilter::all();
    let first = (0..64).map(|_| store.read_log(Position::START, &all, 1));
    assert!(futures_util::future::join_all(first).await.iter().all(Result::is_ok));
    let cut = std::fs::OpenOptions::new().write(true).open(&file).unwrap();
    cut.set_len(cut.metadata().unwrap().len() / 8192 * 4096).unwrap();
    let (mut after, mut seen) = (Position::START, 0);
    let refused = loop {
        match store.read_log(after, &all, 10).await {
            Ok(page) => (after, seen) = (page.through, seen + page.events.len()),
            Err(error) => break error,
        }
    };
    assert!(seen < 100, "half of them are gone: {refused:?}");
}
