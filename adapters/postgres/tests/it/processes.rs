//! Several processes on one schema.

use std::time::Duration;

use futures_util::future::{join, join_all};
use purlin::message::Envelope;
use purlin::store::{
    Commit, CommitError, Expected, Field, LogFilter, Position, Query, Revision, Row, Store, StreamId,
    TokenError, transfer,
};
use tokio::io::AsyncReadExt as _;

use crate::server::Server;

#[derive(Debug, PartialEq, serde::Serialize, serde::Deserialize)]
struct Count {
    n: i64,
}

impl Row for Count {
    const COLLECTION: &'static str = "counts";
    const FIELDS: &'static [Field] = &[Field::integer("n")];
}

fn stream(key: impl std::fmt::Display) -> StreamId {
    StreamId::new("thing", key).expect("a name")
}

fn event(n: u64) -> Envelope {
    Envelope::raw("thing.counted", format!("{{\"n\":{n}}}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn several_processes_write_one_log() {
    let Some(server) = Server::start() else { return };
    a_reader_who_polls_meets_no_gap(&server).await;
    they_count_together_and_lose_no_update(&server).await;
    they_learn_of_each_other(&server).await;
    what_is_not_told_yet_is_looked_for(&server).await;
    they_change_collections_under_each_other(&server).await;
}

async fn two(server: &Server, name: &str) -> [Store; 2] {
    let one = purlin_postgres::open(server.url(), name).await.expect("a store");
    let other = purlin_postgres::open(server.url(), name).await.expect("the same store");
    assert_eq!(one.log_id(), other.log_id());
    [one, other]
}

async fn a_reader_who_polls_meets_no_gap(server: &Server) {
    const WRITERS: u64 = 16;
    const EACH: u64 = 150;
    let stores = two(server, "gaps").await;
    let reader = purlin_postgres::open(server.url(), "gaps").await.expect("a third process");
    let write = |writer: u64| {
        let store = stores[usize::from(writer >= WRITERS / 2)].clone();
        async move {
            for n in 0..EACH {
                let own = Commit::new().append(stream(writer), Expected::Version(n), [event(n)]);
                let commit = own.append(stream("shared"), Expected::Any, [event(writer)]);
                store.commit(commit).await.expect("no rival writes this stream");
            }
        }
    };
    let follow = async {
        let (mut seen, mut after) = (0, Position::START);
        while seen < WRITERS * EACH * 2 {
            let page = reader.read_log(after, &LogFilter::all(), 70).await.expect("a page");
            for event in &page.events {
                seen += 1;
                assert_eq!(event.position, Position(seen), "positions are dense, and seen in order");
            }
            after = page.through;
            assert_eq!(after, Position(seen));
        }
    };
    join(follow, join_all((0..WRITERS).map(write))).await;
    let shared = reader.read_stream(&stream("shared"), 1, 10_000).await.expect("readable");
    assert!(shared.iter().zip(1..).all(|(event, version)| event.version == version));
    assert_eq!(shared.len() as u64, WRITERS * EACH);
}

async fn they_count_together_and_lose_no_update(server: &Server) {
    const EACH: i64 = 40;
    let stores = two(server, "rivals").await;
    for store in &stores {
        store.define::<Count>().await.expect("defined");
    }
    stores[0].commit(Commit::new().put("n", &Count { n: 0 })).await.expect("the beginning");
    let count = |store: Store| async move {
        let mut revisions = Vec::new();
        while (revisions.len() as i64) < EACH {
            let record = store.get_record("counts", "n").await.expect("readable").expect("it is there");
            let next = Count { n: record.decode::<Count>().expect("a count").n + 1 };
            let commit = Commit::new().put_expecting("n", &next, Revision::Exact(record.revision), None);
            match store.commit(commit).await {
                Ok(committed) => revisions.push(committed.revision),
                Err(CommitError::Conflict(_)) => {}
                Err(error) => panic!("{error:?}"),
            }
        }
        revisions
    };
    let counters = stores.iter().flat_map(|store| [count(store.clone()), count(store.clone())]);
    let mut revisions = join_all(counters).await.concat();
    let total = revisions.len();
    revisions.sort_unstable();
    revisions.dedup();
    assert_eq!(revisions.len(), total, "no revision is given out twice");
    let last = stores[1].get::<Count>("n").await.expect("readable");
    assert_eq!(last, Some(Count { n: total as i64 }), "every update is there");
}

async fn they_learn_of_each_other(server: &Server) {
    let [one, other] = two(server, "wake").await;
    let mut watch = other.watch();
    watch.borrow_and_update();
    let in_time = Duration::from_secs(20);
    one.commit(Commit::new().append(stream(1), Expected::Any, [event(1)])).await.expect("an append");
    tokio::time::timeout(in_time, watch.changed()).await.expect("it is told").expect("the store is open");
    assert_eq!(*watch.borrow_and_update(), Position(1));
    one.define::<Count>().await.expect("defined");
    one.commit(Commit::new().put("a", &Count { n: 1 })).await.expect("a put");
    tokio::time::timeout(in_time, watch.changed())
        .await
        .expect("also of records")
        .expect("the store is open");
    assert_eq!(*watch.borrow_and_update(), Position(1));
}

/// One has not been told yet of what the other has just committed, and is asked for it.
async fn what_is_not_told_yet_is_looked_for(server: &Server) {
    let [one, other] = two(server, "untold").await;
    for n in 1..=20 {
        let committed = one.commit(Commit::new().append(stream(1), Expected::Any, [event(n)])).await;
        let position = committed.expect("an append").position;
        assert_eq!(other.parse_token(&one.token(position)).await, Ok(position));
        let beyond = one.token(Position(position.0 + 1));
        assert_eq!(other.parse_token(&beyond).await, Err(TokenError::Ahead));
    }
    // While an export writes its last lines, the other process appends.
    let exporting = purlin_postgres::open(server.url(), "untold").await.expect("a third process");
    let (to, mut lines) = tokio::io::duplex(64);
    let read = async {
        let mut all = vec![0; 64];
        lines.read_exact(&mut all).await.expect("it begins");
        one.commit(Commit::new().append(stream(1), Expected::Any, [event(21)])).await.expect("an append");
        lines.read_to_end(&mut all).await.expect("it ends");
    };
    let (exported, ()) = join(transfer::export(&exporting, to, |_| ()), read).await;
    assert!(matches!(exported, Err(transfer::ExportError::Disturbed)), "{exported:?}");
}

async fn they_change_collections_under_each_other(server: &Server) {
    let [one, other] = two(server, "changes").await;
    one.define::<Count>().await.expect("defined");
    other.commit(Commit::new().put("a", &Count { n: 1 })).await.expect("who has not defined it knows it too");
    for n in 2..6 {
        let beside = Count::collection().named("counts_new");
        one.define_collection(beside.clone()).await.expect("defined");
        let put = Commit::new().put_in(&beside, "a", &Count { n }, Revision::Any, None);
        other.commit(put).await.expect("a put into what another process has just made");
        one.swap("counts_new", "counts").await.expect("swapped");
        assert_eq!(other.get::<Count>("a").await.expect("readable"), Some(Count { n }));
        let put = Commit::new().put("b", &Count { n });
        other.commit(put).await.expect("a put into what took its place");
        let found = one.list::<Count>(Query::all().and("n", n)).await.expect("indexed");
        assert_eq!(found.records.len(), 2);
    }
    one.drop_collection("counts").await.expect("dropped");
    let gone = other.commit(Commit::new().put("c", &Count { n: 1 })).await;
    assert!(matches!(gone, Err(CommitError::Invalid(_))), "{gone:?}");
}
