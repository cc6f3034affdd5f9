//! Groups of commits: one round trip as long as nobody else writes, and nothing is believed that the server has not seen.

mod alone;
mod given_up;

use futures_util::future::join_all;
use purlin::message::Envelope;
use purlin::store::{
    Commit, CommitError, Committed, Conflict, Expected, Field, LogFilter, Position, Row, Store, StreamId,
};

use crate::server::Server;
use alone::{
    commits_of_a_group_see_each_other, who_is_wrong_about_a_record_fails_alone,
    who_is_wrong_about_a_stream_fails_alone,
};
use given_up::{
    a_condition_meets_what_comes_before_its_group, a_group_follows_one_and_no_other_of_the_same_revision,
    a_group_that_follows_one_that_did_not_happen_writes_nothing, a_group_that_was_given_up_writes_nothing,
    commits_keep_their_order_when_the_first_is_lost, what_did_not_happen_did_not_however_often_it_is_asked,
    what_nobody_waits_for_follows_no_other_either,
};

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

/// A store that was opened anew, and knows nothing of its streams but where the log ends.
async fn cold(server: &Server, name: &str) -> Store {
    let store = purlin_postgres::open(server.url(), name).await.expect("a store");
    for _ in 0..2 {
        store.commit(append("warm", Expected::Any)).await.expect("it is taken");
    }
    store
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
