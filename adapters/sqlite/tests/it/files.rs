//! Files: who may open them, and what is in them.

use purlin::message::{Clock, Envelope, Fault, FaultKind};
use purlin::store::{
    Collection, Commit, Expected, Field, LogFilter, Position, Query, Row, Store, StreamId, TokenError,
};
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
    assert!(matches!(refused, OpenError::Newer { found: 99, known: 1, .. }), "{refused}");
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
async fn a_backup_is_a_store_as_of_one_instant() {
    let folder = Folder::new();
    let store = purlin_sqlite::open(folder.file("a")).await.unwrap();
    store.commit(Commit::new().append(stream(1), Expected::Any, [event()])).await.unwrap();
    store.backup(&folder.file("copy")).await.unwrap();
    store.commit(Commit::new().append(stream(1), Expected::Any, [event()])).await.unwrap();
    assert!(store.backup(&folder.file("copy")).await.is_err(), "a file that is there is not written over");
    let copy = purlin_sqlite::open(folder.file("copy")).await.unwrap();
    assert_eq!((copy.head(), store.head()), (Position(1), Position(2)));
    copy.close().await;
    store.close().await;
}

#[tokio::test]
async fn a_copy_that_goes_on_is_another_incarnation_each_time_one_is_restored() {
    let folder = Folder::new();
    let store = purlin_sqlite::open(folder.file("a")).await.unwrap();
    store.commit(Commit::new().append(stream(1), Expected::Any, [event()])).await.unwrap();
    let token = store.token(store.head());
    let before = store.log_id();
    store.backup(&folder.file("copy")).await.unwrap();
    store.close().await;
    // A backup, a backup of it that nobody has opened, and the store's own files.
    purlin_sqlite::restore(folder.file("copy"), folder.file("b")).await.unwrap();
    purlin_sqlite::restore(folder.file("copy"), folder.file("c")).await.unwrap();
    purlin_sqlite::restore(folder.file("a"), folder.file("d")).await.unwrap();
    let again = purlin_sqlite::restore(folder.file("copy"), folder.file("b")).await.unwrap_err();
    assert!(matches!(again, OpenError::Database { .. }), "what is there is not written over: {again}");
    assert!(purlin_sqlite::restore(folder.file("none"), folder.file("e")).await.is_err());
    let mut seen = vec![before];
    for name in ["copy", "b", "c", "d"] {
        let restored = purlin_sqlite::open(folder.file(name)).await.unwrap();
        let id = restored.log_id();
        assert_eq!((id.log, restored.head()), (before.log, Position(1)), "`{name}` is the same log");
        assert!(!seen.contains(&id), "`{name}` begins a life of its own");
        assert_eq!(restored.parse_token(&token), Err(TokenError::OtherIncarnation));
        seen.push(id);
        restored.close().await;
        let reopened = purlin_sqlite::open(folder.file(name)).await.unwrap();
        assert_eq!(reopened.log_id(), id, "and goes on with it");
        reopened.close().await;
    }
    let original = purlin_sqlite::open(folder.file("a")).await.unwrap();
    assert_eq!((original.log_id(), original.parse_token(&token)), (before, Ok(Position(1))));
    original.close().await;
}

