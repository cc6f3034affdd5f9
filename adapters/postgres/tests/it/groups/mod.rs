//! Groups of commits: one round trip as long as nobody else writes, and nothing is believed that the server has not seen.

use std::time::Duration;

use futures_util::future::{join, join_all, join3};
use futures_util::poll;
use purlin::message::{Clock, Envelope, Timestamp};
use purlin::store::{
    Commit, CommitError, Committed, Conflict, EventQuery, Expected, Field, LogFilter, Position, Revision,
    Row, Store, StreamId,
};

use purlin_postgres::{Options, Postgres};
use tokio::net::TcpListener;
use tokio_postgres::Client;

use crate::proxy::Proxy;
use crate::server::Server;

#[derive(Debug, PartialEq, serde::Serialize, serde::Deserialize)]
struct Count {
    n: u64,
}

impl Row for Count {
    const COLLECTION: &'static str = "counts";
    const FIELDS: &'static [Field] = &[Field::integer("n")];
}

fn stream(key: impl std::fmt::Display) -> StreamId {
    StreamId::new("thing", key).expect("a name")
}

fn append(key: impl std::fmt::Display, expected: Expected) -> Commit {
    Commit::new().append(stream(key), expected, [Envelope::raw("thing.counted", "1")])
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_takes_one_round_trip_and_believes_nothing() {
    let Some(server) = Server::start() else { return };
    one_statement_does_it_all(&server).await;
    a_group_that_was_given_up_writes_nothing(&server).await;
    a_group_that_follows_one_that_did_not_happen_writes_nothing(&server).await;
    a_group_follows_one_and_no_other_of_the_same_revision(&server).await;
    for rival in [false, true] {
        a_condition_meets_what_comes_before_its_group(&server, rival).await;
    }
    what_did_not_happen_did_not_however_often_it_is_asked(&server).await;
    what_nobody_waits_for_follows_no_other_either(&server).await;
    commits_keep_their_order_when_the_first_is_lost(&server).await;
    rows_of_writers_that_are_gone_are_removed(&server).await;
    who_may_not_have_functions_writes_all_the_same(&server).await;
    a_function_that_is_gone_is_made_again(&server).await;
    who_is_wrong_about_a_stream_fails_alone(&server).await;
    who_is_wrong_about_a_record_fails_alone(&server).await;
    commits_of_a_group_see_each_other(&server).await;
    what_others_write_is_noticed(&server).await;
}

/// What the writer of a store said last.
async fn said_last(server: &Server, name: &str) -> String {
    let said = "SELECT query FROM pg_stat_activity WHERE application_name = $1 \
                AND (query LIKE '%purlin_append%' OR query = 'COMMIT')";
    let row = server.client().await.query_one(said, &[&format!("purlin {name}")]).await;
    row.expect("the writer has said something").get(0)
}

async fn one_statement_does_it_all(server: &Server) {
    let store = purlin_postgres::open(server.url(), "lean").await.expect("a store");
    for n in 0..5 {
        store.commit(append(1, Expected::Version(n))).await.expect("nobody else writes");
    }
    let said = said_last(server, "lean").await;
    assert!(said.starts_with("SELECT FROM pg_temp.purlin_append"), "{said}");
    store.commit(append(2, Expected::Any)).await.expect("nobody knows the stream here");
    assert_eq!(said_last(server, "lean").await, "COMMIT");
    store.commit(append(2, Expected::Any)).await.expect("now it is known");
    assert_ne!(said_last(server, "lean").await, "COMMIT");
    let refused = store.commit(append(1, Expected::Version(3))).await;
    assert!(matches!(refused, Err(CommitError::Conflict(_))), "{refused:?}");
    store.commit(append(1, Expected::Version(5))).await.expect("nothing was spoiled");
    assert_ne!(said_last(server, "lean").await, "COMMIT");
    // What is not known here is guessed, until that was wrong; then it is asked a few times.
    store.close().await;
    let store = cold(server, "lean").await;
    let refused = store.commit(append(1, Expected::NoStream)).await;
    assert!(matches!(refused, Err(CommitError::Conflict(_))), "{refused:?}");
    let mut asked = Vec::new();
    for key in 100..106 {
        store.commit(append(key, Expected::NoStream)).await.expect("it is new");
        asked.push(said_last(server, "lean").await == "COMMIT");
    }
    assert_eq!(asked, [true, true, true, true, false, false]);
}

async fn who_may_not_have_functions_writes_all_the_same(server: &Server) {
    let client = server.client().await;
    let roles = "CREATE ROLE plain LOGIN; REVOKE TEMP ON DATABASE postgres FROM PUBLIC; \
                 GRANT CREATE ON DATABASE postgres TO plain";
    client.batch_execute(roles).await.expect("a role");
    let url = server.url().replace("postgres@", "plain@");
    let store = purlin_postgres::open(url, "plain").await.expect("a store");
    store.define::<Count>().await.expect("a collection");
    for n in 0..5 {
        let commit = append(1, Expected::Version(n)).put("a", &Count { n });
        store.commit(commit).await.expect("it is taken");
    }
    assert_eq!(said_last(server, "plain").await, "COMMIT");
    let refused = store.commit(append(1, Expected::NoStream)).await;
    assert!(matches!(refused, Err(CommitError::Conflict(_))), "{refused:?}");
    assert_eq!(store.get::<Count>("a").await.expect("readable"), Some(Count { n: 4 }));
}

async fn a_function_that_is_gone_is_made_again(server: &Server) {
    let store = purlin_postgres::open(server.url(), "again").await.expect("a store");
    for n in 0..3 {
        store.commit(append(1, Expected::Version(n))).await.expect("it is taken");
    }
    // It is the session's own; whoever is mighty enough can harm it all the same.
    let drop = "DELETE FROM pg_proc WHERE proname LIKE 'purlin_append%' AND pronamespace::regnamespace::text LIKE 'pg_temp%'";
    server.client().await.batch_execute(drop).await.expect("it is gone");
    let (mut n, mut tries) = (3, 0);
    while n < 6 {
        match store.commit(append(1, Expected::Version(n))).await {
            Ok(_) => n += 1,
            Err(CommitError::Unavailable(_)) => tries += 1,
            Err(error) => panic!("{error:?}"),
        }
        assert!(tries < 10, "it heals");
    }
    assert_eq!(store.read_stream(&stream(1), 1, 100).await.expect("readable").len(), 6);
}

/// A group waits for the lock when its connection ends. The server does not notice, and goes on with what was sent once
/// it has the lock; by then it is settled that the group did not happen, and its commits are on their way again.
async fn a_group_that_was_given_up_writes_nothing(server: &Server) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
    let url = format!("postgres://postgres@{}/postgres", listener.local_addr().expect("it is bound"));
    let proxy = Proxy::default();
    let test = async {
        let patience = Duration::from_secs(60);
        let options = Options { patience, ..Options::new(url, "given_up") };
        let store = Store::new(Postgres::open(options).await.expect("a store"));
        store.define::<Count>().await.expect("a collection");
        let mut revision = Revision::Absent;
        for n in 0..4 {
            let put = append(1, Expected::Version(n)).put_expecting("a", &Count { n }, revision, None);
            revision = Revision::Exact(store.commit(put).await.expect("nobody else writes").revision);
        }
        let client = server.client().await;
        let lock = "SELECT substring(prosrc from 'pg_advisory_xact_lock\\((-?[0-9]+)\\)')::bigint FROM pg_proc \
                    WHERE proname = 'purlin_append' AND prosrc LIKE '%given_up%'";
        let lock: i64 = client.query_one(lock, &[]).await.expect("the writer's function").get(0);
        client.execute("SELECT pg_advisory_lock($1)", &[&lock]).await.expect("the lock of the log");
        let commits = [
            append(1, Expected::Version(4)).put_expecting("a", &Count { n: 4 }, revision, None),
            Commit::new().put("b", &Count { n: 5 }),
        ];
        let commits = join_all(commits.map(|commit| store.commit(commit)));
        let faults = async {
            let waits = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'purlin given_up' \
                         AND wait_event = 'advisory'";
            until(&client, waits, |waiting| waiting == 1).await;
            let given_up = "SELECT count(*) FROM given_up._batch WHERE revision < 0";
            let before: i64 = client.query_one(given_up, &[]).await.expect("a number").get(0);
            proxy.end_all();
            until(&client, given_up, |rows| rows > before).await;
            // Whoever held the lock has committed something, as far as the group can see.
            let other = "INSERT INTO given_up._batch(writer, batch, at, revision, format) \
                         SELECT gen_random_uuid(), 1, max(at), max(revision) + 1, 4 FROM given_up._batch";
            client.execute(other, &[]).await.expect("it is committed");
            client.execute("SELECT pg_advisory_unlock($1)", &[&lock]).await.expect("it was held");
        };
        let (committed, ()) = join(commits, faults).await;
        let committed: Vec<Committed> = committed.into_iter().map(|one| one.expect("it is done")).collect();
        // Whatever was sent on the connection that ended has come to its end too.
        let waits = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted";
        until(&client, waits, |waiting| waiting == 0).await;
        for (key, committed) in ["a", "b"].iter().zip(&committed) {
            let record = store.get_record("counts", key).await.expect("readable").expect("there");
            assert_eq!(record.revision, committed.revision, "the record `{key}` is as its commit left it");
        }
        assert_eq!(store.read_stream(&stream(1), 1, 100).await.expect("readable").len(), 5);
        assert_dense(&store).await;
    };
    tokio::select! {
        () = test => {}
        () = proxy.serve(listener, server.address()) => {}
    }
}

