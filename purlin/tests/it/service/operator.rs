//! What an operator asks of a process.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use http::{Method, Request};
use http_body_util::BodyExt;
use purlin::bus::{Bus, Failure, Group, Message};
use purlin::message::{Clock, Envelope, Fault, FaultKind, new_id};
use purlin::projection::{Projection, View};
use purlin::resilience::policies::Section;
use purlin::resilience::{Breakers, Calls, Operator, Policies, PolicyError, Reason, Retry};
use purlin::saga::{Saga, SagaError, SagaRow, SagaState, Sagas};
use purlin::service::operator::{self, Served};
use purlin::store::{Commit, Expected, Position, Query, ReadError, Recorded, Row, Store, StreamId};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

const LONG: Duration = Duration::from_secs(30);

#[derive(Debug, thiserror::Error)]
#[error("the card network is away")]
struct Failed;

impl Fault for Failed {
    fn kind(&self) -> FaultKind {
        FaultKind::Unavailable
    }
}

fn house() -> Router {
    let served = |name: &str| Served { name: name.into(), store: Store::memory() };
    operator::router([served("orders"), served("inventory")])
}

async fn ask(router: &Router, method: Method, path: &str) -> (u16, String, Value) {
    let request = Request::builder().method(method).uri(path).body(Body::empty()).unwrap();
    send(router, request).await
}

async fn send(router: &Router, request: Request<Body>) -> (u16, String, Value) {
    let response = router.clone().oneshot(request).await.unwrap();
    let content_type = response.headers()["content-type"].to_str().unwrap().to_owned();
    let status = response.status().as_u16();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    (status, content_type, serde_json::from_slice(&body).unwrap())
}

#[tokio::test]
async fn a_service_that_never_had_trouble_has_empty_lists() {
    let house = house();
    let (_, _, services) = ask(&house, Method::GET, "/").await;
    assert_eq!(services, json!({ "services": ["inventory", "orders"] }));
    for path in ["/orders/dead-letters", "/orders/dead-letters?group=g&limit=5", "/orders/sagas?state=stuck"]
    {
        let (status, _, body) = ask(&house, Method::GET, path).await;
        assert_eq!((status, body), (200, json!({ "items": [], "next": null })), "{path}");
    }
}

/// A group that accepts what another life of it refused: it has a dead message for each of these keys.
async fn dead_letters(store: &Store, keys: &[&str]) -> Group {
    let (bus, source) = (Bus::embedded(Store::memory()), Store::memory());
    for key in keys {
        let event = Envelope::raw("order.created", "1").public();
        let append = Commit::new().append(StreamId::new("order", key).unwrap(), Expected::Any, [event]);
        source.commit(append).await.unwrap();
    }
    let once = Retry { max_attempts: 1, ..Group::DEFAULT_RETRY };
    let refuse = async |_| Err::<Commit, _>(Failure::new(FaultKind::Rejected, "not today"));
    let group = bus.group("g", store).retry(once).on("order.created", refuse);
    let dead = async {
        let mut changes = store.watch();
        while group.status().await.unwrap().dead_keys < keys.len() as u64 {
            changes.changed().await.unwrap();
        }
    };
    tokio::select! {
        end = bus.relay("orders", &source) => panic!("{end:?}"),
        end = group.run(CancellationToken::new()) => panic!("{end:?}"),
        () = dead => {}
    }
    let accept = async |message: Message| {
        let stream = StreamId::new("effect", message.key()).unwrap();
        Ok::<_, Failure>(Commit::new().append(stream, Expected::Any, [Envelope::raw("effect.made", "1")]))
    };
    bus.group("g", store).on("order.created", accept)
}

