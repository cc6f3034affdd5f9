//! Servers that take connections and answer nothing, and those that answer late, or something older.

use std::net::SocketAddr;
use std::pin::pin;
use std::time::Duration;

use futures_util::poll;
use purlin::message::Envelope;
use purlin::store::{
    Collection, Commit, CommitError, Expected, LogFilter, Position, ReadError, Store, StreamId,
};
use purlin_postgres::{OpenError, Options, Postgres};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::task::JoinSet;
use tokio_postgres::Client;

use crate::proxy::Proxy;
use crate::server::{Server, until};

/// By then everything has come to its end that does at all.
const LATE: Duration = Duration::from_secs(60);

fn options(url: String, name: &str) -> Options {
    Options { patience: Duration::from_secs(1), ..Options::new(url, name) }
}

/// The URL of servers that are given up after a second.
fn url(servers: &[SocketAddr]) -> String {
    let all: Vec<String> = servers.iter().map(SocketAddr::to_string).collect();
    format!("postgres://postgres@{}/postgres?connect_timeout=1", all.join(","))
}

async fn open(options: Options) -> Store {
    Store::new(soon(Postgres::open(options)).await.expect("it opens"))
}

async fn soon<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(LATE, work).await.expect("it comes to an end")
}

fn stream() -> StreamId {
    StreamId::new("thing", 1).expect("a name")
}

async fn append(store: &Store) -> Result<(), CommitError> {
    let event = Envelope::raw("thing.counted", "{}");
    store.commit(Commit::new().append(stream(), Expected::Any, [event])).await.map(drop)
}

fn append_beside(store: &Store, tasks: &mut JoinSet<Result<(), CommitError>>) {
    let store = store.clone();
    tasks.spawn(async move { append(&store).await });
}

/// Takes connections and keeps them, for ever.
async fn hold_all(listener: TcpListener) {
    let mut all = Vec::new();
    while let Ok((connection, _)) = listener.accept().await {
        all.push(connection);
    }
}

async fn silent() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
    let address = listener.local_addr().expect("it is bound");
    (listener, address)
}

/// How many connections wait at [`crowded`] beside the first.
const BACKLOG: u32 = 8;

/// As [`silent`]; once so many connections wait that nobody accepts, the system answers to no other one, as if the machine
/// was gone.
fn crowded() -> (TcpListener, SocketAddr) {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.bind(([127, 0, 0, 1], 0).into()).expect("a port is free");
    let listener = socket.listen(BACKLOG).expect("it listens");
    let address = listener.local_addr().expect("it is bound");
    (listener, address)
}

async fn crowd(address: SocketAddr) -> Vec<TcpStream> {
    let mut all = Vec::new();
    for _ in 0..=BACKLOG {
        all.push(soon(TcpStream::connect(address)).await.expect("it waits"));
    }
    all
}

#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread")]
async fn a_machine_that_does_not_even_take_connections_says_nothing() {
    let (_listener, address) = crowded();
    let _crowd = crowd(address).await;
    let refused =
        soon(Postgres::open(options(url(&[address]), "nobody"))).await.err().expect("nobody is there");
    let OpenError::Unreachable { source } = refused else { panic!("{refused:?}") };
    assert!(source.to_string().contains(&address.to_string()), "{source}");
}

