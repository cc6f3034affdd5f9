//! `purlin store`: copies of stores, and moving them from one engine to another.

use purlin::message::{Envelope, Meta, Timestamp, TraceContext, new_id};
use purlin::store::{Commit, Expected, Field, LogId, Revision, Row, Store, StreamId, transfer};
use serde::{Deserialize, Serialize};

use crate::process::{Folder, Process, World, purlin};
use crate::server::Server;

#[derive(Debug, Serialize, Deserialize)]
struct Bill {
    customer: String,
    total: i64,
    tags: Vec<String>,
}

impl Row for Bill {
    const COLLECTION: &'static str = "bills";
    const FIELDS: &'static [Field] =
        &[Field::text("customer"), Field::integer("total"), Field::texts("tags")];
}

/// Puts all into a store that an event and a record can have.
async fn fill(store: &Store) {
    store.define::<Bill>().await.expect("a collection");
    for n in 0..300_u64 {
        let meta = Meta {
            trace: Some(TraceContext { trace_id: 1 << 100, span_id: n + 1, flags: 1 }),
            correlation: Some(new_id()),
            causation: (n % 2 == 0).then(new_id),
            deadline: Timestamp::from_second(2_000_000_000).ok().filter(|_| n % 5 == 0),
        };
        let data = format!("{{\"n\": {n}.50, \"text\": \"\u{1F9F5} \\u0041\"}}");
        let placed = Envelope { meta, schema: 2, ..Envelope::raw("order.placed", data) }.public();
        let tagged = Envelope::raw("order.tagged", "null").tagged(["course:1", "student:7"]);
        let bill = Bill { customer: format!("ада {n}"), total: -n.cast_signed(), tags: vec!["a".into()] };
        let due = Timestamp::from_second(2_000_000_000 + n.cast_signed()).ok().filter(|_| n % 3 == 0);
        let stream = |key: u64| StreamId::new("order", key).expect("a stream");
        let commit = Commit::new().append(stream(n % 40), Expected::Any, [placed, tagged]).put_expecting(
            format!("bill/{n}"),
            &bill,
            Revision::Absent,
            due,
        );
        store.commit(commit).await.expect("a commit");
    }
}

async fn open(data: &Folder, name: &str) -> Store {
    purlin_sqlite::open(data.path().join(name)).await.expect("a store opens")
}

