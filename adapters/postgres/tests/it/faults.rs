//! Servers that die, and connections that are cut: what was answered is there once, what was refused is not.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::{join, join_all};
use futures_util::stream::FuturesUnordered;
use purlin::message::{Envelope, Uuid, new_id};
use purlin::store::{
    Commit, CommitError, Expected, Field, LogFilter, Position, Query, ReadError, Revision, Row, Store,
    StreamId,
};
use purlin_postgres::{Options, Postgres};
use tokio::net::TcpListener;

use crate::proxy::Proxy;
use crate::server::Server;

const WRITERS: usize = 12;

/// Stands for an event that was committed with it.
#[derive(serde::Serialize, serde::Deserialize)]
struct Mark {
    n: usize,
}

impl Row for Mark {
    const COLLECTION: &'static str = "marks";
    const FIELDS: &'static [Field] = &[Field::integer("n")];
}

/// What the clients know.
#[derive(Default)]
struct Told {
    committed: Vec<Uuid>,
    refused: Vec<Uuid>,
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_lost_and_nothing_is_done_twice() {
    let Some(server) = Server::start() else { return };
    for processes in [1, 2] {
        replies_are_lost(&server, processes).await;
        connections_are_cut(&server, processes).await;
        statements_are_cancelled(&server, processes).await;
        the_server_dies(&server, processes).await;
    }
    the_server_is_away(&server).await;
}

/// Appends until it is told to stop, and remembers what it was told.
async fn append(store: Store, writer: usize, stop: Arc<AtomicBool>, done: Arc<AtomicUsize>) -> Told {
    let stream = StreamId::new("thing", writer).expect("a name");
    let mut told = Told::default();
    while !stop.load(Ordering::Relaxed) {
        let event = Envelope { id: new_id(), ..Envelope::raw("thing.counted", "{}") };
        let id = event.id;
        let mut commit = Commit::new().append(stream.clone(), Expected::Any, [event]);
        // Of three writers one writes events only, and one expects something of the records that it writes.
        if !writer.is_multiple_of(3) {
            let expected = if writer % 3 == 1 { Revision::Any } else { Revision::Absent };
            commit = commit.put_expecting(id.to_string(), &Mark { n: writer }, expected, None);
        }
        match store.commit(commit).await {
            Ok(_) => told.committed.push(id),
            Err(CommitError::Unavailable(_)) => told.refused.push(id),
            Err(error) => panic!("{error:?}"),
        }
        done.fetch_add(1, Ordering::Relaxed);
    }
    told
}

/// Lets clients of so many processes append while something is done to the server, and then counts.
pub(crate) async fn hold<F: Future<Output = ()>>(
    url: &str,
    name: &str,
    processes: usize,
    harm: impl FnOnce(Arc<AtomicUsize>) -> F,
) {
    let mut stores = Vec::new();
    for _ in 0..processes {
        stores.push(purlin_postgres::open(url, name).await.expect("a store"));
    }
    stores[0].define::<Mark>().await.expect("a collection");
    let (stop, done) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let clients = (0..WRITERS).map(|writer| {
        append(stores[writer % processes].clone(), writer, Arc::clone(&stop), Arc::clone(&done))
    });
    let harm = async {
        harm(Arc::clone(&done)).await;
        stop.store(true, Ordering::Relaxed);
    };
    let (told, ()) = join(join_all(clients), harm).await;
    let store = purlin_postgres::open(url, name).await.expect("the store opens");
    let (mut times, mut after, mut marks) = (HashMap::<Uuid, usize>::new(), Position::START, 0);
    loop {
        let page = store.read_log(after, &LogFilter::all(), 1000).await.expect("readable");
        if page.through == after {
            break;
        }
        for event in page.events {
            *times.entry(event.envelope.id).or_default() += 1;
            after = Position(after.0 + 1);
            assert_eq!(event.position, after, "positions are dense");
            let writer: usize = event.stream.key().parse().expect("a writer");
            let mark = store.get::<Mark>(&event.envelope.id.to_string()).await.expect("readable");
            let marked = !writer.is_multiple_of(3);
            assert_eq!(mark.map(|mark| mark.n), marked.then_some(writer), "all of it, or nothing");
            marks += usize::from(marked);
        }
    }
    assert_eq!(count(&store).await, marks, "no record without its event");
    let committed: usize = told.iter().map(|told| told.committed.len()).sum();
    for told in &told {
        for id in &told.committed {
            assert_eq!(times.remove(id), Some(1), "what was answered is there, once");
        }
        assert!(told.refused.iter().all(|id| !times.contains_key(id)), "what was refused is not");
    }
    assert!(times.is_empty(), "and nothing else is");
    assert!(committed > WRITERS, "{committed} commits");
}

async fn count(store: &Store) -> usize {
    let (mut count, mut after) = (0, None);
    loop {
        let page = store.list::<Mark>(Query::all().after(after)).await.expect("readable");
        count += page.records.len();
        match page.next {
            Some(next) => after = Some(next),
            None => return count,
        }
    }
}

/// Waits until so many more commits were answered.
pub(crate) async fn more(done: &AtomicUsize, count: usize) {
    let until = done.load(Ordering::Relaxed) + count;
    while done.load(Ordering::Relaxed) < until {
        tokio::task::yield_now().await;
    }
}

/// What was written is there, but who wrote it does not hear of it.
async fn replies_are_lost(server: &Server, processes: usize) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
    let address = listener.local_addr().expect("it is bound");
    let url = format!("postgres://postgres@{address}/postgres");
    let proxy = Proxy::default();
    let name = format!("replies{processes}");
    let held = hold(&url, &name, processes, |done| async {
        let done = done;
        for n in 0..40 {
            more(&done, 1 + n % 7).await;
            proxy.lose_a_reply();
            while !proxy.has_lost() {
                tokio::task::yield_now().await;
            }
        }
        more(&done, 50).await;
    });
    tokio::select! {
        () = held => {}
        () = proxy.serve(listener, server.address()) => {}
    }
}

