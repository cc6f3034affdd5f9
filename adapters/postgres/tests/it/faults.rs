//! Servers that die, and connections that are cut: what was answered is there once, what was refused is not.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::future::{join, join_all};
use purlin::message::{Envelope, Uuid, new_id};
use purlin::store::{Commit, CommitError, Expected, LogFilter, Position, ReadError, Store, StreamId};
use purlin_postgres::{Options, Postgres};
use tokio::net::TcpListener;

use crate::proxy::Proxy;
use crate::server::Server;

const WRITERS: usize = 12;

/// What the clients know.
#[derive(Default)]
struct Told {
    committed: Vec<Uuid>,
    refused: Vec<Uuid>,
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_lost_and_nothing_is_done_twice() {
    let Some(server) = Server::start() else { return };
    replies_are_lost(&server).await;
    connections_are_cut(&server).await;
    the_server_dies(&server).await;
    the_server_is_away(&server).await;
}

/// Appends until it is told to stop, and remembers what it was told.
async fn append(store: Store, writer: usize, stop: Arc<AtomicBool>, done: Arc<AtomicUsize>) -> Told {
    let stream = StreamId::new("thing", writer).expect("a name");
    let mut told = Told::default();
    while !stop.load(Ordering::Relaxed) {
        let event = Envelope { id: new_id(), ..Envelope::raw("thing.counted", "{}") };
        let id = event.id;
        match store.commit(Commit::new().append(stream.clone(), Expected::Any, [event])).await {
            Ok(_) => told.committed.push(id),
            Err(CommitError::Unavailable(_)) => told.refused.push(id),
            Err(error) => panic!("{error:?}"),
        }
        done.fetch_add(1, Ordering::Relaxed);
    }
    told
}

/// Lets clients of two processes append while something is done to the server, and then counts.
async fn hold<F: Future<Output = ()>>(url: &str, name: &str, harm: impl FnOnce(Arc<AtomicUsize>) -> F) {
    let mut stores = Vec::new();
    for _ in 0..2 {
        stores.push(purlin_postgres::open(url, name).await.expect("a store"));
    }
    let (stop, done) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let clients = (0..WRITERS)
        .map(|writer| append(stores[writer % 2].clone(), writer, Arc::clone(&stop), Arc::clone(&done)));
    let harm = async {
        harm(Arc::clone(&done)).await;
        stop.store(true, Ordering::Relaxed);
    };
    let (told, ()) = join(join_all(clients), harm).await;
    let store = purlin_postgres::open(url, name).await.expect("the store opens");
    let (mut times, mut after) = (HashMap::<Uuid, usize>::new(), Position::START);
    loop {
        let page = store.read_log(after, &LogFilter::all(), 1000).await.expect("readable");
        if page.through == after {
            break;
        }
        for event in page.events {
            *times.entry(event.envelope.id).or_default() += 1;
            after = Position(after.0 + 1);
            assert_eq!(event.position, after, "positions are dense");
        }
    }
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

/// Waits until so many more commits were answered.
async fn more(done: &AtomicUsize, count: usize) {
    let until = done.load(Ordering::Relaxed) + count;
    while done.load(Ordering::Relaxed) < until {
        tokio::task::yield_now().await;
    }
}

/// What was written is there, but who wrote it does not hear of it.
async fn replies_are_lost(server: &Server) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
    let address = listener.local_addr().expect("it is bound");
    let url = format!("postgres://postgres@{address}/postgres");
    let proxy = Proxy::default();
    let held = hold(&url, "replies", |done| async {
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

async fn connections_are_cut(server: &Server) {
    let client = server.client().await;
    hold(&server.url(), "cuts", |done| async move {
        for n in 0..30 {
            more(&done, 1 + n % 17).await;
            let cut = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
                       WHERE application_name = 'purlin cuts' AND pid % 2 = $1 AND random() < 0.7";
            client.execute(cut, &[&(n as i32 % 2)]).await.expect("cut");
        }
    })
    .await;
}

async fn the_server_dies(server: &Server) {
    hold(&server.url(), "deaths", |done| async move {
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
    let outcomes = join_all((0..200).map(|_| append())).await;
    let overloaded =
        outcomes.iter().filter(|outcome| matches!(outcome, Err(CommitError::Overloaded))).count();
    assert!(overloaded >= 150, "the queue is bounded: {overloaded} of 200 found no place");
    assert!(outcomes.iter().all(|outcome| outcome.is_err()), "nothing is committed by a server that is away");
    let unread = store.read_stream(&stream, 1, 10).await;
    assert!(matches!(unread, Err(ReadError::Unavailable(_))), "{unread:?}");
    server.boot();
    let mut refused = 0;
    while append().await.is_err() {
        refused += 1;
        assert!(refused < 100, "the connection comes back by itself");
    }
    let mut unread = 0;
    let events = loop {
        match store.read_stream(&stream, 1, 10).await {
            Ok(events) => break events,
            Err(_) => unread += 1,
        }
        assert!(unread < 1_000_000, "and so do those that read");
        tokio::task::yield_now().await;
    };
    assert_eq!(events.len(), 2, "what was refused did not happen");
    server.kill();
    store.close().await;
    server.boot();
}