#[tokio::test]
async fn a_backup_that_fails_leaves_nothing_and_reads_go_on_beside_several() {
    let folder = Folder::new();
    let store = purlin_sqlite::open(folder.file("a")).await.unwrap();
    store.commit(Commit::new().append(stream(1), Expected::Any, [event()])).await.unwrap();
    let names = ["b", "c", "d", "e"].map(|name| folder.file(name));
    let backups = futures_util::future::join_all(names.iter().map(|to| store.backup(to)));
    let (made, read) = futures_util::future::join(backups, store.read_stream(&stream(1), 1, 10)).await;
    assert!(made.iter().all(Result::is_ok), "{made:?}");
    assert_eq!(read.unwrap().len(), 1);
    let nowhere = folder.file("none").join("copy.db");
    assert!(store.backup(&nowhere).await.is_err());
    // What another process left that died while it wrote one.
    std::fs::write(folder.file("f").with_extension("db.part"), "half of it").unwrap();
    store.backup(&folder.file("f")).await.unwrap();
    store.close().await;
    assert!(store.backup(&folder.file("g")).await.is_err(), "a closed store writes no backup");
    let left = std::fs::read_dir(folder.file("a").parent().unwrap()).unwrap();
    let parts = left.filter(|entry| entry.as_ref().unwrap().path().to_string_lossy().contains(".part"));
    assert_eq!(parts.count(), 0);
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
    file.execute_batch("UPDATE _event SET id = x'00' WHERE position = 2; UPDATE leases SET _revision = 'x'")
        .unwrap();
    drop(file);
    let store = purlin_sqlite::open(folder.file("a")).await.unwrap();
    let log = store.read_log(Position::START, &LogFilter::all(), 10).await.unwrap_err();
    let of_stream = store.read_stream(&stream(2), 1, 10).await.unwrap_err();
    for error in [&log, &of_stream, &store.get::<Lease>("a").await.unwrap_err()] {
        assert_eq!(error.kind(), FaultKind::Bug, "asking again would not help: {error}");
    }
    assert!(log.to_string().contains("event at 2 (`thing.counted` of the stream `thing-2`)"), "{log}");
    assert!(of_stream.to_string().contains("event at 2 of `thing-2`"), "{of_stream}");
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
async fn what_a_swap_put_aside_goes_away_and_the_rest_stays() {
    let folder = Folder::new();
    let store = purlin_sqlite::open(folder.file("a")).await.unwrap();
    let fields = vec![Field::integer("n"), Field::texts("tags")];
    let [live, next] =
        ["rows", "rows_v2"].map(|name| Collection { name: name.into(), fields: fields.clone().into() });
    for (of, count) in [(&live, 1700), (&next, 3)] {
        store.define_collection(of.clone()).await.unwrap();
        let put = |commit: Commit, n: i64| {
            let row = serde_json::json!({ "n": n, "tags": ["a", n.to_string()] });
            commit.put_in(of, n.to_string(), &row, purlin::store::Revision::Any, None)
        };
        store.commit((0..count).fold(Commit::new(), put)).await.unwrap();
    }
    store.swap("rows_v2", "rows").await.unwrap();
    let found = store.list_records("rows", Query::all().and("tags", "a")).await.unwrap();
    assert_eq!(found.records.len(), 3);
    store.drop_collection("rows_v2").await.unwrap();
    store.close().await;
    // It is put aside; whoever opens the store next goes on with it.
    let file = rusqlite::Connection::open(folder.file("a")).unwrap();
    let tables = || {
        let mut select = file
            .prepare("SELECT name FROM sqlite_schema WHERE type <> 'index' AND name LIKE '%rows%'")
            .unwrap();
        let names = select.query_map([], |row| row.get::<_, String>(0)).unwrap();
        names.collect::<Result<Vec<_>, _>>().unwrap()
    };
    assert_eq!(tables(), ["rows", "rows.tags"]);
    let gone = || {
        let sql = "SELECT count(*) FROM sqlite_schema WHERE name LIKE '\\_gone%' ESCAPE '\\'";
        file.query_row(sql, [], |row| row.get::<_, i64>(0)).unwrap()
    };
    let store = purlin_sqlite::open(folder.file("a")).await.unwrap();
    while gone() > 0 {
        tokio::task::yield_now().await;
    }
    let found = store.list_records("rows", Query::all().and("n", 2)).await.unwrap();
    assert_eq!(found.records.len(), 1);
    store.close().await;
}

#[tokio::test]
async fn a_collection_of_an_older_program_gets_what_it_lacks() {
    let folder = Folder::new();
    let tagged = Collection { name: "tagged".into(), fields: vec![Field::texts("tags")].into() };
    let store = purlin_sqlite::open(folder.file("a")).await.unwrap();
    store.define_collection(Collection { fields: [].as_slice().into(), ..tagged.clone() }).await.unwrap();
    store.close().await;
    let file = rusqlite::Connection::open(folder.file("a")).unwrap();
    file.execute_batch(
        r#"UPDATE _collection SET fields = 'tags:texts';
           INSERT INTO tagged(_key, _revision, _position, _value) VALUES('k', 1, 0, '{"tags":["x"]}');"#,
    )
    .unwrap();
    drop(file);
    let store = purlin_sqlite::open(folder.file("a")).await.unwrap();
    let found = store.list_records("tagged", Query::all().and("tags", "x")).await.unwrap();
    assert_eq!(found.records.len(), 1);
    store.close().await;
}

#[tokio::test]
async fn more_commits_than_the_queue_holds_are_refused_at_once() {
    let folder = Folder::new();
    let options = Options { queue: 4, ..Options::new(folder.file("a")) };
    let store = Store::new(Sqlite::open(options).await.unwrap());
    let append = |key| store.commit(Commit::new().append(stream(key), Expected::Any, [event()]));
    let outcomes = futures_util::future::join_all((0..2000).map(append)).await;
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
    let half =
        "INSERT INTO _run(level, through, fences, filter) SELECT -2, max(block) + 1, x'', x'' FROM _block;
                INSERT INTO _block(entries) VALUES(x'00'); INSERT INTO _block(entries) VALUES(x'00');";
    file.execute_batch(half).unwrap();
    drop(file);
    let store = Store::new(Sqlite::open(options()).await.unwrap());
    assert_eq!(store.read_stream(&stream(7), 1, 10).await.unwrap().len(), 1);
    assert_eq!(store.read_log(Position::START, &LogFilter::all(), 1000).await.unwrap().events.len(), 200);
    store.close().await;
    let file = rusqlite::Connection::open(folder.file("a")).unwrap();
    assert_eq!(blocks(&file), before);
    assert_eq!(
        file.query_row("SELECT count(*) FROM _run WHERE level < 0", [], |row| row.get::<_, i64>(0)),
        Ok(0)
    );
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

#[tokio::test]
async fn a_collection_may_have_any_legal_name_and_fields() {
    #[derive(serde::Serialize, serde::Deserialize)]
    struct Odd {
        due: String,
        key: i64,
        value: bool,
    }
    impl Row for Odd {
        const COLLECTION: &'static str = "orders__status";
        const FIELDS: &'static [Field] =
            &[Field::text("due"), Field::integer("key"), Field::boolean("value")];
    }
    let folder = Folder::new();
    let store = purlin_sqlite::open(folder.file("a")).await.unwrap();
    let orders = Collection { name: "orders".into(), fields: vec![Field::text("status")].into() };
    store.define_collection(orders).await.unwrap();
    store.define::<Odd>().await.unwrap();
    let odd = Odd { due: "soon".into(), key: 1, value: true };
    store.commit(Commit::new().put("a", &odd)).await.unwrap();
    let found =
        store.list::<Odd>(Query::all().and("due", "soon").and("key", 1).and("value", true)).await.unwrap();
    assert_eq!(found.records.len(), 1);
    store.close().await;
}