/// Makes a store `orders.db`; which log it is.
async fn filled(data: &Folder) -> LogId {
    let store = open(data, "orders.db").await;
    fill(&store).await;
    store.close().await;
    store.log_id()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_in_use_is_backed_up_and_restored() {
    let (data, elsewhere) = (Folder::new(), Folder::new());
    let process = Process::start(&data, &World::mended()).await;
    process.place("a").await;
    let copy = elsewhere.path().join("copy.backup");
    let backed = purlin(&data, &format!("store backup {}", copy.display())).await;
    assert_eq!(backed.status, 0, "{}", backed.err);
    assert!(backed.out.contains("is a copy of the store of orders"), "{}", backed.out);
    let again = purlin(&data, &format!("store backup {}", copy.display())).await;
    assert_eq!(again.status, 1);
    assert!(again.err.contains("is there already"), "{}", again.err);
    process.place("b").await;
    let log = process.orders.log_id();
    process.stop().await;

    let new = data.path().join("new/orders.db");
    let restored = purlin(&data, &format!("store restore {} {} --json", copy.display(), new.display())).await;
    assert_eq!(restored.status, 0, "{}", restored.err);
    let store = purlin_sqlite::open(&new).await.expect("a store");
    assert_eq!((store.log_id().log, store.log_id() == log), (log.log, false), "a life of its own");
    let stream = StreamId::new("order", "a").expect("a stream");
    assert_eq!(store.read_stream(&stream, 1, 10).await.expect("a stream").len(), 1);
    store.close().await;
    let twice = purlin(&data, &format!("store restore {} {}", copy.display(), new.display())).await;
    assert_eq!(twice.status, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn where_a_backup_cannot_go_is_said() {
    let (data, elsewhere) = (Folder::new(), Folder::new());
    filled(&data).await;
    let there = elsewhere.path().join("there.backup");
    std::fs::write(&there, "something else").expect("a file");
    let nowhere = elsewhere.path().join("none/copy.backup");
    let within = data.path().join("copies");
    std::fs::create_dir(&within).expect("a folder");
    let linked = elsewhere.path().join("link");
    std::os::unix::fs::symlink(data.path(), &linked).expect("a link");
    for (to, said) in [
        (there.clone(), "is there already"),
        (elsewhere.path().to_owned(), "is there already"),
        (nowhere, "none"),
        (data.path().join("copy.db"), "is in the data folder"),
        (within.join("copy.db"), "is in the data folder"),
        (linked.join("copy.db"), "is in the data folder"),
        (data.path().join("orders.db"), "is in the data folder"),
    ] {
        let refused = purlin(&data, &format!("store backup {} --service orders", to.display())).await;
        assert!(refused.status == 1 && refused.err.contains(said), "{}: {}", to.display(), refused.err);
    }
    assert_eq!(std::fs::read_to_string(&there).expect("a file"), "something else");
    assert!(!data.path().join("copy.db").exists());
    // A path without a folder is one in the folder that the command runs in.
    let mut command = crate::process::command(&data, "store backup here.backup --service orders");
    let ran = command.current_dir(elsewhere.path()).output().expect("the binary can be started");
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    assert!(elsewhere.path().join("here.backup").is_file());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_archive_that_was_carried_away_is_named_by_a_flag_and_the_doctor_looks_there() {
    let (data, cold) = (Folder::new(), Folder::new());
    filled(&data).await;
    let archived = purlin(&data, "streams archive --service orders --category order --idle-for 0s").await;
    assert_eq!(archived.status, 0, "{}", archived.err);
    let away = cold.path().join("orders");
    std::fs::rename(data.path().join("orders.db.archive"), &away).expect("moved");
    let place = format!("sqlite:{}", data.path().join("orders.db").display());
    let remembered = purlin(&data, &format!("doctor --store {place}")).await;
    assert_eq!(remembered.status, 2, "{}", remembered.out);
    let said = format!("--store {place} --archive {}", away.display());
    let doctor = purlin(&data, &format!("doctor {said}")).await;
    assert_eq!(doctor.status, 0, "{}", doctor.out);
    assert!(doctor.out.contains(&*away.to_string_lossy()), "{}", doctor.out);
    let shown = purlin(&data, "streams show order-1 --limit 1").await;
    assert_eq!(shown.status, 0, "it is remembered: {}", shown.err);
    // And back again, said in the other way.
    std::fs::rename(&away, data.path().join("back")).expect("moved");
    let back = format!("{place}?archive={}", data.path().join("back").display());
    let doctor = purlin(&data, &format!("doctor --store {back}")).await;
    assert_eq!(doctor.status, 0, "{}", doctor.out);
    let of_folder = purlin(&data, "streams list --archive cold").await;
    assert_eq!(of_folder.status, 2, "an archive belongs to one store: {}", of_folder.err);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_export_is_imported_as_the_same_log_and_a_cut_one_is_refused_until_it_is_whole() {
    let data = Folder::new();
    let log = filled(&data).await;
    let file = data.path().join("orders.jsonl");
    let exported = purlin(&data, &format!("store export --to {}", file.display())).await;
    assert_eq!(exported.status, 0, "{}", exported.err);
    let lines = std::fs::read_to_string(&file).expect("the export");
    assert_eq!(lines.lines().count(), 1 + 600 + 300 + 1);
    let piped = purlin(&data, "store export --to -").await;
    assert_eq!(
        piped.out.lines().skip(1).take(900).collect::<Vec<_>>(),
        lines.lines().skip(1).take(900).collect::<Vec<_>>()
    );

    let cut = data.path().join("cut.jsonl");
    std::fs::write(&cut, &lines[..lines.len() - 1000]).expect("a file");
    let place = format!("sqlite:{}", data.path().join("new/orders.db").display());
    let import = async |from: &std::path::Path| {
        purlin(&data, &format!("store import --into {place} --from {}", from.display())).await
    };
    let refused = import(&cut).await;
    assert_eq!(refused.status, 1);
    assert!(refused.err.contains("cut off behind line"), "{}", refused.err);
    let half = purlin(&data, &format!("store export --store {place} --to -")).await;
    assert!(half.status == 1 && half.err.contains("half imported"), "{}", half.err);
    let doctor = purlin(&data, &format!("doctor --store {place}")).await;
    assert!(doctor.status == 2 && doctor.out.contains("half imported"), "{}", doctor.out);
    let opened = purlin_sqlite::open(data.path().join("new/orders.db")).await;
    assert!(matches!(opened, Err(purlin_sqlite::OpenError::HalfImported { .. })), "{opened:?}");
    let moved =
        purlin(&data, &format!("store move --from {place} --to sqlite:{}/x.db", data.path().display())).await;
    assert!(moved.status == 1 && moved.err.contains("half imported"), "{}", moved.err);

    let whole = import(&file).await;
    assert_eq!(whole.status, 0, "{}", whole.err);
    let (old, new) = (open(&data, "orders.db").await, open(&data, "new/orders.db").await);
    assert_eq!(new.log_id(), log);
    let compared = transfer::compare(&old, &new, |_| ()).await.expect("the same");
    assert_eq!((compared.events, compared.records), (600, 300));
    old.close().await;
    new.close().await;
    let again = import(&file).await;
    assert!(again.status == 1 && again.err.contains("has 600 events already"), "{}", again.err);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_moves_to_postgresql_and_back_and_is_looked_at_there() {
    let Some(server) = Server::start() else { return };
    let data = Folder::new();
    let log = filled(&data).await;
    let sqlite = |name: &str| format!("sqlite:{}", data.path().join(name).display());
    let database = format!("{}?service=orders", server.url());
    let moved = purlin(&data, &format!("store move --from {} --to {database}", sqlite("orders.db"))).await;
    assert_eq!(moved.status, 0, "{}", moved.err);
    assert!(moved.out.contains("600 events and 300 records"), "{}", moved.out);

    let store = purlin_postgres::open(server.url(), "orders").await.expect("a store");
    assert_eq!(store.log_id(), log);
    let old = open(&data, "orders.db").await;
    transfer::compare(&old, &store, |_| ()).await.expect("the same");
    old.close().await;
    // It goes on: behind the last position, in the same streams.
    let stream = StreamId::new("order", 1).expect("a stream");
    let more = Commit::new().append(stream, Expected::Version(16), [Envelope::raw("order.paid", "1")]);
    assert_eq!(store.commit(more).await.expect("a commit").position.0, 601);
    store.close().await;

    let shown = purlin(&data, &format!("streams show order-1 --back --limit 1 --store {database}")).await;
    assert!(shown.status == 0 && shown.out.contains("order.paid"), "{}{}", shown.out, shown.err);
    let all = purlin(&data, &format!("streams list --store {} --limit 2", server.url())).await;
    assert!(all.out.contains("orders   order-0"), "{}{}", all.out, all.err);
    let doctor = purlin(&data, &format!("doctor --log --store {}", server.url())).await;
    assert_eq!(doctor.status, 0, "{}", doctor.out);
    assert!(doctor.out.contains("601 events of 40 streams, without a gap"), "{}", doctor.out);

    let again = purlin(&data, &format!("store move --from {} --to {database}", sqlite("orders.db"))).await;
    assert!(again.status == 1 && again.err.contains("already"), "{}", again.err);
    let back =
        purlin(&data, &format!("store move --from {database} --to {}", sqlite("back/orders.db"))).await;
    assert_eq!(back.status, 0, "{}", back.err);
    let back = open(&data, "back/orders.db").await;
    assert_eq!((back.log_id(), back.head().0), (log, 601));
    let store = purlin_postgres::open(server.url(), "orders").await.expect("a store");
    transfer::compare(&store, &back, |_| ()).await.expect("the same");
    store.close().await;
    back.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_somebody_uses_is_not_moved() {
    let data = Folder::new();
    filled(&data).await;
    let store = open(&data, "orders.db").await;
    let place = format!("sqlite:{}", data.path().join("orders.db").display());
    let other = format!("sqlite:{}", data.path().join("other.db").display());
    let moved = purlin(&data, &format!("store move --from {place} --to {other}")).await;
    assert!(moved.status == 1 && moved.err.contains("in use"), "{}", moved.err);
    assert!(!data.path().join("other.db").exists());
    store.close().await;
    let nowhere = purlin(&data, &format!("store move --from {place} --to mysql://db/x")).await;
    assert!(nowhere.status == 2 && nowhere.err.contains("sqlite:FILE.db"), "{}", nowhere.err);
}