async fn connections_are_cut(server: &Server, processes: usize) {
    let client = server.client().await;
    let name = format!("cuts{processes}");
    hold(&server.url(), &name, processes, |done| async move {
        for n in 0..30 {
            more(&done, 1 + n % 17).await;
            let cut = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
                       WHERE application_name LIKE 'purlin cuts%' AND pid % 2 = $1 AND random() < 0.7";
            client.execute(cut, &[&(n as i32 % 2)]).await.expect("cut");
        }
    })
    .await;
}

/// A cancelled statement may be any: BEGIN, one in the middle, COMMIT.
async fn statements_are_cancelled(server: &Server, processes: usize) {
    let client = server.client().await;
    let name = format!("cancels{processes}");
    hold(&server.url(), &name, processes, |done| async move {
        for n in 0..300 {
            more(&done, n % 3).await;
            let cancel = "SELECT pg_cancel_backend(pid) FROM pg_stat_activity \
                          WHERE application_name LIKE 'purlin cancels%' AND state <> 'idle'";
            client.execute(cancel, &[]).await.expect("cancelled");
        }
        more(&done, 50).await;
    })
    .await;
}

async fn the_server_dies(server: &Server, processes: usize) {
    hold(&server.url(), &format!("deaths{processes}"), processes, |done| async move {
        for n in 0..3 {
            more(&done, 50 + n * 37).await;
            server.kill();
            server.boot();
        }
        more(&done, 50).await;
    })
    .await;
}

async fn the_server_is_away(server: &Server) {
    let patience = Duration::from_millis(300);
    let options = Options { patience, queue: 8, ..Options::new(server.url(), "away") };
    let store = Store::new(Postgres::open(options).await.expect("a store"));
    let stream = StreamId::new("thing", 1).expect("a name");
    let append = || {
        store.commit(Commit::new().append(
            stream.clone(),
            Expected::Any,
            [Envelope::raw("thing.counted", "{}")],
        ))
    };
    append().await.expect("the server is there");
    server.kill();
    // What was sent before it was noticed that nobody is there waits until it can be told what became of it.
    let mut all: FuturesUnordered<_> = (0..200).map(|_| append()).collect();
    let mut outcomes = Vec::new();
    while outcomes.len() < 180 {
        outcomes.extend(all.next().await);
    }
    let overloaded =
        outcomes.iter().filter(|outcome| matches!(outcome, Err(CommitError::Overloaded))).count();
    assert!(overloaded >= 150, "the queue is bounded: {overloaded} of 200 found no place");
    assert!(outcomes.iter().all(|outcome| outcome.is_err()), "nothing is committed by a server that is away");
    let unread = store.read_stream(&stream, 1, 10).await;
    assert!(matches!(unread, Err(ReadError::Unavailable(_))), "{unread:?}");
    server.boot();
    let late = all.filter(|outcome| std::future::ready(outcome.is_ok())).count().await;
    let mut refused = 0;
    while append().await.is_err() {
        refused += 1;
        assert!(refused < 100, "the connection comes back by itself");
    }
    let mut unread = 0;
    let events = loop {
        match store.read_stream(&stream, 1, 1000).await {
            Ok(events) => break events,
            Err(_) => unread += 1,
        }
        assert!(unread < 1_000_000, "and so do those that read");
        tokio::task::yield_now().await;
    };
    assert_eq!(events.len(), 2 + late, "what was refused did not happen");
    server.kill();
    store.close().await;
    server.boot();
}