/// Two groups are on their way, the second decided as if the first had happened, and somebody else was faster than both:
/// with an event of the second one's stream, and by chance with the revision that the first would have given.
async fn a_group_that_follows_one_that_did_not_happen_writes_nothing(server: &Server) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
    let url = format!("postgres://postgres@{}/postgres", listener.local_addr().expect("it is bound"));
    let proxy = Proxy::default();
    let test = async {
        // A clock that stands: each commit gives the revision behind the last one.
        let (clock, _) = Clock::manual(Timestamp::UNIX_EPOCH);
        let options = Options { patience: Duration::from_secs(60), clock, ..Options::new(url, "follows") };
        let store = Store::new(Postgres::open(options).await.expect("a store"));
        for key in ["first", "second", "first"] {
            store.commit(append(key, Expected::Any)).await.expect("nobody else writes");
        }
        let client = server.client().await;
        let lock = "SELECT substring(prosrc from 'pg_advisory_xact_lock\\((-?[0-9]+)\\)')::bigint FROM pg_proc \
                    WHERE proname = 'purlin_append' AND prosrc LIKE '%follows%'";
        let lock: i64 = client.query_one(lock, &[]).await.expect("the writer's function").get(0);
        client.execute("SELECT pg_advisory_lock($1)", &[&lock]).await.expect("the lock of the log");
        let first = store.commit(append("first", Expected::Version(2)));
        let second = async {
            let waits = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'purlin follows' \
                         AND wait_event = 'advisory'";
            until(&client, waits, |waiting| waiting == 1).await;
            proxy.look_for("thing-second");
            store.commit(append("second", Expected::Version(1))).await
        };
        let other = async {
            proxy.found().await;
            let faster = "INSERT INTO follows._hot(position, stream, version, kind, id, at, schema, public, data) \
                          SELECT max(position) + 1, 'thing-second', 2, 'x', gen_random_uuid(), 1, 1, false, '1' \
                          FROM follows._hot; \
                          INSERT INTO follows._batch(writer, batch, at, revision, format) \
                          SELECT gen_random_uuid(), 1, max(at), max(revision) + 1, 4 FROM follows._batch";
            client.batch_execute(faster).await.expect("it is committed");
            client.execute("SELECT pg_advisory_unlock($1)", &[&lock]).await.expect("it was held");
        };
        let (first, second, ()) = join3(first, second, other).await;
        assert_eq!(first.expect("its stream is as it was").position, Position(5));
        let Err(CommitError::Conflict(Conflict::Stream { actual: 2, .. })) = second else {
            panic!("{second:?}");
        };
        assert_eq!(store.read_stream(&stream("second"), 1, 100).await.expect("readable").len(), 2);
        assert_dense(&store).await;
        // And when both are lost on their way, each of them happens once.
        client.execute("SELECT pg_advisory_lock($1)", &[&lock]).await.expect("the lock of the log");
        let first = store.commit(append("first", Expected::Version(3)));
        let second = async {
            let waits = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'purlin follows' \
                         AND wait_event = 'advisory'";
            until(&client, waits, |waiting| waiting == 1).await;
            proxy.look_for("thing-second");
            store.commit(append("second", Expected::Version(2))).await
        };
        let lost = async {
            proxy.found().await;
            proxy.end_all();
            let given_up = "SELECT count(*) FROM follows._batch WHERE revision < 0";
            until(&client, given_up, |rows| rows >= 2).await;
            client.execute("SELECT pg_advisory_unlock($1)", &[&lock]).await.expect("it was held");
        };
        let (first, second, ()) = join3(first, second, lost).await;
        assert_eq!(first.expect("it is done").appended[0].version, 4);
        assert_eq!(second.expect("it is done").appended[0].version, 3);
        let waits = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted";
        until(&client, waits, |waiting| waiting == 0).await;
        assert_eq!(store.read_stream(&stream("second"), 1, 100).await.expect("readable").len(), 3);
        assert_dense(&store).await;
    };
    tokio::select! {
        () = test => {}
        () = proxy.serve(listener, server.address()) => {}
    }
}