#[tokio::test]
async fn a_dead_message_is_replayed_or_dropped_as_the_operator_says() {
    let store = Store::memory();
    let group = dead_letters(&store, &["a", "b"]).await;
    let house = operator::router([Served { name: "orders".into(), store: store.clone() }]);
    let (_, _, list) = ask(&house, Method::GET, "/orders/dead-letters").await;
    let ids: Vec<&str> =
        list["items"].as_array().unwrap().iter().map(|item| item["id"].as_str().unwrap()).collect();
    assert_eq!(ids, ["g-1", "g-2"]);
    let (status, _, body) = ask(&house, Method::POST, "/orders/dead-letters/g-1/replay").await;
    assert_eq!((status, body), (200, json!({ "id": "g-1" })));
    let (status, _, body) = ask(&house, Method::POST, "/orders/dead-letters/g-2/drop").await;
    assert_eq!((status, body), (200, json!({ "id": "g-2" })));
    let free = async {
        let mut changes = store.watch();
        while group.status().await.unwrap().parked > 0 {
            changes.changed().await.unwrap();
        }
    };
    tokio::select! {
        end = group.run(CancellationToken::new()) => panic!("{end:?}"),
        () = free => {}
    }
    let effects = async |key| store.read_stream(&StreamId::new("effect", key).unwrap(), 1, 9).await.unwrap();
    assert_eq!((effects("a").await.len(), effects("b").await.len()), (1, 0));
    let (_, _, list) = ask(&house, Method::GET, "/orders/dead-letters").await;
    assert_eq!(list["items"], json!([]));
}

#[tokio::test]
async fn a_stuck_saga_goes_on_when_the_operator_says_so() {
    /// Whether the payment can be given back.
    type Card = Arc<AtomicBool>;
    async fn buy(saga: Saga<Card>, _: ()) -> Result<(), SagaError> {
        let once = Retry { max_attempts: 1, ..Retry::default() };
        saga.step("pay", async |_| Ok::<_, Failed>(()))
            .compensate(async |at, _| if at.load(Ordering::SeqCst) { Ok(()) } else { Err(Failed) })
            .compensation_retry(once)
            .await?;
        Err(SagaError::refuse("no", "changed my mind"))
    }
    let store = Store::memory();
    let card = Card::default();
    let sagas = Sagas::new(&store, Arc::clone(&card), Clock::system()).register("buy", buy);
    sagas.prepare().await.unwrap();
    let id = new_id();
    store.commit(sagas.start("buy", id, &()).unwrap()).await.unwrap();
    let house = operator::router([Served { name: "orders".into(), store: store.clone() }]);
    let acts = async {
        assert_eq!(sagas.wait(id, LONG).await.unwrap().state, SagaState::Stuck);
        let (_, _, stuck) = ask(&house, Method::GET, "/orders/sagas?state=stuck").await;
        assert_eq!(stuck["items"][0]["id"], json!(id));
        card.store(true, Ordering::SeqCst);
        let (status, _, body) = ask(&house, Method::POST, &format!("/orders/sagas/{id}/retry")).await;
        assert_eq!((status, body), (200, json!({ "id": id })));
        let mut changes = store.watch();
        while sagas.show(id).await.unwrap().unwrap().state != SagaState::Failed {
            changes.changed().await.unwrap();
        }
    };
    tokio::select! {
        end = sagas.clone().run(CancellationToken::new()) => panic!("{end:?}"),
        () = acts => {}
    }
}

#[tokio::test]
async fn what_is_not_there_or_makes_no_sense_is_a_problem() {
    let (house, nobody) = (house(), new_id());
    for (method, path, expected) in [
        (Method::GET, "/payments/sagas".to_owned(), 404),
        (Method::GET, "/payments/dead-letters".to_owned(), 404),
        (Method::GET, "/orders/nothing".to_owned(), 404),
        (Method::GET, format!("/orders/sagas/{nobody}"), 404),
        (Method::GET, "/orders/sagas/not-an-id".to_owned(), 404),
        (Method::POST, format!("/orders/sagas/{nobody}/retry"), 404),
        (Method::GET, "/orders/dead-letters/g-7".to_owned(), 404),
        (Method::POST, "/orders/dead-letters/g-7/replay".to_owned(), 404),
        (Method::POST, "/orders/dead-letters/g-7/drop".to_owned(), 404),
        (Method::GET, "/orders/sagas?state=sad".to_owned(), 400),
        (Method::GET, "/orders/sagas?colour=red".to_owned(), 400),
        (Method::GET, "/orders/dead-letters?limit=0".to_owned(), 400),
    ] {
        let (status, content_type, body) = ask(&house, method, &path).await;
        assert_eq!((status, &*content_type), (expected, "application/problem+json"), "{path}: {body}");
    }
}

