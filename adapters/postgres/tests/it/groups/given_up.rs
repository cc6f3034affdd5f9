//! Groups that nobody waits for any more, and what follows them.

use std::time::Duration;

use futures_util::future::{join, join_all, join3};
use futures_util::poll;
use purlin::message::{Clock, Envelope, Timestamp};
use purlin::store::{
    Commit, CommitError, Committed, Conflict, EventQuery, Expected, Position, Revision, Store,
};
use purlin_postgres::{Options, Postgres};
use tokio::net::TcpListener;
use tokio_postgres::Client;

use super::{Count, append, assert_dense, stream};
use crate::proxy::Proxy;
use crate::server::{Server, until};

/// A group waits for the lock when its connection ends. The server does not notice, and goes on with what was sent once
/// it has the lock; by then it is settled that the group did not happen, and its commits are on their way again.
pub(super) async fn a_group_that_was_given_up_writes_nothing(server: &Server) {
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
pub(super) async fn a_group_that_follows_one_that_did_not_happen_writes_nothing(server: &Server) {
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
pub(super) async fn what_did_not_happen_did_not_however_often_it_is_asked(server: &Server) {
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
pub(super) async fn a_group_follows_one_and_no_other_of_the_same_revision(server: &Server) {
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
pub(super) async fn a_condition_meets_what_comes_before_its_group(server: &Server, rival: bool) {
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
pub(super) async fn what_nobody_waits_for_follows_no_other_either(server: &Server) {
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
pub(super) async fn commits_keep_their_order_when_the_first_is_lost(server: &Server) {
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
