//! `purlin projections`.

use serde_json::Value;

use purlin::message::Envelope;
use purlin::projection::{View, ViewState, ViewStatus};
use purlin::store::{Commit, Expected, StreamId};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::process::{Folder, OrdersView, Process, World, purlin};
use crate::server::Server;

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

fn is_live(view: &ViewStatus) -> bool {
    view.state == ViewState::Live && view.lag == 0 && view.rebuild.is_none()
}

async fn show(data: &Folder) -> Value {
    let shown = purlin(data, "projections show orders_view --json").await;
    assert_eq!(shown.status, 0, "{}", shown.err);
    json(&shown.out)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_view_is_listed_and_shown_whether_the_process_runs_or_not() {
    let data = Folder::new();
    let process = Process::start(&data, &World::mended()).await;
    process.place("a").await;
    process.until_view(|view| is_live(view) && view.position.0 > 0).await;
    let looked = async || {
        let listed = purlin(&data, "projections list").await;
        assert_eq!(listed.status, 0, "{}", listed.err);
        let row = listed.out.lines().nth(1).expect("a row");
        assert!(row.starts_with("orders   orders_view  1        live   following"), "{}", listed.out);
        let items = json(&purlin(&data, "projections list --service orders --json").await.out);
        let view = show(&data).await;
        assert_eq!((&items["items"][0], &items["more"]), (&view, &Value::Bool(false)));
        assert_eq!((&view["service"], &view["categories"][0]), (&"orders".into(), &"order".into()));
        let unknown = purlin(&data, "projections show other_view").await;
        assert_eq!((unknown.status, unknown.out.as_str()), (3, ""));
    };
    looked().await;
    process.stop().await;
    looked().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_view_is_built_anew_while_one_waits_and_a_paused_one_says_why_it_is_not() {
    let data = Folder::new();
    let process = Process::start(&data, &World::mended()).await;
    for key in 0..50 {
        process.place(&key.to_string()).await;
    }
    process.until_view(is_live).await;
    let built = purlin(&data, "projections rebuild orders_view --wait --json").await;
    assert_eq!((built.status, built.err.as_str()), (0, ""));
    let answer = json(&built.out);
    assert_eq!((&answer["rebuild"], &answer["state"]), (&Value::Null, &"live".into()), "{answer}");
    assert!(process.row("49").await.is_some());

    let paused = purlin(&data, "projections pause orders_view").await;
    assert_eq!((paused.status, paused.out.as_str()), (0, "`orders_view` of orders: it stands still\n"));
    process.place("late").await;
    let waits = purlin(&data, "projections rebuild orders_view --wait").await;
    assert_eq!(waits.status, 1);
    assert!(waits.err.contains("purlin projections resume orders_view"), "{}", waits.err);
    let again = purlin(&data, "projections rebuild orders_view").await;
    assert!(again.status == 1 && again.err.contains("already"), "{}", again.err);
    let cancelled = purlin(&data, "projections cancel orders_view").await;
    assert_eq!((cancelled.status, &show(&data).await["rebuild"]), (0, &Value::Null));
    assert_eq!(process.row("late").await, None);
    assert_eq!(purlin(&data, "projections resume orders_view").await.status, 0);
    process.until_view(is_live).await;
    assert!(process.row("late").await.is_some());
    process.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_asked_of_the_view_of_a_stopped_process_is_done_after_its_start() {
    let (data, world) = (Folder::new(), World::mended());
    let process = Process::start(&data, &world).await;
    process.place("a").await;
    process.until_view(is_live).await;
    process.stop().await;

    let asked = purlin(&data, "projections rebuild orders_view --wait").await;
    assert_eq!(asked.status, 0, "{}", asked.err);
    assert!(asked.out.contains("when its process is started"), "{}", asked.out);
    assert_eq!(show(&data).await["state"], "rebuilding");
    assert_eq!(purlin(&data, "projections pause orders_view").await.status, 0);

    let process = Process::start(&data, &world).await;
    process.place("b").await;
    assert_eq!(show(&data).await["state"], "paused");
    assert_eq!(process.row("b").await, None);
    assert_eq!(purlin(&data, "projections resume orders_view").await.status, 0);
    process.until_view(is_live).await;
    assert!(process.row("a").await.is_some() && process.row("b").await.is_some());
    process.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_that_could_not_be_folded_is_listed_tried_again_and_dropped() {
    let (data, world) = (Folder::new(), World::mended());
    let process = Process::start(&data, &world).await;
    let position = process.smudge("a").await;
    process.place("a").await;
    process.until_view(|view| view.parked == 2).await;

    let parked = purlin(&data, "projections parked orders_view").await;
    let rows: Vec<&str> = parked.out.lines().skip(1).collect();
    assert!(rows[0].contains("parked") && rows[0].contains("colour"), "{}", parked.out);
    assert!(rows[1].contains("waiting") && rows[1].ends_with('-'), "{}", parked.out);
    let first = json(&purlin(&data, "projections parked orders_view --limit 1 --json").await.out);
    assert_eq!((&first["items"][0]["position"], &first["more"]), (&position.into(), &true.into()));

    let doctor = purlin(&data, "doctor").await;
    assert_eq!(doctor.status, 1, "{}", doctor.out);
    assert!(doctor.out.contains("purlin projections parked orders_view --service orders"), "{}", doctor.out);

    let attempts = first["items"][0]["attempts"].as_u64().expect("a number");
    let retried = purlin(&data, &format!("projections retry orders_view {position}")).await;
    assert_eq!(retried.status, 0, "{}", retried.err);
    let views = purlin::projection::Views::new(&process.orders);
    process
        .until(async || {
            let parked = views.parked("orders_view", None, 10).await.expect("a page");
            (u64::from(parked.items[0].attempts) > attempts).then_some(())
        })
        .await;

    process.stop().await;
    let dropped = purlin(&data, &format!("projections drop orders_view {position}")).await;
    assert_eq!(dropped.status, 0, "{}", dropped.err);
    let gone = purlin(&data, &format!("projections drop orders_view {position}")).await;
    assert_eq!(gone.status, 3, "{}", gone.err);
    let process = Process::start(&data, &world).await;
    process.until_view(|view| is_live(view) && view.parked == 0).await;
    assert!(process.row("a").await.is_some());
    assert_eq!(purlin(&data, "projections parked orders_view").await.out, "no event is parked\n");
    process.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_doctor_warns_of_a_view_that_is_paused_and_of_none_that_is_live() {
    let data = Folder::new();
    let process = Process::start(&data, &World::mended()).await;
    process.place("a").await;
    process.until_view(is_live).await;
    let about = async || {
        let report = json(&purlin(&data, "doctor --json").await.out);
        let findings = report["findings"].as_array().expect("findings").iter();
        let of_view: Vec<Value> = findings
            .filter(|finding| finding["about"] == "orders: projection orders_view")
            .cloned()
            .collect();
        assert_eq!(of_view.len(), 1, "{report}");
        of_view[0].clone()
    };
    assert_eq!(about().await["level"], "ok");
    assert_eq!(purlin(&data, "projections pause orders_view").await.status, 0);
    assert_eq!(about().await["level"], "warn");
    process.stop().await;
    let paused = about().await;
    assert_eq!(paused["level"], "warn");
    assert_eq!(paused["advice"], "purlin projections resume orders_view --service orders");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_view_in_postgresql_is_built_anew_by_the_process_that_runs_it() {
    let Some(server) = Server::start() else { return };
    let data = Folder::new();
    let asked =
        async |verb: &str| purlin(&data, &format!("projections {verb} --store {}", server.url())).await;
    let store = purlin_postgres::open(server.url(), "orders").await.expect("a store");
    let stream = StreamId::new("order", "a").expect("a stream");
    let event = Envelope::raw("order.placed", r#"{"colour":"red"}"#);
    let commit = Commit::new().append(stream, Expected::NoStream, [event]);
    let placed = store.commit(commit).await.expect("a commit").position;
    let view = View::new(OrdersView, &store);
    let stop = CancellationToken::new();
    let mut running = JoinSet::new();
    running.spawn(view.run(stop.clone()));
    view.wait_for(placed, std::time::Duration::from_secs(20)).await.expect("it is folded");

    let built = asked("rebuild orders_view --wait").await;
    assert_eq!(built.status, 0, "{}", built.err);
    assert_eq!(built.out, "the rebuild of `orders_view` of orders has ended: it is live, at 1\n");
    let paused = asked("pause orders_view").await;
    assert_eq!(paused.status, 0, "{}", paused.err);
    let listed = asked("list").await;
    assert!(listed.out.contains("orders_view  1        paused"), "{}", listed.out);
    stop.cancel();
    running.join_next().await.expect("it was begun").expect("no panic").expect("it ran");
    store.close().await;
}
