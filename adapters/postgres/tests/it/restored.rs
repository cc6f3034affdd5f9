//! Schemas that were put back, and those that only seem so.

use std::pin::pin;
use std::time::Duration;

use futures_util::future::{join, join_all};
use purlin::bus::{Bus, RelayError};
use purlin::message::{Envelope, Event};
use purlin::projection::{Projection, View};
use purlin::store::{
    Commit, Expected, LogFilter, LogId, Position, Recorded, Row, Store, StreamId, TokenError,
};
use purlin_postgres::OpenError;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::proxy::Proxy;
use crate::server::{Server, until};

const NAME: &str = "orders";

#[tokio::test(flavor = "multi_thread")]
async fn a_schema_that_was_put_back_begins_a_new_incarnation() {
    let Some(server) = Server::start() else { return };
    it_is_noticed_each_time_by_the_first_of_several(&server).await;
    so_is_a_copy_of_the_database(&server).await;
    what_reads_in_the_store_goes_on(&server).await;
    a_role_that_may_not_know_the_server_notices_too(&server).await;
    what_is_not_noticed_is_said_by_an_operator(&server).await;
    a_store_that_does_not_say_where_it_lives_only_writes_it_down(&server).await;
    a_role_that_only_reads_opens_it_all_the_same(&server).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_goes_on_has_the_log_as_it_was() {
    let Some(server) = Server::start() else { return };
    let id = filled(&server.url(), 3).await;
    let told = said(&server).await;
    server.restart_with(&[]);
    assert_eq!(opened(&server.url()).await, id, "after a restart");
    server.kill();
    server.boot();
    assert_eq!(opened(&server.url()).await, id, "after a crash");
    let client = server.client().await;
    client.batch_execute("VACUUM FULL orders._meta").await.expect("written anew");
    assert_eq!(opened(&server.url()).await, id, "after its table was written anew");
    assert_eq!(said(&server).await, told, "nothing is written without need");
    client.batch_execute("ALTER SCHEMA orders RENAME TO renamed").await.expect("another name");
    let renamed = purlin_postgres::open(server.url(), "renamed").await.expect("a store");
    assert_eq!(renamed.log_id(), id, "under another name");
    renamed.close().await;
    client.batch_execute("ALTER SCHEMA renamed RENAME TO orders").await.expect("the name of before");
    drop(client);

    let second = server.replica();
    server.kill();
    second.promote();
    assert_eq!(opened(&second.url()).await, id, "where a second server took over");
    assert_eq!(said(&second).await, told);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_was_upgraded_is_told_from_another_one_with_the_same_numbers() {
    let Some(server) = Server::start() else { return };
    let id = filled(&server.url(), 3).await;
    let before = said(&server).await;
    server.upgrade();
    assert_eq!(opened(&server.url()).await, id);
    let after = said(&server).await;
    let words = |said: &str| said.split(' ').map(str::to_owned).collect::<Vec<_>>();
    assert_ne!(
        words(&before)[0],
        words(&after)[0],
        "it is another server: what is known of it is written anew"
    );
    assert_eq!(words(&before)[1..3], words(&after)[1..3]);
    // As if it was dumped from another one where everything happened to have the same number.
    let sql = "UPDATE orders._meta SET value = '1' || substr(value, strpos(value, ' ')) WHERE name = 'home'";
    let client = server.client().await;
    client.batch_execute(sql).await.expect("it is taken");
    assert_ne!(opened(&server.url()).await, id);
}

/// Makes a store of so many events.
async fn filled(url: &str, events: u64) -> LogId {
    let store = open(url).await;
    append(&store, events).await;
    store.close().await;
    store.log_id()
}

async fn append(store: &Store, events: u64) {
    for n in 0..events {
        let event = Envelope::raw("thing.counted", n.to_string()).public();
        let commit = Commit::new().append(stream(), Expected::Any, [event]);
        store.commit(commit).await.expect("a commit");
    }
}

fn stream() -> StreamId {
    StreamId::new("thing", 1).expect("a name")
}

async fn open(url: &str) -> Store {
    purlin_postgres::open(url, NAME).await.expect("a store")
}

/// Opens the store, and closes it again.
async fn opened(url: &str) -> LogId {
    let store = open(url).await;
    store.close().await;
    store.log_id()
}

/// What the store says of where it lives.
async fn said(server: &Server) -> String {
    let sql = "SELECT value FROM orders._meta WHERE name = 'home'";
    server.client().await.query_one(sql, &[]).await.expect("it says so").get(0)
}

/// A database of its own, with a store of so many events, and a dump of it.
async fn dumped(server: &Server, database: &str, events: u64) -> (String, LogId, String) {
    server.program("createdb", &[database]);
    let url = server.url_of(database);
    let id = filled(&url, events).await;
    let file = server.file(&format!("{database}.dump"));
    server.program("pg_dump", &["--schema=orders", "--format=custom", "--file", &file, database]);
    (url, id, file)
}

/// Puts a dump back over what there is.
fn put_back(server: &Server, database: &str, file: &str) {
    server.program("pg_restore", &["--clean", "--dbname", database, file]);
}

async fn inspected(url: &str) -> purlin_postgres::InspectedStore {
    let mut found = purlin_postgres::inspect(url).await.expect("a database");
    found.stores.pop().expect("a store")
}

async fn it_is_noticed_each_time_by_the_first_of_several(server: &Server) {
    let (url, first, dump) = dumped(server, "noticed", 20).await;
    let store = open(&url).await;
    append(&store, 10).await;
    let (early, late) = (store.token(Position(5)), store.token(Position(30)));
    assert_eq!(store.parse_token(&early).await, Ok(Position(5)));
    store.close().await;
    let mut lives = vec![first];
    for _ in 0..2 {
        put_back(server, "noticed", &dump);
        let looked_at = inspected(&url).await;
        assert!(looked_at.restored && looked_at.log == Some(first), "whoever only looks changes nothing");
        let stores = join_all((0..4).map(|_| open(&url))).await;
        let id = stores[0].log_id();
        assert!(stores.iter().all(|store| store.log_id() == id), "one draws, the others take it");
        assert!(id.log == first.log && !lives.contains(&id), "the same log, in another life each time");
        for token in [&early, &late] {
            assert_eq!(stores[1].parse_token(token).await, Err(TokenError::OtherIncarnation));
        }
        append(&stores[2], 1).await;
        let own = stores[2].token(Position(21));
        assert_eq!(stores[3].parse_token(&own).await, Ok(Position(21)));
        for store in &stores {
            store.close().await;
        }
        assert_eq!(opened(&url).await, id, "and it goes on with it");
        let looked_at = inspected(&url).await;
        assert!(!looked_at.restored && looked_at.log == Some(id));
        lives.push(id);
    }
}

async fn so_is_a_copy_of_the_database(server: &Server) {
    server.program("createdb", &["copied"]);
    let id = filled(&server.url_of("copied"), 3).await;
    server.program("createdb", &["--template=copied", "copy"]);
    let copy = opened(&server.url_of("copy")).await;
    assert_ne!(copy, id);
    assert_eq!(opened(&server.url_of("copied")).await, id);
}

#[derive(Debug, PartialEq, serde::Serialize, serde::Deserialize)]
struct Count {
    n: u64,
}

impl Row for Count {
    const COLLECTION: &'static str = "counts";
}

#[derive(serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Thing {
    Counted(#[expect(dead_code, reason = "it is there")] u64),
}

impl Event for Thing {}

struct Counts;

impl Projection for Counts {
    const NAME: &'static str = "counts";
    const CATEGORY: &'static str = "thing";
    type Event = Thing;
    type Row = Count;

    fn apply(&self, row: Option<Count>, _: &Thing, _: &Recorded) -> Option<Count> {
        Some(Count { n: row.map_or(0, |row| row.n) + 1 })
    }
}

/// A view's rows and checkpoint are put back with their log, and go on; who follows from another store refuses.
async fn what_reads_in_the_store_goes_on(server: &Server) {
    server.program("createdb", &["followed"]);
    let url = server.url_of("followed");
    let store = open(&url).await;
    append(&store, 7).await;
    assert_eq!(counted(&store).await, Count { n: 7 });
    let copies = Store::memory();
    let (bus, mut published) = (Bus::embedded(copies.clone()), copies.watch());
    tokio::select! {
        ended = bus.relay(NAME, &store) => panic!("{ended:?}"),
        seen = published.wait_for(|head| *head == Position(7)) => drop(seen.expect("the bus is open")),
    }
    store.close().await;
    let dump = server.file("followed.dump");
    server.program("pg_dump", &["--schema=orders", "--format=custom", "--file", &dump, "followed"]);
    put_back(server, "followed", &dump);
    let store = open(&url).await;
    append(&store, 2).await;
    assert_eq!(counted(&store).await, Count { n: 9 }, "each event once");
    let page = store.read_log(Position(7), &LogFilter::all(), 10).await.expect("a cursor goes on");
    assert_eq!(page.events.iter().map(|event| event.position.0).collect::<Vec<_>>(), [8, 9]);
    let refused = bus.relay(NAME, &store).await;
    assert!(matches!(refused, Err(RelayError::OtherLog { .. })), "{refused:?}");
    store.close().await;
}

/// Runs the view up to the end of the log; its row.
async fn counted(store: &Store) -> Count {
    let view = View::new(Counts, store);
    let shutdown = CancellationToken::new();
    let read = async {
        view.wait_for(store.head(), Duration::from_secs(60)).await.expect("it gets there");
        shutdown.cancel();
    };
    let (ran, ()) = join(view.run(shutdown.clone()), read).await;
    ran.expect("it runs");
    view.row(stream().key()).await.expect("readable").expect("a row")
}

async fn a_role_that_may_not_know_the_server_notices_too(server: &Server) {
    let (url, id, dump) = dumped(server, "limited", 3).await;
    let client = server.client_of("limited").await;
    let limited = "REVOKE EXECUTE ON FUNCTION pg_control_system() FROM PUBLIC; \
                   CREATE ROLE limited LOGIN IN ROLE pg_read_all_data, pg_write_all_data";
    client.batch_execute(limited).await.expect("it is taken");
    let its = url.replace("postgres@", "limited@");
    assert_eq!(opened(&its).await, id);
    put_back(server, "limited", &dump);
    let next = opened(&its).await;
    assert_ne!(next, id);
    assert_eq!(opened(&its).await, next);
    assert_eq!(opened(&url).await, next, "who knows the server adds that");
    assert_eq!(opened(&its).await, next);
}

async fn what_is_not_noticed_is_said_by_an_operator(server: &Server) {
    server.program("createdb", &["told"]);
    let url = server.url_of("told");
    let id = filled(&url, 3).await;
    let store = open(&url).await;
    let refused =
        purlin_postgres::mark_restored(&url, NAME).await.expect_err("somebody goes on as the log that was");
    assert!(matches!(refused, OpenError::InUse { .. }), "{refused}");
    store.close().await;
    assert_eq!(opened(&url).await, id, "nothing was changed");
    let client = server.client_of("told").await;
    let format = "UPDATE orders._meta SET value = (value::integer + $1)::text WHERE name = 'format'";
    client.execute(format, &[&1]).await.expect("it is taken");
    let newer = purlin_postgres::mark_restored(&url, NAME).await.expect_err("it is of a newer program");
    assert!(matches!(newer, OpenError::Newer { .. }), "{newer}");
    client.execute(format, &[&-1]).await.expect("it is taken");
    purlin_postgres::mark_restored(&url, NAME).await.expect("nobody has it open");
    assert!(inspected(&url).await.restored);
    let next = opened(&url).await;
    assert!(next.log == id.log && next != id);
    assert_eq!(opened(&url).await, next, "once");
    let none = purlin_postgres::mark_restored(&url, "none").await.expect_err("there is no such store");
    assert!(matches!(none, OpenError::Database { .. }), "{none}");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_has_a_store_open_is_met_also_while_his_connections_are_made_again() {
    let Some(server) = Server::start() else { return };
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
    let through = format!("postgres://postgres@{}/postgres", listener.local_addr().expect("it is bound"));
    let proxy = Proxy::default();
    let mut serving = pin!(proxy.serve(listener, server.address()));
    let store = tokio::select! {
        store = open(&through) => store,
        () = &mut serving => unreachable!("it serves for ever"),
    };
    // Nobody passes on what it tries now.
    let client = server.client().await;
    let end =
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'purlin orders'";
    client.execute(end, &[]).await.expect("its connections are ended");
    let there = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'purlin orders'";
    until(&client, there, |there| there == 0).await;
    let mut marked = pin!(purlin_postgres::mark_restored(server.url(), NAME));
    let looked = "SELECT count(*) FROM pg_stat_activity \
                  WHERE query LIKE '%objsubid%' AND state = 'idle in transaction' AND pid <> pg_backend_pid()";
    tokio::select! {
        marked = &mut marked => panic!("it looked only once: {marked:?}"),
        () = until(&client, looked, |looked| looked == 1) => {}
    }
    let refused = tokio::select! {
        marked = &mut marked => marked.expect_err("it has come back"),
        () = &mut serving => unreachable!("it serves for ever"),
    };
    assert!(matches!(refused, OpenError::InUse { .. }), "{refused}");
    store.close().await;
}

async fn a_store_that_does_not_say_where_it_lives_only_writes_it_down(server: &Server) {
    server.program("createdb", &["silent"]);
    let url = server.url_of("silent");
    let id = filled(&url, 3).await;
    let client = server.client_of("silent").await;
    let forget = "DELETE FROM orders._meta WHERE name = 'home'";
    assert_eq!(client.execute(forget, &[]).await.expect("it is taken"), 1);
    assert!(!inspected(&url).await.restored);
    assert_eq!(opened(&url).await, id);
    assert_eq!(client.execute(forget, &[]).await.expect("it is taken"), 1, "it was written down");
    client.batch_execute("INSERT INTO orders._meta VALUES('home', 'here')").await.expect("it is taken");
    let refused = purlin_postgres::open(&url, NAME).await.expect_err("it is damaged");
    assert!(matches!(refused, OpenError::Database { .. }), "{refused}");
}

/// As long as there is nothing that it would have to write.
async fn a_role_that_only_reads_opens_it_all_the_same(server: &Server) {
    let (url, id, dump) = dumped(server, "read_only", 3).await;
    let client = server.client_of("read_only").await;
    let grants =
        "GRANT USAGE ON SCHEMA orders TO reads; GRANT SELECT ON ALL TABLES IN SCHEMA orders TO reads";
    client.batch_execute(&format!("CREATE ROLE reads LOGIN; {grants}")).await.expect("it is taken");
    client.batch_execute("DELETE FROM orders._meta WHERE name = 'home'").await.expect("it is taken");
    let its = url.replace("postgres@", "reads@");
    assert_eq!(opened(&its).await, id);
    assert_eq!(opened(&url).await, id);
    put_back(server, "read_only", &dump);
    client.batch_execute(grants).await.expect("it is taken");
    let refused = purlin_postgres::open(&its, NAME).await.expect_err("it cannot begin a new incarnation");
    assert!(matches!(refused, OpenError::Database { .. }), "{refused}");
    assert_ne!(opened(&url).await, id);
    opened(&its).await;
}