#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread")]
async fn a_machine_that_is_gone_holds_nobody_up() {
    let Some(server) = Server::start() else { return };
    let (listener, address) = crowded();
    let proxy = Proxy::default();
    let mut serving = pin!(proxy.serve(listener, server.address()));
    let opened = async {
        let store = open(options(url(&[address]), "gone")).await;
        append(&store).await.expect("the server is there");
        store
    };
    let store = tokio::select! {
        store = opened => store,
        () = &mut serving => unreachable!("it serves for ever"),
    };
    // From now on nobody accepts, and nobody answers to who is there.
    server.freeze();
    let _crowd = crowd(address).await;
    let unread = soon(store.read_stream(&stream(), 1, 10)).await;
    assert!(matches!(unread, Err(ReadError::Unavailable(_))), "{unread:?}");
    server.thaw();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_says_nothing_is_named_and_passed_over() {
    let (listener, address) = silent().await;
    let mut held = JoinSet::new();
    held.spawn(hold_all(listener));
    let refused =
        soon(Postgres::open(options(url(&[address]), "nobody"))).await.err().expect("nobody is there");
    let OpenError::Unreachable { source } = refused else { panic!("{refused:?}") };
    assert!(source.to_string().contains(&address.to_string()), "{source}");
    if let Some(server) = Server::start() {
        // The one that is silent is tried first, each time.
        let store = open(options(url(&[address, server.address()]), "second")).await;
        append(&store).await.expect("the second server takes it");
        store.close().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_stops_to_answer_holds_nobody_up_and_loses_nothing() {
    let Some(server) = Server::start() else { return };
    let store = open(options(url(&[server.address()]), "frozen")).await;
    append(&store).await.expect("the server is there");
    server.freeze();
    let mut tasks = JoinSet::new();
    append_beside(&store, &mut tasks);
    let unread = soon(store.read_stream(&stream(), 1, 10)).await;
    assert!(matches!(unread, Err(ReadError::Unavailable(_))), "{unread:?}");
    // Of those that are sent, nothing is known; those that come later are refused.
    let refused = async {
        loop {
            append_beside(&store, &mut tasks);
            match tokio::time::timeout(Duration::from_millis(100), tasks.join_next()).await {
                Ok(answered) => return answered,
                Err(_) => continue,
            }
        }
    };
    let refused = soon(refused).await.expect("one is").expect("it does not panic");
    assert!(matches!(refused, Err(CommitError::Unavailable(_))), "{refused:?}");
    server.thaw();
    let known = soon(tasks.join_all()).await.iter().filter(|known| known.is_ok()).count();
    let mut again = 0;
    while soon(append(&store)).await.is_err() {
        again += 1;
        assert!(again < 1000, "it comes back by itself");
    }
    let events = soon(store.read_stream(&stream(), 1, 1000)).await.expect("readable");
    assert_eq!(events.len(), 2 + known, "each that was told to have happened, once");

    server.freeze();
    let mut unknown = pin!(append(&store));
    assert!(poll!(unknown.as_mut()).is_pending());
    soon(store.close()).await;
    let reopened = soon(Postgres::open(options(url(&[server.address()]), "frozen"))).await;
    assert!(matches!(reopened.err(), Some(OpenError::Unreachable { .. })));
    server.thaw();
}

#[tokio::test(flavor = "multi_thread")]
async fn who_closes_does_not_wait_for_a_commit_that_waits_for_another_server() {
    let Some(server) = Server::start() else { return };
    let store = open(options(url(&[server.address()]), "standby")).await;
    append(&store).await.expect("it is taken");
    let client = server.client().await;
    client.batch_execute("ALTER SYSTEM SET synchronous_standby_names = 'nobody'").await.expect("it is said");
    client.execute("SELECT pg_reload_conf()", &[]).await.expect("it is heard");
    let mut unknown = pin!(append(&store));
    let waits = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'SyncRep'";
    let waited_for = async {
        // Until it is heard by all, commits still go through.
        while client.query_one(waits, &[]).await.expect("a number").get::<_, i64>(0) == 0 {
            if poll!(unknown.as_mut()).is_ready() {
                unknown.set(append(&store));
            }
        }
    };
    soon(waited_for).await;
    soon(store.close()).await;
    assert!(poll!(unknown.as_mut()).is_pending(), "nobody knows whether it would be lost with the server");
    client.batch_execute("ALTER SYSTEM RESET synchronous_standby_names").await.expect("it is said");
    client.execute("SELECT pg_reload_conf()", &[]).await.expect("it is heard");
    assert!(soon(unknown).await.is_ok(), "it is on the disk");
}

#[tokio::test(flavor = "multi_thread")]
async fn collections_that_somebody_has_locked_hold_nobody_up() {
    let Some(server) = Server::start() else { return };
    let store = open(options(url(&[server.address()]), "locked")).await;
    let other = open(options(url(&[server.address()]), "locked")).await;
    let collection = |name: &'static str| Collection { name: name.into(), fields: Vec::new().into() };
    other.define_collection(collection("new")).await.expect("it is made");
    let client = server.client().await;
    client
        .batch_execute("BEGIN; LOCK TABLE locked._collection IN ACCESS EXCLUSIVE MODE")
        .await
        .expect("locked");
    // It meets other collections than it knows, and reads them.
    let mut first = pin!(store.define_collection(collection("another")));
    assert!(poll!(first.as_mut()).is_pending());
    let reads =
        "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'locked._collection'::regclass";
    soon(until(&client, reads, |waiting| waiting > 0)).await;
    let behind = soon(append(&store)).await;
    assert!(matches!(behind, Err(CommitError::Unavailable(_))), "{behind:?}");
    let first = soon(first).await;
    assert!(matches!(first, Err(CommitError::Unavailable(_))), "nor is who met them held up: {first:?}");
    soon(store.close()).await;
    client.batch_execute("ROLLBACK").await.expect("unlocked");
    other.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_statement_that_takes_long_is_waited_for() {
    let Some(server) = Server::start() else { return };
    let (listener, address) = silent().await;
    let proxy = Proxy::default();
    let waited_for = async {
        let store = open(options(url(&[address]), "slow")).await;
        append(&store).await.expect("it is taken");
        let client = server.client().await;
        let of_the_store = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'purlin slow'";
        // The one that writes and two that read are there, and the one with which it was opened is gone.
        until(&client, of_the_store, |there| there == 3).await;
        let before = pids(&client).await;
        client.batch_execute("BEGIN; LOCK TABLE slow._hot IN ACCESS EXCLUSIVE MODE").await.expect("locked");
        let of_stream = stream();
        let read = store.read_stream(&of_stream, 1, 10);
        let asks = async {
            // It is asked on other connections whether the server is there, more than once.
            proxy.more_come(4).await;
            client.batch_execute("COMMIT").await.expect("unlocked");
        };
        let (read, ()) = soon(futures_util::future::join(read, asks)).await;
        assert_eq!(read.expect("it was waited for").len(), 1);
        let after = pids(&client).await;
        assert!(before.iter().all(|pid| after.contains(pid)), "{before:?}, {after:?}: one was given up");
    };
    tokio::select! {
        () = waited_for => {}
        () = proxy.serve(listener, server.address()) => {}
    }
}

/// The processes of the server that serve the store `slow`.
async fn pids(client: &Client) -> Vec<i32> {
    let pids = "SELECT pid FROM pg_stat_activity WHERE application_name = 'purlin slow'";
    let rows = client.query(pids, &[]).await.expect("they are told");
    rows.iter().map(|row| row.get(0)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn by_tags_nothing_is_passed_over_that_another_server_does_not_have_yet() {
    let Some(server) = Server::start() else { return };
    let standby = server.replica();
    let (listener, address) = silent().await;
    let proxy = Proxy::default();
    let served = async {
        // The first of those that read stays where it is, and so does the one that writes.
        let patience = Duration::from_secs(30);
        let readers = Options { readers: 3, patience, ..Options::new(url(&[address]), "lags") };
        let store = open(readers).await;
        tagged(&store).await;
        let client = server.client().await;
        let behind = "SELECT count(*) FROM pg_stat_replication WHERE replay_lsn < pg_current_wal_lsn()";
        until(&client, behind, |behind| behind == 0).await;
        let paused = standby.client().await;
        paused.batch_execute("SELECT pg_wal_replay_pause()").await.expect("paused");
        proxy.lead_to(standby.address());
        let others = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity AS a \
                      WHERE application_name = 'purlin lags' AND NOT EXISTS (SELECT FROM pg_locks AS l \
                      WHERE l.pid = a.pid AND l.locktype = 'advisory' AND l.mode = 'ShareLock')";
        client.execute(others, &[]).await.expect("their connections are ended");
        let there = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'purlin lags'";
        until(&paused, there, |there| there == 2).await;
        proxy.lead_to(server.address());
        for _ in 0..5 {
            tagged(&store).await;
        }
        let (mut after, mut seen) = (Position::START, 0);
        let filter = LogFilter::tagged(["of:anna"]);
        for _ in 0..60 {
            let page = soon(store.read_log(after, &filter, 10)).await.expect("readable");
            seen += page.events.len() as u64;
            after = page.through;
            assert_eq!(seen, after.0, "each event has the tag");
        }
        assert_eq!(seen, 6, "and those that have all of them give them");
    };
    tokio::select! {
        () = served => {}
        () = proxy.serve(listener, server.address()) => {}
    }
}

async fn tagged(store: &Store) {
    let event = Envelope::raw("thing.counted", "{}").tagged(["of:anna"]);
    let commit = Commit::new().append(stream(), Expected::Any, [event]);
    soon(store.commit(commit)).await.expect("it is taken");
}