/// Those who wait for the lock of a log.
const WAITING: &str = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted";

/// Groups that were given up.
fn given_up(name: &str) -> String {
    format!("SELECT count(*) FROM {name}._batch WHERE revision < 0")
}

/// Lets something be done to a store behind a proxy while a client has the lock of the log, whose number it is told. The
/// clock stands: each commit gives the revision behind the last one. The streams `first` (of two events) and `second` (of
/// one) are known to the writer, and how records are written.
async fn held(server: &Server, name: &str, queue: usize, test: impl AsyncFnOnce(Store, Client, Proxy, i64)) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
    let url = format!("postgres://postgres@{}/postgres", listener.local_addr().expect("it is bound"));
    let proxy = Proxy::default();
    let scenario = async {
        let (clock, _) = Clock::manual(Timestamp::UNIX_EPOCH);
        let options = Options { patience: Duration::from_secs(60), clock, queue, ..Options::new(url, name) };
        let store = Store::new(Postgres::open(options).await.expect("a store"));
        store.define::<Count>().await.expect("a collection");
        for key in ["first", "second"] {
            store.commit(append(key, Expected::Any)).await.expect("nobody else writes");
        }
        let record = append("first", Expected::Any).put("a", &Count { n: 0 });
        store.commit(record).await.expect("nobody else writes");
        let client = server.client().await;
        let lock = format!(
            "SELECT substring(prosrc from 'pg_advisory_xact_lock\\((-?[0-9]+)\\)')::bigint FROM pg_proc \
             WHERE proname = 'purlin_append' AND prosrc LIKE '%\"{name}\"%'"
        );
        let lock: i64 = client.query_one(&lock, &[]).await.expect("the writer's function").get(0);
        client.execute("SELECT pg_advisory_lock($1)", &[&lock]).await.expect("the lock of the log");
        test(store, client, proxy.clone(), lock).await;
    };
    tokio::select! {
        () = scenario => {}
        () = proxy.serve(listener, server.address()) => {}
    }
}

