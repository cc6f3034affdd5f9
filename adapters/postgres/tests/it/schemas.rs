//! Schemas: a store each, and what is in them.

use purlin::message::{Envelope, Fault, FaultKind};
use purlin::store::{
    Collection, Commit, CommitError, Expected, Field, LogFilter, Position, Query, Revision, Row, Store,
    StreamId, transfer,
};
use purlin_postgres::{OpenError, Options, Postgres};

use crate::server::Server;

#[derive(Debug, PartialEq, serde::Serialize, serde::Deserialize)]
struct Odd {
    xmin: String,
    key: i64,
    tags: Vec<String>,
}

impl Row for Odd {
    const COLLECTION: &'static str = "pg_class";
    const FIELDS: &'static [Field] = &[Field::text("xmin"), Field::integer("key"), Field::texts("tags")];
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_has_a_schema_of_its_own() {
    let Some(server) = Server::start() else { return };
    schemas_know_nothing_of_each_other(&server).await;
    what_is_for_one_process_is_refused_to_a_second(&server).await;
    a_newer_format_and_a_foreign_schema_are_refused(&server).await;
    urls_that_cannot_be_met_are_refused(&server).await;
    names_and_texts_of_every_kind_are_taken(&server).await;
    a_store_into_which_an_import_was_cut_off_is_refused(&server).await;
    what_postgres_cannot_store_is_refused_alone(&server).await;
    a_restored_dump_goes_on_where_it_was(&server).await;
}

async fn schemas_know_nothing_of_each_other(server: &Server) {
    let orders = purlin_postgres::open(server.url(), "orders").await.expect("a store");
    let network = purlin_postgres::open(server.url(), "card-network").await.expect("a store");
    assert_ne!(orders.log_id(), network.log_id());
    let append = || Commit::new().append(stream(), Expected::NoStream, [Envelope::raw("x", "1")]);
    orders.commit(append()).await.expect("it is taken");
    network.commit(append()).await.expect("it is taken");
    assert_eq!((orders.head(), network.head()), (Position(1), Position(1)));
    let told = orders.backup(std::path::Path::new("copy")).await.expect_err("it is refused");
    assert!(told.to_string().contains("pg_dump"), "{told}");
}

async fn what_is_for_one_process_is_refused_to_a_second(server: &Server) {
    let options = || {
        let patience = std::time::Duration::from_millis(300);
        Options { sole: true, patience, ..Options::new(server.url(), "alone") }
    };
    let first = Store::new(Postgres::open(options()).await.expect("a store"));
    let append = || Commit::new().append(stream(), Expected::Any, [Envelope::raw("x", "1")]);
    first.commit(append()).await.expect("it writes");
    let refused = Postgres::open(options()).await.err().expect("it is refused");
    assert!(matches!(refused, OpenError::InUse { .. }), "{refused}");
    first.close().await;
    let next = Store::new(Postgres::open(options()).await.expect("the first is gone"));
    next.commit(append()).await.expect("it writes");
    next.close().await;
}

async fn a_newer_format_and_a_foreign_schema_are_refused(server: &Server) {
    let client = server.client().await;
    purlin_postgres::open(server.url(), "newer").await.expect("a store").close().await;
    client
        .batch_execute("UPDATE newer._meta SET value = '99' WHERE name = 'format'")
        .await
        .expect("it is taken");
    let refused = purlin_postgres::open(server.url(), "newer").await.expect_err("it is refused");
    assert!(matches!(refused, OpenError::Newer { found: 99, known: 4, .. }), "{refused}");
    assert_eq!(refused.kind(), FaultKind::Rejected);
    client.batch_execute("CREATE SCHEMA mine; CREATE TABLE mine.t(x int)").await.expect("it is taken");
    let refused = purlin_postgres::open(server.url(), "mine").await.expect_err("it is refused");
    assert!(matches!(refused, OpenError::Database { .. }), "{refused}");
    client.batch_execute("CREATE SCHEMA granted").await.expect("it is taken");
    purlin_postgres::open(server.url(), "granted").await.expect("an empty schema can become a store");
    client
        .batch_execute("CREATE DATABASE ascii ENCODING 'SQL_ASCII' TEMPLATE template0")
        .await
        .expect("it is taken");
    let ascii = server.url_of("ascii");
    let refused = purlin_postgres::open(ascii, "orders").await.expect_err("it is refused");
    assert!(matches!(refused, OpenError::Database { .. }), "{refused}");
}

async fn urls_that_cannot_be_met_are_refused(server: &Server) {
    let odd = format!("{}?sslmode=sometimes", server.url());
    let refused = purlin_postgres::open(odd, "orders").await.expect_err("it is refused");
    assert!(matches!(refused, OpenError::Tls { .. }), "{refused}");
    let refused = purlin_postgres::open("postgres://[", "orders").await.expect_err("it is refused");
    assert!(matches!(refused, OpenError::Url { .. }), "{refused}");
    let refused = purlin_postgres::open(server.url(), "pg_catalog").await.expect_err("it is refused");
    assert!(matches!(refused, OpenError::Name { .. }), "{refused}");
    let nobody = Options {
        patience: std::time::Duration::ZERO,
        ..Options::new("postgres://postgres@127.0.0.1:1/postgres", "orders")
    };
    let refused = Postgres::open(nobody).await.err().expect("nobody is there");
    assert_eq!(refused.kind(), FaultKind::Unavailable, "{refused}");
}

async fn names_and_texts_of_every_kind_are_taken(server: &Server) {
    let store = purlin_postgres::open(server.url(), "odd \"schema\"").await.expect("a store");
    store.define::<Odd>().await.expect("it is taken");
    let long = |end: &str| format!("{}{end}", "long ".repeat(20_000));
    let odd = |text: String, tag: String| Odd { xmin: text, key: 7, tags: vec![tag, "a\"b\\,{}".into()] };
    let put = |key: &str, row: &Odd| store.commit(Commit::new().put(key, row));
    put("a", &odd(long("1"), long("1"))).await.expect("it is taken");
    put("b", &odd(long("2"), long("2"))).await.expect("it is taken");
    put(&"k".repeat(512), &odd("short".into(), "short".into())).await.expect("it is taken");
    let keys = |query: Query| async {
        let page = store.list::<Odd>(query).await.expect("it is taken");
        page.records.into_iter().map(|record| record.key).collect::<Vec<_>>()
    };
    assert_eq!(keys(Query::all().and("xmin", long("2"))).await, ["b"]);
    assert_eq!(keys(Query::all().and("tags", long("1"))).await, ["a"]);
    assert_eq!(keys(Query::all().and("tags", "a\"b\\,{}").and("key", 7)).await.len(), 3);
    assert_eq!(store.get::<Odd>("a").await.expect("it is taken"), Some(odd(long("1"), long("1"))));
    // Fields that come later are filled in the same way.
    let plain = Collection { name: "pg_class".into(), fields: [].as_slice().into() };
    store.define_collection(plain).await.expect("it is taken");
    store.define::<Odd>().await.expect("it is taken");
    assert_eq!(keys(Query::all().and("xmin", long("2")).and("tags", long("2"))).await, ["b"]);
    assert_eq!(keys(Query::all().and("key", 7).prefix("k")).await.len(), 1);
    for name in ["event", "meta", "pg_class_pkey"] {
        let named = Collection { name: name.into(), fields: vec![Field::text("ctid")].into() };
        store.define_collection(named).await.expect("it is taken");
    }
}

async fn what_postgres_cannot_store_is_refused_alone(server: &Server) {
    let store = purlin_postgres::open(server.url(), "texts").await.expect("a store");
    store.define::<Odd>().await.expect("it is taken");
    let odd = Odd { xmin: "x\0".into(), key: 1, tags: vec!["\0".into()] };
    let refused = store.commit(Commit::new().put("a", &odd)).await;
    assert!(matches!(refused, Err(CommitError::Invalid(_))), "{refused:?}");
    let refused = store.commit(Commit::new().delete::<Odd>("a\0", Revision::Any)).await;
    assert!(matches!(refused, Err(CommitError::Invalid(_))), "{refused:?}");
    assert_eq!(store.get::<Odd>("a\0").await.expect("it is taken"), None);
    assert!(store.list::<Odd>(Query::all().after(Some("a\0".into()))).await.is_err());
    let escaped = Envelope::raw("x", "\"\\u0000\"");
    store.commit(Commit::new().append(stream(), Expected::Any, [escaped])).await.expect("it is taken");
    // Many at once, and one that the server itself refuses: the others happen.
    let no_json = |key: usize| {
        let good = Odd { xmin: "x".into(), key: 1, tags: Vec::new() };
        let mut commit = Commit::new().put(key.to_string(), &good);
        if key == 7
            && let purlin::store::WriteKind::Put { value, .. } = &mut commit.writes[0].kind
        {
            *value = "this is no JSON".into();
        }
        store.commit(commit)
    };
    let outcomes = futures_util::future::join_all((0..20).map(no_json)).await;
    for (key, outcome) in outcomes.iter().enumerate() {
        assert_eq!(outcome.is_err(), key == 7, "{key}: {outcome:?}");
    }
    assert!(matches!(outcomes[7], Err(CommitError::Invalid(_))), "{:?}", outcomes[7]);
    assert_eq!(store.list::<Odd>(Query::all()).await.expect("it is taken").records.len(), 19);
}

async fn a_restored_dump_goes_on_where_it_was(server: &Server) {
    let store = purlin_postgres::open(server.url(), "dumped").await.expect("a store");
    store.define::<Odd>().await.expect("defined");
    let row = Odd { xmin: "x".into(), key: 1, tags: vec!["t".into()] };
    for n in 0..20 {
        let commit = Commit::new().append(stream(), Expected::Version(n), [Envelope::raw("x", "1")]);
        store.commit(commit.put("a", &row)).await.expect("a commit");
    }
    let revision = store.get_record("pg_class", "a").await.expect("readable").expect("it is there").revision;
    let file = server.file("dump");
    server.program("pg_dump", &["--schema=dumped", "--format=custom", "--file", &file, "postgres"]);
    server.program("createdb", &["restored"]);
    server.program("pg_restore", &["--dbname=restored", &file]);
    let restored = purlin_postgres::open(server.url_of("restored"), "dumped").await.expect("it is a store");
    assert_eq!((restored.log_id().log, restored.head()), (store.log_id().log, Position(20)));
    let commit = Commit::new().append(stream(), Expected::Version(20), [Envelope::raw("x", "1")]);
    let next = commit.put_expecting("a", &row, Revision::Exact(revision), None);
    let next = restored.commit(next).await.expect("versions and revisions go on");
    assert!(next.position == Position(21) && next.revision > revision);
    let page = restored.read_log(Position(19), &LogFilter::all(), 10).await.expect("a reader goes on");
    assert_eq!(page.events.iter().map(|event| event.position.0).collect::<Vec<_>>(), [20, 21]);
    let found = restored.list::<Odd>(Query::all().and("tags", "t")).await.expect("indexed");
    assert_eq!(found.records.len(), 1);
}

async fn a_store_into_which_an_import_was_cut_off_is_refused(server: &Server) {
    let (memory, mut lines) = (Store::memory(), Vec::new());
    let event = Envelope::raw("order.placed", "1");
    let stream = StreamId::new("order", 1).expect("a stream");
    memory.commit(Commit::new().append(stream, Expected::Any, [event])).await.expect("an append");
    transfer::export(&memory, &mut lines, |_| ()).await.expect("an export");
    let half = || Options {
        log: Some(memory.log_id()),
        half_imported: true,
        ..Options::new(server.url(), "half_imported")
    };
    let store = Store::new(Postgres::open(half()).await.expect("a new store"));
    transfer::import(&store, &lines[..lines.len() - 1], |_| ()).await.expect_err("it is cut off");
    store.close().await;
    let refused = purlin_postgres::open(server.url(), "half_imported").await.expect_err("half a log");
    assert_eq!(refused.kind(), FaultKind::Rejected);
    assert!(matches!(refused, OpenError::HalfImported { .. }), "{refused}");
    let store = Store::new(Postgres::open(half()).await.expect("the import goes on"));
    transfer::import(&store, &lines[..], |_| ()).await.expect("the whole of it");
    store.close().await;
    purlin_postgres::open(server.url(), "half_imported").await.expect("a whole store").close().await;
}

fn stream() -> StreamId {
    StreamId::new("thing", 1).expect("a name")
}
