//! The archive: where it lies, how it is read, and what becomes of an older store and of the programs that use it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::future::join3;
use purlin::message::Envelope;
use purlin::store::archive::{Progress, Selection};
use purlin::store::{Collection, Commit, Expected, LogFilter, Position, Recorded, Store, StreamId};
use tokio_postgres::Client;

use crate::server::{Server, until};

fn stream(key: impl std::fmt::Display) -> StreamId {
    StreamId::new("thing", key).expect("a name")
}

fn event() -> Envelope {
    Envelope::raw("thing.counted", "{\"n\":1}")
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_seldom_read_lies_apart() {
    let Some(server) = Server::start() else { return };
    it_lies_where_it_was_told_to(&server).await;
    an_older_store_is_split_and_its_programs_read_on_and_cannot_write(&server).await;
    a_store_of_format_3_finds_its_streams_by_a_hash(&server).await;
    a_store_is_upgraded_under_those_who_use_it(&server).await;
    a_page_is_read_in_the_order_of_two_indexes(&server).await;
    nobody_misses_what_is_moved_under_him(&server).await;
}

/// A store with so many streams of four events.
async fn filled(url: String, name: &str, streams: u64) -> Store {
    let store = purlin_postgres::open(url, name).await.expect("a store");
    for key in 0..streams {
        let four = Commit::new().append(stream(key), Expected::NoStream, (0..4).map(|_| event()));
        store.commit(four).await.expect("it is taken");
    }
    store
}

async fn log(store: &Store) -> Vec<Recorded> {
    store.read_log(Position::START, &LogFilter::all(), 100_000).await.expect("readable").events
}

async fn archive(store: &Store) -> Progress {
    store.archive(&Selection::category("thing"), |_| ()).await.expect("archived")
}

async fn number(client: &Client, sql: &str) -> i64 {
    client.query_one(sql, &[]).await.expect("a number").get(0)
}

async fn it_lies_where_it_was_told_to(server: &Server) {
    let client = server.client().await;
    let place = format!("CREATE TABLESPACE \"slow disk\" LOCATION '{}'", server.make_folder("slow"));
    client.batch_execute(&place).await.expect("a tablespace");
    let url = format!("{}?application_name=x&archive_tablespace=slow disk", server.url());
    let store = filled(url, "placed", 3).await;
    let before = log(&store).await;
    let moved = archive(&store).await;
    assert_eq!((moved.events, moved.bytes), (9, 63));
    assert_eq!(log(&store).await, before);
    // The table, its two indexes, and what is too large for a row.
    let there = "SELECT count(*) FROM pg_class c JOIN pg_tablespace t ON t.oid = c.reltablespace \
                 WHERE t.spcname = 'slow disk'";
    assert_eq!(number(&client, there).await, 5);
    assert_eq!(number(&client, "SELECT count(*) FROM placed._archive").await, 9);
    assert_eq!(number(&client, "SELECT count(*) FROM placed._hot").await, 3);
    store.close().await;
    let said = format!("{} archive_tablespace=none", server.words());
    let store = purlin_postgres::open(said, "placed").await.expect("an archive that is there stays");
    assert_eq!(log(&store).await, before);
    assert!(purlin_postgres::open(format!("{}?archive_tablespace=none", server.url()), "new").await.is_err());
}

/// Makes of a store one of format 2.
const AS_IT_WAS: &str = "DROP FUNCTION old._stream; DROP INDEX old._hot_hashtextextended_version_idx; \
     ALTER TABLE old._hot ADD UNIQUE (stream, version); DELETE FROM old._meta WHERE name = 'seed'; UPDATE old._meta SET name = 'collections' WHERE name = 'generation'; DROP VIEW old._event; DROP TABLE old._archive; ALTER TABLE old._hot RENAME TO _event; \
     ALTER TABLE old._batch DROP COLUMN format; UPDATE old._meta SET value = '2' WHERE name = 'format'";

async fn an_older_store_is_split_and_its_programs_read_on_and_cannot_write(server: &Server) {
    let store = filled(server.url(), "old", 5).await;
    let before = log(&store).await;
    store.close().await;
    let client = server.client().await;
    client.batch_execute(AS_IT_WAS).await.expect("as it was");
    // What a program of that format has prepared, and goes on to say.
    let read = "SELECT position, data FROM old._event WHERE position > $1 ORDER BY position";
    let read = client.prepare(read).await.expect("prepared");
    let append = "INSERT INTO old._event(position, stream, version, kind, id, at, schema, public, meta, data) \
                  VALUES(21, 'thing-1', 5, 'x', gen_random_uuid(), 1, 1, false, NULL, '1')";
    let append = client.prepare(append).await.expect("prepared");
    let group = "INSERT INTO old._batch(writer, batch, at, revision) VALUES(gen_random_uuid(), 1, 1, 1)";
    let group = client.prepare(group).await.expect("prepared");

    let store = purlin_postgres::open(server.url(), "old").await.expect("it is upgraded");
    assert_eq!(log(&store).await, before);
    let moved = archive(&store).await;
    assert_eq!(moved.events, 15);
    assert_eq!(client.query(&read, &[&0_i64]).await.expect("it reads").len(), 20, "it misses nothing");
    for statement in [append, group] {
        assert!(client.execute(&statement, &[]).await.is_err(), "it cannot write");
    }
    let next = store.commit(Commit::new().append(stream(1), Expected::Version(4), [event()])).await;
    assert_eq!(next.expect("who knows the format can").position, Position(21));
    assert_eq!(log(&store).await[..20], before);
    let format = "SELECT value::bigint FROM old._meta WHERE name = 'format'";
    assert_eq!(number(&client, format).await, 4);
}

/// Makes of a store one of format 3.
const OF_FORMAT_3: &str = "DROP FUNCTION third._stream; DROP INDEX third._hot_hashtextextended_version_idx; \
     ALTER TABLE third._hot ADD UNIQUE (stream, version); DELETE FROM third._meta WHERE name = 'seed'; \
     UPDATE third._meta SET name = 'collections' WHERE name = 'generation'; \
     ALTER TABLE third._batch DROP CONSTRAINT \"the store is of a newer format than this program\"; \
     UPDATE third._batch SET format = 3; UPDATE third._meta SET value = '3' WHERE name = 'format'";

async fn a_store_of_format_3_finds_its_streams_by_a_hash(server: &Server) {
    let store = filled(server.url(), "third", 5).await;
    assert_eq!(archive(&store).await.events, 15);
    let before = log(&store).await;
    store.close().await;
    let client = server.client().await;
    client.batch_execute(OF_FORMAT_3).await.expect("as it was");
    // A program of that format that runs, and goes on to say what it has prepared.
    let read = client.prepare("SELECT position FROM third._event WHERE stream = $1").await.expect("prepared");
    let group = "INSERT INTO third._batch(writer, batch, at, revision, format) \
                 VALUES(gen_random_uuid(), 1, 1, $1, 3) ON CONFLICT DO NOTHING";
    let group = client.prepare(group).await.expect("prepared");
    client.execute(&group, &[&1_i64]).await.expect("it commits");

    let store = purlin_postgres::open(server.url(), "third").await.expect("it is upgraded");
    assert_eq!(log(&store).await, before);
    let refused = client.execute(&group, &[&2_i64]).await.expect_err("it cannot commit");
    let said = refused.as_db_error().expect("the server says so").message();
    assert!(said.contains("the store is of a newer format than this program"), "{said}");
    client.execute(&group, &[&0_i64]).await.expect("it finds out what became of a group");
    assert_eq!(client.query(&read, &[&"thing-1"]).await.expect("it reads").len(), 4);
    let conflict = store.commit(Commit::new().append(stream(1), Expected::Version(3), [event()])).await;
    assert!(conflict.is_err(), "{conflict:?}");
    let next = store.commit(Commit::new().append(stream(1), Expected::Version(4), [event()])).await;
    assert_eq!(next.expect("the versions go on").position, Position(21));
    let indexes = "SELECT count(*) FROM pg_indexes WHERE schemaname = 'third' AND tablename = '_hot'";
    assert_eq!(number(&client, indexes).await, 2);
    // Whoever knows only SQL finds a stream too, what is archived of it as well, and by both indexes.
    let stream = "SELECT count(*) FROM third._stream('thing-1')";
    assert_eq!(number(&client, stream).await, 5);
    client.batch_execute("SET enable_seqscan = off").await.expect("a setting");
    let plan = client.query("EXPLAIN SELECT * FROM third._stream('thing-1')", &[]).await.expect("a plan");
    let plan: Vec<String> = plan.iter().map(|row| row.get(0)).collect();
    let plan = plan.join("\n");
    assert!(plan.contains("_hot_hashtextextended_version_idx"), "{plan}");
    assert!(plan.contains("_archive_stream_version_key") && !plan.contains("_pkey"), "{plan}");
    store.close().await;
    client.batch_execute("ALTER SCHEMA third RENAME TO renamed").await.expect("another name");
    // Older servers know functions only as texts.
    if number(&client, "SELECT current_setting('server_version_num')::bigint").await >= 140_000 {
        assert_eq!(number(&client, "SELECT count(*) FROM renamed._stream('thing-1')").await, 5);
    }
    let store = purlin_postgres::open(server.url(), "renamed").await.expect("it is the same store");
    assert_eq!(store.head(), Position(21));
}

/// A program of format 3 that commits as it does, until it is refused; how often it did, and what it was told.
async fn commit_in_format_3(old: &Client, lock: i64) -> (u64, String) {
    let prepare = async |sql: &str| old.prepare(sql).await.expect("prepared");
    let last = "SELECT (SELECT value::bigint FROM busy._meta WHERE name = 'collections'), e.position, b.revision \
                FROM (SELECT) AS one \
                LEFT JOIN LATERAL (SELECT position FROM busy._hot ORDER BY position DESC LIMIT 1) AS e ON TRUE \
                LEFT JOIN LATERAL (SELECT revision FROM busy._batch ORDER BY revision DESC LIMIT 1) AS b ON TRUE";
    let head = prepare("SELECT max(version) FROM busy._hot WHERE stream = 'thing-1'").await;
    let batch = "INSERT INTO busy._batch(writer, batch, at, revision, format) \
                 VALUES(gen_random_uuid(), 1, 1, $1, 3)";
    let event = "INSERT INTO busy._hot(position, stream, version, kind, id, at, schema, public, meta, data) \
                 VALUES($1, 'thing-1', $2, 'x', gen_random_uuid(), 1, 1, false, NULL, '1')";
    let (last, batch, event) = (prepare(last).await, prepare(batch).await, prepare(event).await);
    let begin = format!("BEGIN; SELECT pg_advisory_xact_lock({lock})");
    for done in 0.. {
        old.batch_execute(&begin).await.expect("it has the lock");
        let last = old.query_one(&last, &[]).await.expect("readable");
        let (position, revision) = (last.get::<_, i64>(1) + 1, last.get::<_, i64>(2) + 1);
        let version = old.query_one(&head, &[]).await.expect("readable").get::<_, i64>(0) + 1;
        if let Err(error) = old.execute(&batch, &[&revision]).await {
            old.batch_execute("ROLLBACK").await.expect("it ends");
            return (done, error.as_db_error().expect("the server says so").message().to_owned());
        }
        old.execute(&event, &[&position, &version]).await.expect("it appends");
        old.batch_execute("COMMIT").await.expect("it commits");
    }
    unreachable!("it commits for ever");
}

/// A program of format 3 commits all the time, somebody reads for long, and the role's statements may not take long.
async fn a_store_is_upgraded_under_those_who_use_it(server: &Server) {
    let store = filled(server.url(), "busy", 5).await;
    // Of that format, the log's lock was half of its id.
    let lock = store.log_id().log.as_u64_pair().0.cast_signed();
    store.close().await;
    let [client, old, long] = [server.client().await, server.client().await, server.client().await];
    client.batch_execute(&OF_FORMAT_3.replace("third", "busy")).await.expect("as it was");
    client.batch_execute("ALTER ROLE postgres SET statement_timeout = '200ms'").await.expect("a setting");
    long.batch_execute("BEGIN; SELECT FROM busy._event LIMIT 1").await.expect("it reads");
    let write = commit_in_format_3(&old, lock);
    let open = async {
        until(&client, "SELECT count(*) FROM busy._hot", |events| events > 22).await;
        purlin_postgres::open(server.url(), "busy").await.expect("it is upgraded")
    };
    let read = async {
        let waits = "SELECT count(*) FROM pg_locks WHERE mode = 'AccessExclusiveLock' AND NOT granted";
        until(&client, waits, |waiting| waiting > 0).await;
        // Who reads now does not wait for the one who reads long.
        let read = client.query("SELECT position FROM busy._event", &[]);
        let read = tokio::time::timeout(Duration::from_secs(30), read).await.expect("in time");
        assert!(read.expect("readable").len() > 22);
        long.batch_execute("COMMIT").await.expect("it has read");
    };
    let ((done, refused), store, ()) = join3(write, open, read).await;
    client.batch_execute("ALTER ROLE postgres RESET statement_timeout").await.expect("a setting");
    assert!(refused.contains("the store is of a newer format than this program"), "{refused}");
    let events = log(&store).await;
    let versions = events.iter().filter(|event| event.stream == stream(1)).map(|event| event.version);
    assert!(versions.eq(1..=4 + done));
    assert!(events.iter().zip(1..).all(|(event, position)| event.position == Position(position)));
    // It looks for streams while it holds its lock; nobody else waits for that.
    let begin = format!("BEGIN; SELECT pg_advisory_xact_lock({lock})");
    old.batch_execute(&begin).await.expect("it has its lock");
    let next = store.commit(Commit::new().append(stream(1), Expected::Version(4 + done), [event()]));
    let next = tokio::time::timeout(Duration::from_secs(30), next).await.expect("in time");
    assert_eq!(next.expect("it is taken").position, Position(21 + done));
    // Nor does it change collections.
    let change = "UPDATE busy._meta SET value = (value::bigint + 1)::text WHERE name = 'collections'";
    assert!(old.batch_execute(change).await.is_err());
    let things = Collection { name: "things".into(), fields: [].as_slice().into() };
    store.define_collection(things).await.expect("who knows the format does");
}

/// Also when the plan was made while the archive was empty, and is used when it no longer is.
async fn a_page_is_read_in_the_order_of_two_indexes(server: &Server) {
    let store = filled(server.url(), "plans", 50).await;
    let client = server.client().await;
    client
        .batch_execute("SET enable_seqscan = off; SET jit = off; SET plan_cache_mode = force_generic_plan")
        .await
        .expect("settings");
    let asked = "SELECT DISTINCT query FROM pg_stat_activity \
                 WHERE application_name = 'purlin plans' AND query LIKE '%_event%' LIMIT 1";
    for (n, moved) in [false, true].into_iter().enumerate() {
        if moved {
            archive(&store).await;
        }
        for (what, values) in [("log", "0, 50000, 100"), ("stream", "'thing-1', 1, 10")] {
            // Both connections that read say it, so that nothing else is what they said last.
            for _ in 0..2 {
                match what {
                    "log" => drop(log(&store).await),
                    _ => drop(store.read_stream(&stream(1), 1, 10).await.expect("readable")),
                }
            }
            let sql: String = client.query_one(asked, &[]).await.expect("it was said").get(0);
            client.batch_execute(&format!("PREPARE {what}{n} AS {sql}")).await.expect("prepared");
            let plan =
                client.query(&format!("EXPLAIN EXECUTE {what}{n}({values})"), &[]).await.expect("a plan");
            let plan: Vec<String> = plan.iter().map(|row| row.get(0)).collect();
            let plan = plan.join("\n");
            assert!(plan.contains("Merge Append") && plan.matches("Index Scan using").count() == 2, "{plan}");
            assert!(!plan.contains("Sort  ") && !plan.contains("Seq Scan"), "{plan}");
        }
    }
}

/// One process appends, a second one archives, and a third one reads pages and streams all the time.
async fn nobody_misses_what_is_moved_under_him(server: &Server) {
    const STREAMS: u64 = 8;
    const EACH: u64 = 60;
    let open = async || purlin_postgres::open(server.url(), "moved").await.expect("a store");
    let (writer, archiver, reader) = (open().await, open().await, open().await);
    let stop = AtomicBool::new(false);
    let append = async {
        for n in 0..EACH {
            for key in 0..STREAMS {
                let next = Commit::new().append(stream(key), Expected::Version(n), [event()]);
                writer.commit(next).await.expect("no rival writes this stream");
            }
        }
    };
    let read = async {
        let mut looks = 0;
        while !stop.load(Ordering::Relaxed) {
            let (mut seen, mut after, until) = (0, Position::START, reader.head());
            while after < until {
                let page = reader.read_log(after, &LogFilter::all(), 17).await.expect("a page");
                for event in &page.events {
                    seen += 1;
                    assert_eq!(event.position, Position(seen), "nothing is missing, nothing is there twice");
                }
                after = page.through;
            }
            let of_one = reader.read_stream(&stream(looks % STREAMS), 1, 1000).await.expect("readable");
            assert!(of_one.iter().zip(1..).all(|(event, version)| event.version == version));
            looks += 1;
        }
        looks
    };
    let move_away = async {
        let mut moved = 0;
        while moved < STREAMS * (EACH - 1) {
            moved += archive(&archiver).await.events;
        }
        stop.store(true, Ordering::Relaxed);
    };
    let ((), (), looks) = join3(append, move_away, read).await;
    assert!(looks > 3, "{looks}");
    assert_eq!(log(&reader).await.len(), (STREAMS * EACH) as usize);
    assert_eq!(reader.head(), Position(STREAMS * EACH), "it has read so far");
}