async fn let_go(client: &Client, lock: i64) {
    client.execute("SELECT pg_advisory_unlock($1)", &[&lock]).await.expect("it was held");
}

/// A group is lost, and it is written down that it did not happen; that answer is lost too.
async fn what_did_not_happen_did_not_however_often_it_is_asked(server: &Server) {
    held(server, "twice", 1000, async |store, client, proxy, lock| {
        let first = store.commit(append("first", Expected::Version(2)));
        let lost = async {
            until(&client, WAITING, |waiting| waiting == 1).await;
            // What comes first says that the statement is prepared.
            proxy.lose_the_reply("DO UPDATE SET at = b.at", 1);
            proxy.end_all();
            until(&client, &given_up("twice"), |rows| rows == 1).await;
            proxy.found().await;
            // It is asked anew, and the group sent anew.
            until(&client, WAITING, |waiting| waiting == 2).await;
            let_go(&client, lock).await;
        };
        let (first, ()) = join(first, lost).await;
        assert_eq!(first.expect("it is done").appended[0].version, 3);
        assert_eq!(store.read_stream(&stream("first"), 1, 100).await.expect("readable").len(), 3);
        assert_dense(&store).await;
    })
    .await;
}

/// The revision that a group relies on is there, and this very writer has given it, but to another group.
async fn a_group_follows_one_and_no_other_of_the_same_revision(server: &Server) {
    held(server, "same", 1000, async |store, client, proxy, lock| {
        let first = store.commit(append("first", Expected::Version(2)));
        let second = async {
            until(&client, WAITING, |waiting| waiting == 1).await;
            proxy.look_for("thing-second");
            store.commit(append("second", Expected::Version(1)).put("a", &Count { n: 7 })).await
        };
        let other = async {
            proxy.found().await;
            let faster = "INSERT INTO same._hot(position, stream, version, kind, id, at, schema, public, data) \
                          SELECT max(position) + 1, 'thing-second', 2, 'x', gen_random_uuid(), 1, 1, false, '1' \
                          FROM same._hot; \
                          INSERT INTO same._batch(writer, batch, at, revision, format) \
                          SELECT writer, 1000, at, revision + 1, 4 FROM same._batch ORDER BY revision DESC LIMIT 1";
            client.batch_execute(faster).await.expect("it is committed");
            let_go(&client, lock).await;
        };
        let (first, second, ()) = join3(first, second, other).await;
        assert_eq!(first.expect("its stream is as it was").position, Position(5));
        let Err(CommitError::Conflict(Conflict::Stream { actual: 2, .. })) = second else {
            panic!("{second:?}");
        };
        assert_eq!(store.get::<Count>("a").await.expect("readable"), Some(Count { n: 0 }));
        assert_dense(&store).await;
    })
    .await;
}

