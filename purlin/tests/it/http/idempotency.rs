//! A request with a key has one effect and one answer.

use std::sync::{Mutex, OnceLock};
use std::time::Duration;

use axum::response::Response;
use futures_util::future::join_all;
use http::StatusCode;
use http_body_util::BodyExt;
use purlin::http::idempotency::{Decided, Idempotency, WriteRequest};
use purlin::http::{Attempt, Problem};
use purlin::message::{Clock, Envelope, ManualClock, Timestamp, Uuid};
use purlin::store::memory::{Faults, Memory};
use purlin::store::{Commit, Expected, LogFilter, Position, Row, Store, StreamId};
use serde_json::{Value, json};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

struct House {
    memory: Memory,
    store: Store,
    clock: Clock,
    hand: ManualClock,
    idempotency: Idempotency,
}

fn house() -> House {
    let (clock, hand) = Clock::manual(Timestamp::from_second(1_800_000_000).unwrap());
    let memory = Memory::with_clock(clock.clone());
    let store = Store::new(memory.clone());
    let idempotency = Idempotency::new(&store, clock.clone());
    House { memory, store, clock, hand, idempotency }
}

impl House {
    /// Another process on the same store.
    fn another(&self) -> Idempotency {
        Idempotency::new(&Store::new(self.memory.clone()), self.clock.clone())
    }

    async fn effects(&self) -> Vec<String> {
        let page = self.store.read_log(Position::START, &LogFilter::all(), 100).await.unwrap();
        page.events.iter().map(|event| event.stream.key().to_owned()).collect()
    }
}

fn stream(key: impl std::fmt::Display) -> StreamId {
    StreamId::new("order", key).unwrap()
}

/// Places an order under the attempt's id.
fn place(attempt: Attempt) -> Result<Decided, Problem> {
    let placed = Envelope::raw("order.placed", "{}");
    let commit = Commit::new().append(stream(attempt.id), Expected::NoStream, [placed]);
    Decided::new(commit, StatusCode::CREATED, &json!({ "id": attempt.id }))?
        .header(http::header::LOCATION, format!("/orders/{}", attempt.id))
}