#[tokio::test]
async fn who_only_looks_writes_nothing() {
    let store = Store::memory();
    let house = operator::router([Served { name: "orders".into(), store: store.clone() }]);
    for path in ["/orders/sagas", "/orders/dead-letters", "/orders/dead-letters/g-7"] {
        ask(&house, Method::GET, path).await;
    }
    ask(&house, Method::GET, &format!("/orders/sagas/{}", new_id())).await;
    ask(&house, Method::POST, &format!("/orders/sagas/{}/retry", new_id())).await;
    let sagas = store.list::<SagaRow>(Query::all()).await;
    assert!(matches!(sagas, Err(ReadError::Invalid(_))), "no collection of sagas was made: {sagas:?}");
    let parked = store.get_record("purlin_parked_messages", "g/7").await;
    assert!(matches!(parked, Err(ReadError::Invalid(_))), "no collection of parked messages was made");
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
enum NoteEvent {
    Written(String),
}

impl purlin::message::Event for NoteEvent {}

#[derive(Serialize, Deserialize)]
struct NoteRow(String);

impl Row for NoteRow {
    const COLLECTION: &'static str = "notes_view";
}

struct Notes;

impl Projection for Notes {
    const NAME: &'static str = "notes";
    const CATEGORY: &'static str = "note";
    type Event = NoteEvent;
    type Row = NoteRow;

    fn apply(&self, _: Option<NoteRow>, event: &NoteEvent, _: &Recorded) -> Option<NoteRow> {
        let NoteEvent::Written(text) = event;
        Some(NoteRow(text.clone()))
    }
}

async fn note(store: &Store, key: &str, kind: &str) -> Position {
    let event = Envelope::raw(format!("note.{kind}"), r#""text""#);
    let commit = Commit::new().append(StreamId::new("note", key).unwrap(), Expected::Any, [event]);
    store.commit(commit).await.unwrap().position
}

#[tokio::test]
async fn an_operator_looks_at_a_view_and_tells_it_what_to_do() {
    let store = Store::memory();
    let router = operator::router([Served { name: "notes".into(), store: store.clone() }]);
    let (_, _, none) = ask(&router, Method::GET, "/notes/projections").await;
    assert_eq!(none, json!({ "items": [], "next": null }));
    let (status, content_type, _) = ask(&router, Method::POST, "/notes/projections/notes/pause").await;
    assert_eq!((status, &*content_type), (404, "application/problem+json"));
    note(&store, "a", "written").await;
    note(&store, "b", "smudged").await;
    let head = note(&store, "b", "written").await;
    let view = View::new(Notes, &store);
    let look = async {
        view.wait_for(head, LONG).await.unwrap();
        let (_, _, shown) = ask(&router, Method::GET, "/notes/projections/notes").await;
        let expected = json!({
            "name": "notes", "version": 1, "state": "live", "mode": "following", "categories": ["note"],
            "collections": ["notes_view"], "position": 3, "lag": 0, "lag_seconds": 0.0, "parked": 2,
            "stale_keys": 1, "rebuild": null, "stopped": null
        });
        assert_eq!(shown, expected);
        let (_, _, list) = ask(&router, Method::GET, "/notes/projections").await;
        assert_eq!(list, json!({ "items": [expected], "next": null }));
        let (_, _, parked) = ask(&router, Method::GET, "/notes/projections/notes/parked?limit=1").await;
        let first = &parked["items"][0];
        assert_eq!(
            (&first["position"], &first["state"], &first["key"]),
            (&json!(2), &json!("parked"), &json!("b"))
        );
        let next = format!("/notes/projections/notes/parked?cursor={}", query(&parked["next"]));
        let (_, _, parked) = ask(&router, Method::GET, &next).await;
        assert_eq!((&parked["items"][0]["state"], &parked["next"]), (&json!("waiting"), &json!(null)));
        for (path, wanted) in [
            ("pause", "paused"),
            ("resume", "live"),
            ("rebuild", "live"),
            ("parked/2/retry", "live"),
            ("parked/2/drop", "live"),
        ] {
            let (status, _, body) =
                ask(&router, Method::POST, &format!("/notes/projections/notes/{path}")).await;
            assert_eq!((status, &body["name"]), (200, &json!("notes")), "{path}: {body}");
            let mut changes = store.watch();
            loop {
                changes.borrow_and_update();
                let (_, _, shown) = ask(&router, Method::GET, "/notes/projections/notes").await;
                if shown["state"] == wanted && shown["rebuild"].is_null() {
                    break;
                }
                changes.changed().await.unwrap();
            }
        }
        let (status, _, problem) = ask(&router, Method::POST, "/notes/projections/notes/cancel").await;
        assert_eq!((status, &problem["type"]), (409, &json!("/problems/conflict")));
        let mut changes = store.watch();
        while view.get("b").await.unwrap().is_none() {
            changes.changed().await.unwrap();
        }
    };
    tokio::select! {
        end = view.run(CancellationToken::new()) => panic!("{end:?}"),
        () = look => {}
    }
}

/// A value of JSON as it stands in a query.
fn query(value: &Value) -> String {
    form_urlencoded::byte_serialize(value.as_str().unwrap().as_bytes()).collect()
}

#[tokio::test]
async fn an_answer_ends_where_its_data_are_too_many_and_the_next_goes_on_there() {
    let store = Store::memory();
    let house = operator::router([Served { name: "orders".into(), store: store.clone() }]);
    let big = format!("\"{}\"", "x".repeat(900_000));
    for n in 1..=20_u64 {
        let event = Envelope::raw("order.noted", if n == 1 { "1".to_owned() } else { big.clone() });
        let append =
            Commit::new().append(StreamId::new("order", 1).unwrap(), Expected::Version(n - 1), [event]);
        store.commit(append).await.unwrap();
    }
    let versions = |body: &Value| -> Vec<u64> {
        let items = body["items"].as_array().unwrap();
        assert!(body.to_string().len() < 6 << 20, "an answer of {} bytes", body.to_string().len());
        assert!(!items.is_empty(), "an answer without an event");
        items.iter().map(|item| item["version"].as_u64().unwrap()).collect()
    };
    let (mut seen, mut answers, mut next) = (Vec::new(), 0, json!("1"));
    while let Some(from) = next.as_str() {
        let (_, _, body) = ask(&house, Method::GET, &format!("/orders/streams/order-1?from={from}")).await;
        seen.extend(versions(&body));
        (answers, next) = (answers + 1, body["next"].clone());
    }
    assert_eq!(seen, (1..=20).collect::<Vec<_>>());
    assert!(answers > 3, "{answers} answers for 18 MB");
    let (mut seen, mut next) = (Vec::new(), json!(u64::MAX.to_string()));
    while let Some(before) = next.as_str() {
        let (_, _, body) =
            ask(&house, Method::GET, &format!("/orders/streams/order-1?before={before}")).await;
        seen.extend(versions(&body));
        next = body["next"].clone();
    }
    assert_eq!(seen, (1..=20).rev().collect::<Vec<_>>());
    let (mut seen, mut after) = (Vec::new(), 0);
    while after < 20 {
        let (_, _, body) = ask(&house, Method::GET, &format!("/orders/log?after={after}&limit=100")).await;
        seen.extend(versions(&body));
        after = body["through"].as_u64().unwrap();
    }
    assert_eq!(seen, (1..=20).collect::<Vec<_>>());
}

#[tokio::test]
async fn streams_are_archived_part_by_part() {
    let store = Store::memory();
    let house = operator::router([Served { name: "orders".into(), store: store.clone() }]);
    for n in 0..600_u64 {
        let stream = StreamId::new("order", n).unwrap();
        let events = ["order.placed", "order.shipped"].map(|kind| Envelope::raw(kind, "{}"));
        store.commit(Commit::new().append(stream, Expected::NoStream, events)).await.unwrap();
    }
    let (status, _, dry) =
        ask(&house, Method::POST, "/orders/archive?category=order&idle=0&dry_run=true").await;
    assert_eq!((status, &dry["seen"], &dry["events"]), (200, &json!(600), &json!(600)));
    let path = "/orders/archive?category=order&idle=0&ended_by=order.cancelled,order.shipped";
    let (status, _, done) = ask(&house, Method::POST, path).await;
    assert_eq!(status, 200);
    let all = json!({ "seen": 600, "chosen": 600, "events": 600, "bytes": 1200, "through": 1200, "of": 1200, "damaged": [] });
    assert_eq!(done, all);
    let (_, _, again) = ask(&house, Method::POST, &format!("{path}&after=1190")).await;
    assert_eq!((&again["seen"], &again["events"]), (&json!(5), &json!(0)));
    for wrong in ["category=NO!&idle=0", "category=order&idle=99999999999999", "category=order"] {
        let (status, content_type, _) = ask(&house, Method::POST, &format!("/orders/archive?{wrong}")).await;
        assert_eq!((status, content_type.as_str()), (400, "application/problem+json"), "{wrong}");
    }
    assert_eq!(ask(&house, Method::POST, "/other/archive?category=order&idle=0").await.0, 404);
    // When it fails, who asked learns how far it came.
    store.close().await;
    let (status, _, failed) = ask(&house, Method::POST, path).await;
    assert_eq!((status, &failed["progress"]["of"]), (503, &json!(1200)), "{failed}");
}

#[tokio::test(start_paused = true)]
async fn the_calls_of_a_process_are_shown_reloaded_and_its_breakers_held() {
    let said = Arc::new(Mutex::new(json!({ "payments": { "timeout": "9s" } })));
    let file = Arc::clone(&said);
    let reread = move || -> Result<Policies, PolicyError> {
        let section: Section = serde_json::from_value(file.lock().unwrap().clone()).unwrap();
        Policies::built_in().with("shop.toml", section)
    };
    let calls = Calls::new(reread().unwrap(), &Breakers::new());
    let payments = calls.caller("payments");
    let router = operator::process([], operator::OperatedCalls::new(&calls, reread));
    let get = async |path: &str| ask(&router, Method::GET, path).await;
    let post = async |path: &str| ask(&router, Method::POST, path).await;
    let (_, _, shown) = get("/calls").await;
    let values = shown["policies"][0]["values"].as_array().unwrap();
    let timeout = json!({ "key": "timeout", "value": "9s", "from": "calls.payments in shop.toml" });
    assert!(values.contains(&timeout), "{shown}");
    assert_eq!(shown["lines"][0]["concurrency"]["limit"], 1024);

    *said.lock().unwrap() = json!({ "payments": { "timeout": "never" } });
    let (status, _, problem) = post("/calls/reload").await;
    assert_eq!(status, 422);
    assert!(problem["detail"].as_str().unwrap().contains("`calls.payments.timeout`"), "{problem}");
    assert_eq!(payments.policy().timeout.as_secs(), 9, "what was in force stays so");
    *said.lock().unwrap() = json!({ "payments": { "timeout": "7s" } });
    assert_eq!(post("/calls/reload").await.2, json!({ "changed": ["payments"] }));
    assert_eq!(payments.policy().timeout.as_secs(), 7);

    for (verb, state, forced) in [
        ("open", "open", json!("open")),
        ("close", "closed", json!("closed")),
        ("reset", "closed", json!(null)),
    ] {
        let (status, _, breaker) = post(&format!("/breakers/payments/{verb}")).await;
        assert_eq!((status, &breaker["state"], &breaker["forced"]), (200, &json!(state), &forced), "{verb}");
    }
    assert_eq!(get("/breakers").await.2["items"][0]["name"], "payments");
    assert_eq!(post("/breakers/nobody/open").await.0, 404);
    assert_eq!(get("/").await.0, 200, "the services are still there");
}

#[tokio::test]
async fn what_is_read_again_with_the_policies_holds_only_if_all_of_it_makes_sense_and_is_named() {
    let calls = Calls::new(Policies::built_in(), &Breakers::new());
    let (places, sense) = (Arc::new(Mutex::new(1)), Arc::new(Mutex::new(false)));
    let (there, makes_sense) = (Arc::clone(&places), Arc::clone(&sense));
    let reread = move || {
        let there = Arc::clone(&there);
        let apply = move || {
            *there.lock().unwrap() = 2;
            vec!["places.orders".to_owned()]
        };
        let reread = operator::Reread::with(Policies::built_in(), apply);
        if *makes_sense.lock().unwrap() { Ok(reread) } else { Err("`places.orders`: it is a table") }
    };
    let router = operator::process([], operator::OperatedCalls::new(&calls, reread));
    let (status, _, problem) = ask(&router, Method::POST, "/calls/reload").await;
    assert_eq!((status, &problem["detail"]), (422, &json!("`places.orders`: it is a table")));
    assert_eq!(*places.lock().unwrap(), 1);
    *sense.lock().unwrap() = true;
    let answer = ask(&router, Method::POST, "/calls/reload").await.2;
    assert_eq!(answer, json!({ "changed": [], "also": ["places.orders"] }));
    assert_eq!(*places.lock().unwrap(), 2);
}

#[tokio::test(start_paused = true)]
async fn who_holds_a_breaker_and_why_is_told_to_all_who_hear_of_its_changes() {
    let breakers = Breakers::new();
    let calls = Calls::new(Policies::built_in(), &breakers);
    let _payments = calls.caller("payments");
    let reread = || Ok::<_, PolicyError>(Policies::built_in());
    let router = operator::process([], operator::OperatedCalls::new(&calls, reread));
    let mut changes = breakers.changes();
    let open = async |body: String| {
        let request = Request::post("/breakers/payments/open").header("content-type", "application/json");
        send(&router, request.body(Body::from(body)).unwrap()).await.0
    };
    for (body, why) in [
        (r#"{"reason": "the card network asked us"}"#.to_owned(), "the card network asked us"),
        (r#"{"reason": null}"#.to_owned(), "no reason given"),
        (String::new(), "no reason given"),
    ] {
        assert_eq!(open(body).await, 200);
        let said = Reason::Operator(Operator::new("operator", why));
        assert_eq!(changes.next().await.unwrap().reason, said);
        assert_eq!(ask(&router, Method::POST, "/breakers/payments/reset").await.0, 200);
        assert!(matches!(changes.next().await.unwrap().reason, Reason::Operator(_)));
    }
    let long = json!({ "reason": "x".repeat(501) }).to_string();
    let longer = json!({ "reason": "x".repeat(1 << 20) }).to_string();
    for wrong in [r#"{"raeson": "x"}"#.to_owned(), r#"{"reason": 7}"#.to_owned(), long, longer] {
        assert_eq!(open(wrong).await, 422);
    }
    assert_eq!(ask(&router, Method::GET, "/breakers").await.2["items"][0]["state"], "closed");
}