/// Two groups are on their way, and the second must not be if there is an event with a tag, which the first has; whether
/// the first happens as it was guessed, or a rival was faster.
async fn a_condition_meets_what_comes_before_its_group(server: &Server, rival: bool) {
    let name = if rival { "met_late" } else { "met" };
    held(server, name, 1000, async |store, client, proxy, lock| {
        let tagged = |key: &str, version: u64, tag: &'static str| {
            let event = Envelope::raw("thing.counted", "1").tagged([tag]);
            Commit::new().append(stream(key), Expected::Version(version), [event])
        };
        let first = store.commit(tagged("first", 2, "wanted"));
        let second = async {
            until(&client, WAITING, |waiting| waiting == 1).await;
            proxy.look_for("thing-second");
            let wanted = EventQuery::tagged(["wanted"]);
            store.commit(tagged("second", 1, "other").unless(wanted, Position(3))).await
        };
        let others = async {
            proxy.found().await;
            if rival {
                let faster = "INSERT INTO met_late._hot(position, stream, version, kind, id, at, schema, public, data) \
                              VALUES(4, 'thing-third', 1, 'x', gen_random_uuid(), 1, 1, false, '1'); \
                              INSERT INTO met_late._tag(tag, position, kind) VALUES('wanted', 4, 'x'); \
                              INSERT INTO met_late._batch(writer, batch, at, revision, format) SELECT \
                              gen_random_uuid(), 1, at, revision + 1, 4 FROM met_late._batch ORDER BY revision DESC LIMIT 1";
                client.batch_execute(faster).await.expect("it is committed");
            }
            let_go(&client, lock).await;
        };
        let (first, second, ()) = join3(first, second, others).await;
        let position = first.expect("its stream is as it was").position;
        assert_eq!(position, Position(4 + u64::from(rival)));
        let Err(CommitError::Conflict(Conflict::Condition { found, .. })) = second else {
            panic!("{second:?}");
        };
        assert_eq!(found, position);
        assert_eq!(assert_dense(&store).await, position.0);
    })
    .await;
}

/// Two groups are lost on their way. Nobody waits for the second any more, so it is not found out what became of it; the
/// first is given up, and sent anew. The server still has what was sent of the second, and finds the revision that it
/// relies on.
async fn what_nobody_waits_for_follows_no_other_either(server: &Server) {
    held(server, "nobody", 1000, async |store, client, proxy, lock| {
        let first = store.commit(append("first", Expected::Version(2)));
        let second = async {
            until(&client, WAITING, |waiting| waiting == 1).await;
            proxy.look_for("thing-second");
            tokio::select! {
                early = store.commit(append("second", Expected::Version(1))) => panic!("{early:?}"),
                () = proxy.found() => {}
            }
            proxy.end_all();
            // What was sent of the first, and the first anew.
            until(&client, WAITING, |waiting| waiting == 2).await;
            let_go(&client, lock).await;
        };
        let (first, ()) = join(first, second).await;
        assert_eq!(first.expect("it is done").appended[0].version, 3);
        let busy = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'purlin nobody' AND state = 'active'";
        until(&client, busy, |busy| busy == 0).await;
        assert_eq!(store.read_stream(&stream("second"), 1, 100).await.expect("readable").len(), 1);
        assert_dense(&store).await;
    })
    .await;
}