fn post(key: &str) -> WriteRequest {
    WriteRequest::new("POST", "/orders", r#"{"items": []}"#).with_key(key)
}

struct Told {
    status: u16,
    replayed: bool,
    position: Option<String>,
    location: Option<String>,
    body: Value,
}

async fn told(response: Response) -> Told {
    let header = |name: &str| response.headers().get(name).map(|value| value.to_str().unwrap().to_owned());
    let (position, location) = (header("x-position"), header("location"));
    let (status, replayed) = (response.status().as_u16(), header("idempotent-replayed").is_some());
    let body = response.into_body().collect().await.unwrap().to_bytes();
    let body = if body.is_empty() { Value::Null } else { serde_json::from_slice(&body).unwrap() };
    Told { status, replayed, position, location, body }
}

#[tokio::test]
async fn the_same_request_again_gets_the_first_answer_and_has_no_second_effect() {
    let house = house();
    let first = told(house.idempotency.run("alice", &post("k"), async |at| place(at)).await).await;
    house.hand.advance(Duration::from_secs(23 * 3600));
    // Other events come in between: the replay still names the position of the effect.
    let other = Commit::new().append(stream("other"), Expected::Any, [Envelope::raw("order.placed", "{}")]);
    house.store.commit(other).await.unwrap();
    let again = told(house.another().run("alice", &post("k"), async |at| place(at)).await).await;

    assert_eq!((first.status, first.replayed), (201, false));
    assert_eq!((again.status, again.replayed), (201, true));
    assert_eq!(again.body, first.body);
    assert_eq!(again.location, first.location);
    assert!(first.location.unwrap().starts_with("/orders/0"));
    assert_eq!(first.position, Some(house.store.token(Position(1))));
    assert_eq!(again.position, first.position);
    assert_eq!(house.effects().await.len(), 2);
    let id: Uuid = first.body["id"].as_str().unwrap().parse().unwrap();
    assert_eq!(id.get_version_num(), 7);
}

#[tokio::test]
async fn a_request_without_a_key_is_done_each_time() {
    let house = house();
    let request = WriteRequest::new("POST", "/orders", "{}");
    for count in 1..=2 {
        let told = told(house.idempotency.run("alice", &request, async |at| place(at)).await).await;
        assert_eq!((told.status, told.replayed), (201, false));
        assert_eq!(told.position, Some(house.store.token(Position(count))));
        assert_eq!(house.effects().await.len() as u64, count);
    }
}

#[tokio::test]
async fn while_the_first_is_running_the_second_is_told_to_wait() {
    let house = house();
    let (started, go) = (Notify::new(), Notify::new());
    let request = post("k");
    let first = house.idempotency.run("alice", &request, async |at| {
        started.notify_one();
        go.notified().await;
        place(at)
    });
    let second = async {
        started.notified().await;
        let second = told(house.another().run("alice", &request, async |at| place(at)).await).await;
        let other = WriteRequest::new("POST", "/orders", "other").with_key("k");
        let other = told(house.idempotency.run("alice", &other, async |at| place(at)).await).await;
        go.notify_one();
        (second, other)
    };
    let (first, (second, other)) = tokio::join!(first, second);
    assert_eq!(first.status(), 201);
    assert_eq!((second.status, &second.body["type"]), (409, &json!("/problems/idempotency-key-in-progress")));
    assert_eq!((other.status, &other.body["type"]), (422, &json!("/problems/idempotency-key-reused")));
    let nothing_yet = Some(house.store.token(Position(0)));
    assert_eq!(
        [second.position, other.position],
        [nothing_yet.clone(), nothing_yet],
        "a refusal has its position"
    );
    assert_eq!(house.effects().await.len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_many_at_once_one_has_the_effect() {
    let house = house();
    let handles = [house.idempotency.clone(), house.another(), house.another()];
    for round in 0..20 {
        let key = format!("k{round}");
        let request = post(&key);
        let answers = join_all((0..12).map(|n| {
            let (handle, request) = (handles[n % 3].clone(), &request);
            async move {
                told(
                    handle
                        .run("alice", request, async |at| {
                            tokio::task::yield_now().await;
                            place(at)
                        })
                        .await,
                )
                .await
            }
        }));
        let answers = answers.await;
        let first: Vec<_> = answers.iter().filter(|told| told.status == 201 && !told.replayed).collect();
        assert_eq!(first.len(), 1);
        for told in &answers {
            assert!(matches!(told.status, 201 | 409), "{}", told.status);
            assert!(told.status == 409 || told.body == first[0].body);
        }
        assert_eq!(house.effects().await.len(), round + 1);
    }
}

#[tokio::test]
async fn a_key_stands_for_one_method_path_and_body() {
    let house = house();
    house.idempotency.run("alice", &post("k"), async |at| place(at)).await;
    for (method, path, body) in [
        ("POST", "/orders", r#"{"items":[]}"#),
        ("POST", "/orders/", r#"{"items": []}"#),
        ("PUT", "/orders", r#"{"items": []}"#),
    ] {
        let request = WriteRequest::new(method, path, body).with_key("k");
        let told = told(house.idempotency.run("alice", &request, async |at| place(at)).await).await;
        assert_eq!((told.status, &told.body["type"]), (422, &json!("/problems/idempotency-key-reused")));
    }
    assert_eq!(house.effects().await.len(), 1);
}

#[tokio::test]
async fn what_is_said_of_the_key_is_no_answer_to_the_request() {
    let house = house();
    for (status, code) in [(422, "idempotency-key-reused"), (409, "idempotency-key-in-progress")] {
        let refuse = async |_| Err(Problem::new(StatusCode::from_u16(status).unwrap(), code));
        let told = told(house.idempotency.run("alice", &post("k"), refuse).await).await;
        assert_eq!((told.status, told.replayed), (status, false));
    }
    let told = told(house.idempotency.run("alice", &post("k"), async |at| place(at)).await).await;
    assert_eq!((told.status, told.replayed), (201, false));
}

#[tokio::test]
async fn keys_of_different_callers_never_meet() {
    let house = house();
    let mut ids = Vec::new();
    for (caller, key) in [("alice", "k"), ("bob", "k"), ("bobk", ""), ("bo", "bk")] {
        let told = told(house.idempotency.run(caller, &post(key), async |at| place(at)).await).await;
        assert_eq!((told.status, told.replayed), (201, false), "{caller} {key}");
        ids.push(told.body["id"].to_string());
    }
    ids.dedup();
    assert_eq!(ids.len(), 4);
}

#[tokio::test]
async fn a_key_whose_worker_died_is_taken_over_when_its_lease_is_over() {
    let house = house();
    let first_id = OnceLock::new();
    {
        let request = post("k");
        let worker = house.idempotency.run("alice", &request, |at| {
            first_id.set(at.id).unwrap();
            std::future::pending()
        });
        tokio::select! {
            biased;
            _ = worker => unreachable!("it waits for ever"),
            () = tokio::task::yield_now() => {}
        }
    }
    let early = told(house.another().run("alice", &post("k"), async |at| place(at)).await).await;
    assert_eq!(early.status, 409);
    house.hand.advance(Duration::from_secs(5));
    let late = told(house.another().run("alice", &post("k"), async |at| place(at)).await).await;
    assert_eq!((late.status, late.replayed), (201, false));
    assert_eq!(
        late.body["id"],
        json!(first_id.get().unwrap()),
        "what the dead one may have named elsewhere has the same name"
    );
    assert_eq!(house.effects().await.len(), 1);
}

#[tokio::test]
async fn who_alone_uses_a_store_need_not_wait_for_the_dead() {
    let house = house();
    let request = post("k");
    {
        let worker = house.idempotency.run("alice", &request, |_| std::future::pending());
        tokio::select! {
            biased;
            _ = worker => unreachable!("it waits for ever"),
            () = tokio::task::yield_now() => {}
        }
    }
    let restarted = house.another().sole();
    let told = told(restarted.run("alice", &request, async |at| place(at)).await).await;
    assert_eq!((told.status, told.replayed), (201, false));
}

#[tokio::test]
async fn a_worker_that_was_overtaken_commits_nothing_and_gives_the_others_answer() {
    let house = house();
    let (started, go) = (Notify::new(), Notify::new());
    let request = post("k");
    let slow = house.idempotency.run("alice", &request, async |_| {
        started.notify_one();
        go.notified().await;
        let event = Envelope::raw("order.placed", "{}");
        let commit = Commit::new().append(stream("of-the-slow-one"), Expected::NoStream, [event]);
        Decided::new(commit, StatusCode::CREATED, &"slow")
    });
    let quick = async {
        started.notified().await;
        house.hand.advance(Duration::from_secs(5));
        let quick = told(house.another().run("alice", &request, async |at| place(at)).await).await;
        go.notify_one();
        quick
    };
    let (slow, quick) = tokio::join!(slow, quick);
    let slow = told(slow).await;
    assert_eq!((quick.status, quick.replayed), (201, false));
    assert_eq!((slow.status, slow.replayed, &slow.body), (201, true, &quick.body));
    assert_eq!(house.effects().await, [quick.body["id"].as_str().unwrap()]);
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_takes_its_time_keeps_its_key() {
    let house = house();
    let request = post("k");
    let slow = house.idempotency.run("alice", &request, async |at| {
        tokio::time::sleep(Duration::from_secs(21)).await;
        place(at)
    });
    let others = async {
        for _ in 0..20 {
            tokio::time::sleep(Duration::from_secs(1)).await;
            house.hand.advance(Duration::from_secs(1));
            let other = house.another().run("alice", &request, async |at| place(at)).await;
            assert_eq!(other.status(), 409);
        }
    };
    let (slow, ()) = tokio::join!(slow, others);
    let slow = told(slow).await;
    assert_eq!((slow.status, slow.replayed), (201, false));
}

#[tokio::test]
async fn what_decides_is_kept_and_what_does_not_frees_the_key() {
    for status in [404, 409, 422, 400, 401, 403, 429, 500, 503, 504] {
        let house = house();
        let ids = Mutex::new(Vec::new());
        let mut answers = Vec::new();
        for _ in 0..2 {
            let problem = Problem::new(StatusCode::from_u16(status).unwrap(), "told");
            let decide = async |at: Attempt| {
                ids.lock().unwrap().push(at.id);
                Err(problem.clone())
            };
            answers.push(told(house.idempotency.run("alice", &post("k"), decide).await).await);
        }
        let kept = matches!(status, 404 | 409 | 422);
        let ids = ids.into_inner().unwrap();
        assert_eq!(ids.len(), if kept { 1 } else { 2 }, "{status}");
        assert_eq!(ids.first(), ids.last(), "{status}: the same request makes the same things");
        for (told, replayed) in answers.iter().zip([false, kept]) {
            assert_eq!((told.status, told.replayed), (status, replayed));
            assert_eq!(told.body["type"], "/problems/told");
        }
        // A key that is free may also stand for something else.
        let other = WriteRequest::new("POST", "/other", "").with_key("k");
        let other = house.idempotency.run("alice", &other, async |at| place(at)).await;
        assert_eq!(other.status(), if kept { 422 } else { 201 });
    }
}

#[tokio::test]
async fn a_conflict_elsewhere_is_decided_anew() {
    for key in [Some("k"), None] {
        let house = house();
        let mut request = post("k");
        request.key = key.map(str::to_owned);
        let versions = Mutex::new(Vec::new());
        let decide = async |at: Attempt| {
            let version = house.store.read_stream(&stream("one"), 1, 100).await.unwrap().len() as u64;
            versions.lock().unwrap().push(version);
            if at.number <= 2 {
                let raced =
                    Commit::new().append(stream("one"), Expected::Any, [Envelope::raw("order.raced", "{}")]);
                house.store.commit(raced).await.unwrap();
            }
            let event = Envelope::raw("order.placed", "{}");
            let commit = Commit::new().append(stream("one"), Expected::Version(version), [event]);
            Decided::new(commit, StatusCode::OK, &at.number)
        };
        let told = told(house.idempotency.run("alice", &request, decide).await).await;
        assert_eq!((told.status, told.body), (200, json!(3)));
        assert_eq!(*versions.lock().unwrap(), [0, 1, 2]);
        assert_eq!(house.effects().await.len(), 3);
    }
}

#[tokio::test]
async fn endless_conflicts_end_and_free_the_key() {
    let house = house();
    let decide = async |_| {
        let commit =
            Commit::new().append(stream("one"), Expected::Version(9), [Envelope::raw("order.placed", "{}")]);
        Decided::new(commit, StatusCode::OK, &())
    };
    let told = told(house.idempotency.run("alice", &post("k"), decide).await).await;
    assert_eq!((told.status, &told.body["type"]), (503, &json!("/problems/contended")));
    let again = house.idempotency.run("alice", &post("k"), async |at| place(at)).await;
    assert_eq!(again.status(), 201);
}

#[derive(serde::Serialize, serde::Deserialize)]
struct Note {}
impl Row for Note {
    const COLLECTION: &'static str = "notes";
}

#[tokio::test]
async fn the_effect_and_the_answer_are_one_commit() {
    let house = house();
    house.store.define::<Note>().await.unwrap();
    let decide = async |_| Decided::new(Commit::new().put("n", &Note {}), StatusCode::OK, &());
    house.idempotency.run("alice", &post("k"), decide).await;
    let effect = house.store.get_record("notes", "n").await.unwrap().unwrap();
    let kept =
        house.store.list_records("purlin_idempotency", purlin::store::Query::all()).await.unwrap().records;
    assert_eq!(kept.len(), 1);
    assert_eq!(kept[0].revision, effect.revision);
}

#[tokio::test]
async fn a_store_that_refuses_the_effect_keeps_no_answer() {
    let house = house();
    let decide = async |at: Attempt| {
        house.memory.set_faults(Faults { refuse: 1, ..Faults::default() });
        place(at)
    };
    let told = told(house.idempotency.run("alice", &post("k"), decide).await).await;
    assert_eq!((told.status, told.position), (503, Some(house.store.token(Position(0)))));
    assert!(house.effects().await.is_empty());
    let again = house.idempotency.run("alice", &post("k"), async |at| place(at)).await;
    assert_eq!(again.status(), 201);
}

#[tokio::test]
async fn bodies_and_keys_are_not_to_be_read_in_the_store() {
    let house = house();
    let request =
        WriteRequest::new("POST", "/users", r#"{"password": "hunter22"}"#).with_key("my-secret-key");
    house.idempotency.run("alice", &request, async |at| place(at)).await;
    let kept =
        house.store.list_records("purlin_idempotency", purlin::store::Query::all()).await.unwrap().records;
    let text = format!("{} {}", kept[0].key, String::from_utf8_lossy(&kept[0].value));
    assert!(
        !text.contains("hunter22") && !text.contains("my-secret-key") && !text.contains("alice"),
        "{text}"
    );
}

#[tokio::test(start_paused = true)]
async fn keys_are_kept_for_a_day_and_then_deleted() {
    let house = house();
    house.idempotency.run("alice", &post("k"), async |at| place(at)).await;
    let kept =
        async || house.store.list_records("purlin_idempotency", purlin::store::Query::all()).await.unwrap();
    let shutdown = CancellationToken::new();
    let watch = async {
        house.hand.advance(Duration::from_secs(24 * 3600));
        tokio::time::sleep(Duration::from_secs(120)).await;
        assert_eq!(kept().await.records.len(), 1);
        house.hand.advance(Duration::from_secs(2 * 3600));
        tokio::time::sleep(Duration::from_secs(120)).await;
        assert_eq!(kept().await.records.len(), 0);
        shutdown.cancel();
    };
    let (swept, ()) = tokio::join!(house.idempotency.clone().sweeper(shutdown.clone()), watch);
    swept.unwrap();
}

#[tokio::test]
async fn a_refusal_says_on_which_position_it_stands_with_a_key_and_without() {
    let house = house();
    let write = async |commit| house.store.commit(commit).await.unwrap();
    write(Commit::new().append(stream("a"), Expected::Any, [Envelope::raw("order.placed", "{}")])).await;
    let refuse = async |_| Err(Problem::new(StatusCode::CONFLICT, "order-shipped"));
    for request in [WriteRequest::new("POST", "/orders/a/cancel", ""), post("k")] {
        let told = told(house.idempotency.run("alice", &request, refuse).await).await;
        assert_eq!((told.status, told.position), (409, Some(house.store.token(Position(1)))));
    }
}
