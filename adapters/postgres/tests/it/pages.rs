//! Pages of the log and of streams: cut where they have many bytes, and begun before they are asked for.

use futures_util::future::join;
use purlin::message::Envelope;
use purlin::store::archive::Selection;
use purlin::store::{
    Commit, Expected, Limits, LogFilter, LogPage, Position, ReadError, Recorded, Store, StreamId,
};

use crate::server::Server;

#[tokio::test(flavor = "multi_thread")]
async fn pages_have_all_events_and_not_too_many_bytes() {
    let Some(server) = Server::start() else { return };
    large_events_are_cut_whatever_was_read_before(&server).await;
    who_goes_on_while_others_append_misses_nothing(&server).await;
    an_event_that_is_missing_is_named(&server).await;
}

fn stream(key: impl std::fmt::Display) -> StreamId {
    StreamId::new("thing", key).expect("a name")
}

async fn append(store: &Store, key: u64, size: usize, count: usize) {
    let event = || Envelope::raw("thing.counted", format!("\"{}\"", "x".repeat(size)));
    let events: Vec<_> = (0..count).map(|_| event()).collect();
    store.commit(Commit::new().append(stream(key), Expected::Any, events)).await.expect("it is taken");
}

fn bytes(events: &[Recorded]) -> usize {
    events.iter().map(|event| event.envelope.data.len()).sum()
}

/// Every page; none has more bytes than a page and its last event.
async fn all(store: &Store, filter: &LogFilter, limit: usize) -> Vec<Recorded> {
    let (mut all, mut after) = (Vec::new(), Position::START);
    while after < store.head() {
        let page = store.read_log(after, filter, limit).await.expect("readable");
        assert!(page.through > after, "it goes on");
        let last = page.events.last().map_or(0, |event| event.envelope.data.len());
        assert!(bytes(&page.events) < Limits::PAGE + last && page.events.len() <= limit);
        assert!(page.events.iter().all(|event| after < event.position && event.position <= page.through));
        after = page.through;
        all.extend(page.events);
    }
    all
}

async fn large_events_are_cut_whatever_was_read_before(server: &Server) {
    const LARGE: usize = 900 << 10;
    let store = purlin_postgres::open(server.url(), "large").await.expect("a store");
    append(&store, 1, 10, 400).await;
    for _ in 0..8 {
        append(&store, 2, LARGE, 5).await;
    }
    append(&store, 1, 10, 400).await;
    // At first nothing is known of their size; then they seem small, and large again.
    for limit in [1000, 100, 1000] {
        let events = all(&store, &LogFilter::all(), limit).await;
        let positions: Vec<u64> = events.iter().map(|event| event.position.0).collect();
        assert_eq!(positions, (1..=840).collect::<Vec<_>>());
        let small = store.read_stream(&stream(1), 1, 100).await.expect("readable");
        assert_eq!(small.len(), 100);
        let large = store.read_stream(&stream(2), 1, 100).await.expect("readable");
        assert_eq!((large.len(), bytes(&large)), (40, 40 * (LARGE + 2)));
        let newest = store.read_stream_back(&stream(2), 41, 100).await.expect("readable");
        let versions: Vec<u64> = newest.iter().map(|event| event.version).collect();
        assert_eq!(versions, (1..41).rev().collect::<Vec<_>>());
    }
}

async fn who_goes_on_while_others_append_misses_nothing(server: &Server) {
    const COMMITS: u64 = 300;
    let store = purlin_postgres::open(server.url(), "going_on").await.expect("a store");
    let write = async {
        for n in 0..COMMITS {
            append(&store, n % 7, 10, 1 + n as usize % 5).await;
        }
    };
    let read = async {
        let (mut events, mut after) = (Vec::new(), Position::START);
        let mut watch = store.watch();
        while events.len() < 3 * COMMITS as usize {
            watch.wait_for(|head| *head > after).await.expect("the store is open");
            let page = store.read_log(after, &LogFilter::all(), 8).await.expect("readable");
            after = page.through;
            events.extend(page.events.into_iter().map(|event| event.position.0));
        }
        events
    };
    let ((), positions) = join(write, read).await;
    assert_eq!(positions, (1..=3 * COMMITS).collect::<Vec<_>>());
    let things = LogFilter::category("thing");
    assert_eq!(all(&store, &things, 16).await.len(), 3 * COMMITS as usize);
    assert_eq!(all(&store, &LogFilter::category("none"), 16).await.len(), 0);
}

async fn an_event_that_is_missing_is_named(server: &Server) {
    let store = purlin_postgres::open(server.url(), "missing").await.expect("a store");
    for key in 0..10 {
        append(&store, key, 10, 10).await;
    }
    store.archive(&Selection::category("thing"), |_| ()).await.expect("archived");
    let read = async |after: u64, filter: &LogFilter, limit: usize| {
        store.read_log(Position(after), filter, limit).await
    };
    let named = |read: Result<LogPage, ReadError>| match read {
        Err(ReadError::Unreadable { what, .. }) => what,
        other => panic!("it is not told: {:?}", other.map(|page| page.through)),
    };
    let whole = async |after: u64, limit: usize| {
        let page = read(after, &LogFilter::all(), limit).await.expect("readable");
        assert_eq!(page.through.0 - after, page.events.len() as u64);
        page.through.0
    };
    assert_eq!((whole(0, 1000).await, whole(0, 42).await), (100, 42));
    // One is in the archive, and the next is the last of its stream, which is not; each goes with what stands before it.
    let client = server.client().await;
    for (table, missing) in [("_hot", 60), ("_archive", 59), ("_archive", 42)] {
        let delete = format!("DELETE FROM missing.{table} WHERE position = {missing}");
        assert_eq!(client.execute(&delete, &[]).await.expect("it is taken"), 1);
        for (after, limit) in [(0, 1000), (missing - 5, 10), (0, missing as usize - 1)] {
            assert_eq!(whole(after, limit).await, missing - 1, "it ends before the one that is missing");
        }
        for limit in [1, 1000] {
            let refused = read(missing - 1, &LogFilter::all(), limit).await;
            assert_eq!(named(refused), format!("the event at {missing}"));
        }
        assert_eq!(whole(60, 1000).await, 100);
    }
    assert_eq!(whole(u64::MAX, 1000).await, u64::MAX);
    let things = read(0, &LogFilter::category("thing"), 1000).await.expect("readable");
    assert_eq!((things.events.len(), things.through), (97, Position(100)));
}