/// A group is lost on its way, and behind it one was taken of which it cannot be guessed how it goes.
async fn commits_keep_their_order_when_the_first_is_lost(server: &Server) {
    held(server, "kept", 1000, async |store, client, proxy, lock| {
        let first = store.commit(append("first", Expected::Version(2)));
        let rest = async {
            until(&client, WAITING, |waiting| waiting == 1).await;
            let [known, unknown] = ["first", "new"].map(stream);
            let event = || [Envelope::raw("thing.counted", "2")];
            let second = Commit::new().append(known, Expected::Any, event());
            let mut second = Box::pin(store.commit(second.append(unknown, Expected::Any, event())));
            assert!(poll!(second.as_mut()).is_pending());
            let mut third = Box::pin(store.commit(append("second", Expected::Any)));
            assert!(poll!(third.as_mut()).is_pending());
            proxy.end_all();
            until(&client, &given_up("kept"), |rows| rows >= 1).await;
            let_go(&client, lock).await;
            (second.await, third.await)
        };
        let (first, (second, third)) = join(first, rest).await;
        let version = |done: Result<Committed, CommitError>| done.expect("it is done").appended[0].version;
        assert_eq!([first, second, third].map(version), [3, 4, 2]);
        assert_dense(&store).await;
    })
    .await;
}

/// Also while this is the only writer.
async fn rows_of_writers_that_are_gone_are_removed(server: &Server) {
    let store = purlin_postgres::open(server.url(), "dead").await.expect("a store");
    store.commit(append(1, Expected::NoStream)).await.expect("it is taken");
    store.close().await;
    let client = server.client().await;
    let dead = "INSERT INTO dead._batch(writer, batch, at, revision, format) \
                SELECT gen_random_uuid(), 1, at - 172800000000, 1, 4 FROM dead._batch ORDER BY revision DESC LIMIT 1";
    client.execute(dead, &[]).await.expect("a row two days old");
    let store = purlin_postgres::open(server.url(), "dead").await.expect("a store");
    store.commit(append(1, Expected::Version(1))).await.expect("it is taken");
    let left = client.query_one("SELECT count(*) FROM dead._batch WHERE revision = 1", &[]).await;
    assert_eq!(left.expect("a number").get::<_, i64>(0), 0);
}

/// Asks for a number until it is as wanted.
pub(crate) async fn until(client: &Client, sql: &str, wanted: impl Fn(i64) -> bool) {
    let asked = async {
        while !wanted(client.query_one(sql, &[]).await.expect("a number").get(0)) {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), asked).await.expect(sql);
}

/// A store that was opened anew, and knows nothing of its streams but where the log ends.
async fn cold(server: &Server, name: &str) -> Store {
    let store = purlin_postgres::open(server.url(), name).await.expect("a store");
    for _ in 0..2 {
        store.commit(append("warm", Expected::Any)).await.expect("it is taken");
    }
    store
}

async fn who_is_wrong_about_a_stream_fails_alone(server: &Server) {
    let store = cold(server, "streams").await;
    for key in 0..40 {
        store.commit(append(key, Expected::NoStream)).await.expect("it is taken");
    }
    store.close().await;
    let store = cold(server, "streams").await;
    let all = (0..40).map(|key| {
        let expected = if key == 7 { Expected::Version(5) } else { Expected::Version(1) };
        store.commit(append(key, expected))
    });
    for (key, outcome) in join_all(all).await.into_iter().enumerate() {
        match outcome {
            Ok(committed) => assert_eq!((key == 7, committed.appended[0].version), (false, 2)),
            Err(CommitError::Conflict(Conflict::Stream { actual, .. })) => assert_eq!((key, actual), (7, 1)),
            Err(error) => panic!("{error:?}"),
        }
    }
    assert_dense(&store).await;
}

async fn who_is_wrong_about_a_record_fails_alone(server: &Server) {
    let store = cold(server, "records").await;
    store.define::<Count>().await.expect("a collection");
    let put = |key: u64, expected| {
        append(key, Expected::Any).put_expecting(key.to_string(), &Count { n: key }, expected, None)
    };
    let commits = join_all((0..20).map(|key| store.commit(put(key, Revision::Absent)))).await;
    let revisions: Vec<u64> =
        commits.into_iter().map(|committed| committed.expect("nobody had it").revision).collect();
    for rounds in 0..2 {
        let all = (0..20).map(|key| {
            let right = if rounds == 0 { Revision::Exact(revisions[key as usize]) } else { Revision::Any };
            let expected = if key == 7 { Revision::Exact(3) } else { right };
            store.commit(put(key, expected))
        });
        for (key, outcome) in join_all(all).await.into_iter().enumerate() {
            match outcome {
                Ok(_) => assert_ne!(key, 7),
                Err(CommitError::Conflict(Conflict::Record { actual, .. })) => {
                    assert_eq!((key, actual), (7, Some(revisions[7])));
                }
                Err(error) => panic!("{error:?}"),
            }
        }
    }
    let of_seven = store.read_stream(&stream(7), 1, 10).await.expect("readable");
    assert_eq!(of_seven.len(), 1, "the event of what failed is not there");
    assert_dense(&store).await;
}

