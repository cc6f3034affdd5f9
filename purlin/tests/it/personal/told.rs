//! What others are told of somebody: by the bus, a saga, or an answer.

use std::time::Duration;

use http::StatusCode;
use purlin::bus::{Bus, Failure, Message};
use purlin::http::{Decided, Idempotency, WriteRequest};
use purlin::message::{Clock, Envelope, new_id};
use purlin::saga::{Directory, Saga, SagaError, SagaState, Sagas};
use purlin::store::personal::{Personal, PersonalState, Subject};
use purlin::store::{Commit, CommitError, Expected, LogFilter, Position, Query, Store, StreamId};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::{Greeting, Heard, UserEvent, ada, forget, names_ada, registered};

#[tokio::test(start_paused = true)]
async fn what_crosses_the_bus_is_sealed_and_stays_so() {
    let (store, log, other) = (Store::memory(), Store::memory(), Store::memory());
    let users = registered(&store).await;
    other.define::<Heard>().await.unwrap();
    // The other service keeps something of its own about the same person.
    let own = Heard { name: Personal::new(&ada(), "Ada, as they know her".into()) };
    other.commit(Commit::new().put("own", &own)).await.unwrap();
    let bus = Bus::embedded(log.clone());
    let (into, elsewhere) = (other.clone(), StreamId::new("heard", 1).unwrap());
    let handler = move |message: Message| {
        let (into, elsewhere) = (into.clone(), elsewhere.clone());
        async move {
            let UserEvent::Registered { name } = message.decode().map_err(Failure::from)? else {
                unreachable!()
            };
            assert_eq!((name.get(), name.state()), (None, PersonalState::Sealed));
            // Nobody could ever read it there.
            let copied = Envelope::new("user", &UserEvent::Registered { name: name.clone() }).unwrap();
            let heard = Commit::new().put("heard", &Heard { name: name.clone() });
            for copy in [heard, Commit::new().append(elsewhere, Expected::Any, [copied])] {
                let refused = into.commit(copy).await.unwrap_err();
                assert!(refused.to_string().contains("another store sealed it"), "{refused}");
            }
            Ok::<_, Failure>(Commit::new().put("heard", &Heard { name: name.map(|name| name) }))
        }
    };
    let group = bus.group("others", &other).on("user.registered", handler);
    let heard = async {
        let mut watch = other.watch();
        loop {
            if let Some(heard) = other.get::<Heard>("heard").await.unwrap() {
                break heard.name;
            }
            watch.changed().await.unwrap();
        }
    };
    let name = tokio::select! {
        end = bus.relay("users", &store) => panic!("{end:?}"),
        end = group.run(CancellationToken::new()) => panic!("{end:?}"),
        name = heard => name,
    };
    assert_eq!(
        (name.state(), name.subject()),
        (PersonalState::Forgotten, Some(&ada())),
        "what follows from it"
    );
    assert_eq!(other.get::<Heard>("own").await.unwrap().unwrap().name, own.name);
    for store in [&log, &other] {
        let events = store.sealed().read_log(Position::START, &LogFilter::all(), 100).await.unwrap().events;
        assert!(events.iter().all(|event| !names_ada(&event.envelope.data)));
    }
    forget(&store, &users).await;
    assert_eq!(
        other.get::<Heard>("own").await.unwrap().unwrap().name,
        own.name,
        "a store forgets for itself"
    );
}

#[tokio::test(start_paused = true)]
async fn an_answer_about_somebody_is_not_given_again_once_he_is_forgotten() {
    let store = Store::memory();
    let idempotency = Idempotency::new(&store, Clock::system());
    let request = WriteRequest::new("POST", "/users", "{}").with_key("k1");
    let answer = async || {
        let decide = async |_| {
            Ok(Decided::new(Commit::new(), StatusCode::CREATED, &json!({ "name": "Ada" }))?.about(&ada()))
        };
        idempotency.run("somebody", &request, decide).await.status()
    };
    assert_eq!((answer().await, answer().await), (StatusCode::CREATED, StatusCode::CREATED));
    let kept = store.sealed().list_records("purlin_idempotency", Query::all()).await.unwrap().records;
    assert!(kept.iter().all(|record| !names_ada(&record.value)));
    store.forget(&ada(), Commit::new()).await.unwrap();
    assert_eq!(answer().await, StatusCode::GONE);
}

/// Waits for a name, and returns what it was told.
async fn greets(saga: Saga<()>, greeting: Heard) -> Result<Greeting, SagaError> {
    let name = saga.signal::<Heard>("name").await?.name;
    let said = saga.step("greet", async |_| Ok::<_, CommitError>(name.clone())).await?;
    assert_eq!(said.state(), name.state());
    let text = greeting.name.map(|hello| format!("{hello}, {}", said.into_value().unwrap_or("who?".into())));
    Ok(Greeting { text })
}

#[tokio::test(start_paused = true)]
async fn what_a_saga_is_told_of_somebody_is_sealed_wherever_it_stands() {
    let bob = Subject::new("user-2").unwrap();
    let heard = |of: &Subject, name: &str| Heard { name: Personal::new(of, name.into()) };
    for (early, forgotten) in [(false, false), (true, false), (false, true), (true, true)] {
        let store = Store::memory();
        let sagas = Sagas::new(&store, (), Clock::system()).register("greets", greets);
        sagas.prepare().await.unwrap();
        let id = new_id();
        let start = sagas.start("greets", id, &heard(&bob, "Hello")).unwrap();
        let signal = sagas.signal(id, "name", &heard(&ada(), "Ada")).unwrap();
        let run = async || {
            tokio::select! {
                end = sagas.clone().run(CancellationToken::new()) => panic!("{end:?}"),
                view = sagas.wait(id, Duration::from_secs(60)) => view.ok(),
                () = tokio::time::sleep(Duration::from_secs(30)) => None,
            }
        };
        store.commit(signal).await.unwrap();
        if early {
            assert!(run().await.is_none(), "there is no saga yet");
        }
        if forgotten {
            store.forget(&ada(), Commit::new()).await.unwrap();
        }
        store.commit(start).await.unwrap();
        let asked = store.sealed().list_records("saga_signals", Query::all()).await.unwrap().records;
        assert!(asked.iter().all(|record| !names_ada(&record.value)), "{asked:?}");
        let view = run().await.unwrap();
        assert_eq!(view.state, SagaState::Completed, "{view:?}");
        let stream = StreamId::new("saga", id).unwrap();
        let last = store.read_stream_back(&stream, u64::MAX, 1).await.unwrap().remove(0);
        let ended = String::from_utf8_lossy(&last.envelope.data).into_owned();
        assert!(ended.contains(if forgotten { "Hello, who?" } else { "Hello, Ada" }), "{ended}");
        for shown in [view, Directory::new(&store, Clock::system()).show(id).await.unwrap().unwrap()] {
            let shown = serde_json::to_string(&shown).unwrap();
            assert!(shown.contains("\"$personal\":") && !shown.contains("Hello"), "{shown}");
        }
        for event in store.sealed().read_stream(&stream, 1, 100).await.unwrap() {
            let data = String::from_utf8_lossy(&event.envelope.data).into_owned();
            assert!(!names_ada(data.as_bytes()) && !data.contains("Hello"), "{data}");
        }
    }
}