async fn commits_of_a_group_see_each_other(server: &Server) {
    let store = cold(server, "chains").await;
    store.define::<Count>().await.expect("a collection");
    for round in 0..10 {
        let all = (0..30).map(|n| store.commit(append(round, Expected::Version(n))));
        for (n, outcome) in join_all(all).await.into_iter().enumerate() {
            let committed = outcome.expect("each expects what the one before left");
            assert_eq!(committed.appended[0].version, n as u64 + 1);
        }
        let key = round.to_string();
        let marks = (0..10).map(|n| {
            store.commit(Commit::new().put_expecting(key.clone(), &Count { n }, Revision::Absent, None))
        });
        let marked = join_all(marks).await.into_iter().filter(Result::is_ok).count();
        assert_eq!(marked, 1, "one is the first");
    }
    assert_dense(&store).await;
}

/// Two processes write in turns and at once: whatever one of them has kept in mind is often out of date.
async fn what_others_write_is_noticed(server: &Server) {
    const STREAMS: u64 = 4;
    let one = purlin_postgres::open(server.url(), "stale").await.expect("a store");
    let other = purlin_postgres::open(server.url(), "stale").await.expect("the same store");
    one.define::<Count>().await.expect("a collection");
    let mut told: Vec<Committed> = Vec::new();
    let mut versions = [0_u64; STREAMS as usize];
    for round in 0..60_u64 {
        // Alone for a while, so that there is something to be wrong about.
        let (alone, rival) = if round % 2 == 0 { (&one, &other) } else { (&other, &one) };
        for n in 0..round % 5 {
            let key = (round + n) % STREAMS;
            let expected = Expected::Version(versions[key as usize]);
            let committed = alone.commit(append(key, expected)).await.expect("nobody else writes now");
            versions[key as usize] = committed.appended[0].version;
            told.push(committed);
        }
        let known = versions;
        let all = (0..24).map(|n| {
            let key = n % STREAMS;
            let store = if n % 3 == 0 { alone } else { rival };
            let put = Count { n: round };
            let commit = append(key, Expected::Version(known[key as usize] + n / 12));
            store.commit(if n % 2 == 0 { commit } else { commit.put(format!("{round}-{n}"), &put) })
        });
        for (n, outcome) in join_all(all).await.into_iter().enumerate() {
            let key = n as u64 % STREAMS;
            match outcome {
                Ok(committed) => {
                    let version = &mut versions[key as usize];
                    *version = committed.appended[0].version.max(*version);
                    told.push(committed);
                }
                Err(CommitError::Conflict(Conflict::Stream { expected, actual, .. })) => {
                    assert_ne!(expected, Expected::Version(actual), "a conflict is one");
                }
                Err(error) => panic!("{error:?}"),
            }
        }
        assert!(versions.iter().zip(known).all(|(now, before)| *now > before), "somebody was right");
    }
    let mut positions: Vec<u64> =
        told.iter().flat_map(|committed| &committed.appended).map(|appended| appended.first.0).collect();
    positions.sort_unstable();
    let head = assert_dense(&one).await;
    assert_eq!(positions, (1..=head).collect::<Vec<_>>(), "what was answered is what happened");
}

/// The log's length; its positions and the versions of its streams have no gap.
async fn assert_dense(store: &Store) -> u64 {
    let page = store.read_log(Position::START, &LogFilter::all(), 100_000).await.expect("readable");
    let mut versions = std::collections::HashMap::new();
    for (event, position) in page.events.iter().zip(1..) {
        let version: &mut u64 = versions.entry(event.stream.clone()).or_default();
        *version += 1;
        assert_eq!((event.position.0, event.version), (position, *version));
    }
    page.events.len() as u64
}
