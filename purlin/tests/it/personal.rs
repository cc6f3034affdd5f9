//! Personal data through everything that stands on a store.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use http::StatusCode;
use proptest::prelude::*;
use purlin::aggregate::{Aggregate, Repository, SnapshotPolicy};
use purlin::bus::{Bus, Failure, Message};
use purlin::http::{Decided, Idempotency, WriteRequest};
use purlin::message::{Clock, Envelope, new_id};
use purlin::projection::{Projection, View};
use purlin::saga::{Directory, Saga, SagaError, SagaState, Sagas};
use purlin::store::memory::{Faults, Memory};
use purlin::store::personal::{KEYS, MasterKey, Personal, PersonalState, Subject};
use purlin::store::{
    BoxFuture, Commit, CommitError, Committed, Engine, Expected, Field, Layer, LogFilter, Position, Query,
    Recorded, Row, Store, StreamId,
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct User {
    name: Option<Personal<String>>,
    visits: u32,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum UserEvent {
    Registered { name: Personal<String> },
    Visited,
    Forgotten,
}

impl purlin::message::Event for UserEvent {}

impl Aggregate for User {
    const KIND: &'static str = "user";
    const SNAPSHOTS: SnapshotPolicy = SnapshotPolicy::every(2);
    type Event = UserEvent;

    fn apply(&mut self, event: &UserEvent) {
        match event {
            UserEvent::Registered { name } => self.name = Some(name.clone()),
            UserEvent::Visited => self.visits += 1,
            UserEvent::Forgotten => {}
        }
    }

    fn is_public(event: &UserEvent) -> bool {
        matches!(event, UserEvent::Registered { .. })
    }
}

#[derive(Debug, Serialize, Deserialize)]
struct Greeting {
    text: Personal<String>,
}

impl Row for Greeting {
    const COLLECTION: &'static str = "greetings";
}

/// Keeps what follows from a name; version 3 removes the row of who is forgotten.
struct Greetings<const V: u32>;

impl<const V: u32> Projection for Greetings<V> {
    const NAME: &'static str = "greetings";
    const VERSION: u32 = V;
    const CATEGORY: &'static str = "user";
    type Event = UserEvent;
    type Row = Greeting;

    fn apply(&self, row: Option<Greeting>, event: &UserEvent, _: &Recorded) -> Option<Greeting> {
        match event {
            UserEvent::Registered { name } => {
                Some(Greeting { text: name.clone().map(|name| format!("Hello, {name}")) })
            }
            UserEvent::Forgotten if V == 3 => None,
            _ => row,
        }
    }
}

fn ada() -> Subject {
    Subject::new("user-1").unwrap()
}

async fn registered(store: &Store) -> Repository<User> {
    let users = Repository::new(store);
    let name = Personal::new(&ada(), "Ada".to_owned());
    users
        .update(1, |_: &User| Ok::<_, CommitError>(UserEvent::Registered { name: name.clone() }))
        .await
        .unwrap();
    for _ in 0..3 {
        users.update(1, |_: &User| Ok::<_, CommitError>(UserEvent::Visited)).await.unwrap();
    }
    users
}

async fn forget(store: &Store, users: &Repository<User>) -> Position {
    let gone = users.change(1, |_: &User| Ok::<_, CommitError>(UserEvent::Forgotten)).await.unwrap();
    store.forget(&ada(), gone.into()).await.unwrap().position
}

async fn caught_up<const V: u32>(store: &Store) -> View<Greetings<V>> {
    let view = View::new(Greetings::<V>, store);
    tokio::select! {
        end = view.run(CancellationToken::new()) => panic!("{end:?}"),
        seen = view.wait_for(store.head(), Duration::from_secs(60)) => seen.unwrap(),
    }
    view
}

#[tokio::test(start_paused = true)]
async fn a_snapshot_and_the_events_behind_it_read_as_forgotten() {
    let store = Store::memory();
    let users = registered(&store).await;
    let user = users.load(1).await.unwrap();
    assert_eq!(user.name.as_ref().and_then(Personal::get).map(String::as_str), Some("Ada"));
    assert!(store.get_record("purlin_snapshots", "user-1").await.unwrap().is_some(), "there is a snapshot");
    let sealed = store.sealed().get_record("purlin_snapshots", "user-1").await.unwrap().unwrap();
    assert!(!String::from_utf8_lossy(&sealed.value).contains("Ada"));
    forget(&store, &users).await;
    let user = users.load(1).await.unwrap();
    assert_eq!((user.visits, user.name.as_ref().unwrap().state()), (3, PersonalState::Forgotten));
    // What was loaded is written again, in the next snapshot, as what it is.
    for _ in 0..2 {
        users.update(1, |_: &User| Ok::<_, CommitError>(UserEvent::Visited)).await.unwrap();
    }
    assert_eq!(users.load(1).await.unwrap().visits, 5);
}

#[tokio::test(start_paused = true)]
async fn an_update_that_was_decided_before_its_subject_was_forgotten_says_nothing_of_him() {
    let store = Store::memory();
    let users = registered(&store).await;
    let before = users.load(1).await.unwrap().name.clone().unwrap();
    forget(&store, &users).await;
    let renamed = UserEvent::Registered { name: before.map(|name| name.to_uppercase()) };
    users.update(1, |_: &User| Ok::<_, CommitError>(renamed.clone())).await.unwrap();
    let user = users.load(1).await.unwrap();
    assert_eq!(user.name.as_ref().unwrap().state(), PersonalState::Forgotten);
    let new = UserEvent::Registered { name: Personal::new(&ada(), "Ada again".into()) };
    let refused = users.update(1, |_: &User| Ok::<_, CommitError>(new.clone())).await.unwrap_err();
    assert!(refused.to_string().contains("could not be committed"), "{refused}");
}

/// Counts visits in a text that is about the visitor.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct Visitor {
    said: Option<Personal<String>>,
    visits: u32,
}

impl Aggregate for Visitor {
    const KIND: &'static str = "user";
    const SNAPSHOTS: SnapshotPolicy = SnapshotPolicy::every(1);
    type Event = UserEvent;

    fn apply(&mut self, _: &UserEvent) {
        self.visits += 1;
        self.said = Some(Personal::new(&ada(), format!("{} visits", self.visits)));
    }
}

#[tokio::test(start_paused = true)]
async fn a_state_that_says_something_new_of_who_is_forgotten_is_no_snapshot_and_stops_nobody() {
    let store = Store::memory();
    let visitors = Repository::<Visitor>::new(&store);
    let visit = async || visitors.update(1, |_| Ok::<_, CommitError>(UserEvent::Visited)).await;
    visit().await.unwrap();
    store.forget(&ada(), Commit::new()).await.unwrap();
    assert_eq!(visit().await.unwrap().visits, 2);
    assert_eq!(visitors.load(1).await.unwrap().visits, 2);
}

#[tokio::test(start_paused = true)]
async fn a_view_follows_and_one_that_is_built_anew_has_placeholders() {
    let store = Store::memory();
    let users = registered(&store).await;
    let view = caught_up::<1>(&store).await;
    let text = |row: Option<Greeting>| row.unwrap().text;
    assert_eq!(text(view.get("1").await.unwrap()).get().map(String::as_str), Some("Hello, Ada"));
    forget(&store, &users).await;
    let row = text(view.get("1").await.unwrap());
    assert_eq!(row.state(), PersonalState::Forgotten, "before the view has seen anything");
    let view = caught_up::<2>(&store).await;
    assert_eq!(text(view.get("1").await.unwrap()).state(), PersonalState::Forgotten);
    assert!(caught_up::<3>(&store).await.get("1").await.unwrap().is_none(), "who wants to removes the row");
}

#[tokio::test(start_paused = true)]
async fn a_subscription_gives_nothing_that_another_read_before_its_subject_was_forgotten() {
    let store = Store::memory();
    let users = registered(&store).await;
    let first = async || {
        let mut subscription = store.subscribe(Position::START, LogFilter::all()).unwrap();
        let event = subscription.next().await.unwrap().envelope;
        let event = event.decode().unwrap();
        let UserEvent::Registered { name } = event else { panic!("{event:?}") };
        name.state()
    };
    assert_eq!((first().await, first().await), (PersonalState::Open, PersonalState::Open));
    forget(&store, &users).await;
    assert_eq!(first().await, PersonalState::Forgotten);
}

#[derive(Debug, Serialize, Deserialize)]
struct Heard {
    name: Personal<String>,
}

impl Row for Heard {
    const COLLECTION: &'static str = "heard";
}

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
        assert!(events.iter().all(|event| !String::from_utf8_lossy(&event.envelope.data).contains("Ada")));
    }
    forget(&store, &users).await;
    assert_eq!(
        other.get::<Heard>("own").await.unwrap().unwrap().name,
        own.name,
        "a store forgets for itself"
    );
}

#[tokio::test]
async fn data_from_outside_that_look_personal_stay_what_they_are() {
    let store = Store::memory();
    registered(&store).await;
    let event = store.sealed().read_stream(&StreamId::new("user", 1).unwrap(), 1, 1).await.unwrap().remove(0);
    // Somebody has seen how a name is stored, and writes the same as his own: into another stream, and a row.
    let stolen: Value = serde_json::from_slice(&event.envelope.data).unwrap();
    assert!(stolen["name"]["$personal"]["sealed"].is_string(), "{stolen}");
    let mine = StreamId::new("user", 2).unwrap();
    let data = stolen.to_string();
    let forged =
        Commit::new().append(mine.clone(), Expected::NoStream, [Envelope::raw("user.registered", data)]);
    store.define::<Heard>().await.unwrap();
    store
        .commit(forged.put_in(&Heard::collection(), "1", &stolen, purlin::store::Revision::Any, None))
        .await
        .unwrap();
    let read = store.read_stream(&mine, 1, 1).await.unwrap().remove(0);
    assert_eq!(serde_json::from_slice::<Value>(&read.envelope.data).unwrap(), stolen, "it is kept as it is");
    let name = Repository::<User>::new(&store).load(2).await.unwrap().name.clone().unwrap();
    assert_eq!((name.get(), name.state()), (None, PersonalState::Sealed), "and is not opened for him");
    assert_eq!(store.get::<Heard>("1").await.unwrap().unwrap().name.get(), None);
    // Nor when it is put where it was, but elsewhere: by who writes to the store itself.
    let moved = Commit::new().append(StreamId::new("user", 3).unwrap(), Expected::NoStream, [event.envelope]);
    store.sealed().commit(moved).await.unwrap();
    let name = Repository::<User>::new(&store).load(3).await.unwrap().name.clone().unwrap();
    assert_eq!(name.get(), None, "a value is bound to its place");
}

#[tokio::test]
async fn what_cannot_be_personal_is_refused_and_said_why() {
    #[derive(Serialize, Deserialize)]
    struct Indexed {
        email: Personal<String>,
    }
    impl Row for Indexed {
        const COLLECTION: &'static str = "indexed";
        const FIELDS: &'static [Field] = &[Field::text("email")];
    }
    let store = Store::memory();
    store.define::<Indexed>().await.unwrap();
    let row = Indexed { email: Personal::new(&ada(), "ada@example.org".into()) };
    let nested = Personal::new(&ada(), Personal::new(&ada(), "Ada"));
    #[derive(Serialize)]
    struct Flat {
        #[serde(flatten)]
        name: Personal<String>,
        other: u8,
    }
    let flat = Flat { name: Personal::new(&ada(), "Ada".into()), other: 1 };
    fn put<T: Serialize>(value: &T) -> Commit {
        Commit::new().put_in(&Heard::collection(), "1", value, purlin::store::Revision::Any, None)
    }
    store.define::<Heard>().await.unwrap();
    // It came in a request, and nobody has said whom it is about.
    let outside: Heard = serde_json::from_str(r#"{"name":"Ada"}"#).unwrap();
    for (commit, why) in [
        (Commit::new().put("a", &row), "the field `email` of the collection `indexed` is indexed"),
        (put(&outside), "does not say whom it is about"),
        (put(&nested), "a personal value within a personal value"),
        (put(&flat), "cannot be flattened"),
    ] {
        let refused = store.commit(commit).await.unwrap_err();
        assert!(
            matches!(&refused, CommitError::Invalid(_)) && refused.to_string().contains(why),
            "{refused}"
        );
    }
    let forget = store.sealed().forget(&ada(), Commit::new()).await;
    assert!(matches!(forget, Err(CommitError::Invalid(_))));
    let plain = store.sealed().commit(put(&Heard { name: Personal::new(&ada(), "Ada".into()) })).await;
    assert!(matches!(plain, Err(CommitError::Invalid(_))), "it would stand there in plain");
    let (name, other) = (KEYS, "heard");
    for refused in [
        store.drop_collection(name).await,
        store.swap(name, other).await,
        store.swap(other, name).await,
        store.tenant("acme").unwrap().drop_collection(name).await,
        store.sealed().drop_collection(name).await,
    ] {
        assert!(matches!(&refused, Err(CommitError::Invalid(why)) if why.contains("keys of")), "{refused:?}");
    }
    let inline = View::new(Greetings::<1>, &store).inline();
    for past in [inline.sealed(), inline.clone().with_master_key(MasterKey::new(&[1; 32]))] {
        let refused = past.commit(Commit::new().put("1", &Heard { name: Personal::bare("x".into()) })).await;
        assert!(
            matches!(&refused, Err(CommitError::Invalid(why)) if why.contains("passes by")),
            "{refused:?}"
        );
    }
    let both = put(&Heard { name: Personal::new(&ada(), "Ada".into()) }).forget(&ada());
    assert!(
        matches!(store.commit(both).await, Err(CommitError::Forgotten(_))),
        "not in the commit that forgets"
    );
}

#[tokio::test]
async fn without_its_master_key_a_store_gives_placeholders() {
    let memory = Memory::new();
    let with = |key: u8| Store::new(memory.clone()).with_master_key(MasterKey::new(&[key; 32]));
    registered(&with(1)).await;
    let name = async |store: Store| {
        Repository::<User>::new(&store).load(1).await.unwrap().name.clone().unwrap().into_value()
    };
    assert_eq!(name(with(1)).await.as_deref(), Some("Ada"));
    for store in [with(2), Store::new(memory.clone())] {
        assert_eq!(name(store.clone()).await, None);
        let again = UserEvent::Registered { name: Personal::new(&ada(), "Ada".into()) };
        let envelope = Envelope::new("user", &again).unwrap();
        let commit = Commit::new().append(StreamId::new("user", 9).unwrap(), Expected::Any, [envelope]);
        let refused = store.commit(commit).await.unwrap_err();
        assert!(refused.to_string().contains("wrapped in the master key"), "{refused}");
    }
    // What cannot be opened stays where it is, and goes nowhere else.
    let (owner, without) = (with(1), Store::new(memory.clone()));
    owner.define::<Heard>().await.unwrap();
    let heard = Heard { name: Personal::new(&ada(), "Ada".into()) };
    owner.commit(Commit::new().put("heard", &heard)).await.unwrap();
    let sealed = without.get::<Heard>("heard").await.unwrap().unwrap();
    without.commit(Commit::new().put("heard", &sealed)).await.unwrap();
    let refused = without.commit(Commit::new().put("elsewhere", &sealed)).await.unwrap_err();
    assert!(refused.to_string().contains("could not be opened"), "{refused}");
    owner.commit(Commit::new().put("elsewhere", &sealed)).await.unwrap();
    for place in ["heard", "elsewhere"] {
        assert_eq!(owner.get::<Heard>(place).await.unwrap().unwrap().name, heard.name, "{place}");
    }
    let other = Store::new(memory.clone());
    other.forget(&ada(), Commit::new()).await.unwrap();
    assert_eq!(name(Store::new(memory.clone())).await, None, "forgetting needs no key");
}

#[tokio::test(start_paused = true)]
async fn another_process_knows_within_a_second_that_a_subject_is_forgotten() {
    let memory = Memory::new();
    let (store, other) = (Store::new(memory.clone()), Store::new(memory.clone()));
    let users = registered(&store).await;
    let name = async || Repository::<User>::new(&other).load(1).await.unwrap().name.clone().unwrap().state();
    assert_eq!(name().await, PersonalState::Open);
    forget(&store, &users).await;
    tokio::time::advance(Duration::from_millis(1001)).await;
    assert_eq!(name().await, PersonalState::Forgotten);
    // Whoever writes knows at once.
    let (memory, bob) = (Memory::new(), Subject::new("bob").unwrap());
    let (store, other) = (Store::new(memory.clone()), Store::new(memory));
    let write = |n: u32| {
        let event = UserEvent::Registered { name: Personal::new(&bob, "Bob".into()) };
        let event = Envelope::new("user", &event).unwrap();
        Commit::new().append(StreamId::new("user", n).unwrap(), Expected::NoStream, [event])
    };
    other.commit(write(1)).await.unwrap();
    store.forget(&bob, Commit::new()).await.unwrap();
    assert!(matches!(other.commit(write(2)).await, Err(CommitError::Forgotten(_))));
}

#[tokio::test(start_paused = true)]
async fn a_crowd_that_another_process_has_just_forgotten_stops_no_commit() {
    let memory = Memory::new();
    let (store, other) = (Store::new(memory.clone()), Store::new(memory));
    let crowd: Vec<_> = (0..50).map(|n| Subject::new(format_args!("user-{n}")).unwrap()).collect();
    let names = crowd.iter().map(|of| Heard { name: Personal::new(of, "one of many".into()) });
    store.define::<Heard>().await.unwrap();
    let all = names.enumerate().fold(Commit::new(), |all, (n, heard)| all.put(n.to_string(), &heard));
    store.commit(all).await.unwrap();
    let mut again = Commit::new();
    for record in store.list::<Heard>(Query::all().limit(50)).await.unwrap().records {
        again = again.put(record.key.clone(), &record.decode::<Heard>().unwrap());
    }
    let forget = crowd.iter().fold(Commit::new(), |forget, subject| forget.forget(subject));
    other.commit(forget).await.unwrap();
    store.commit(again).await.unwrap();
    let name = store.get::<Heard>("7").await.unwrap().unwrap().name;
    assert_eq!(name.state(), PersonalState::Forgotten);
}

#[tokio::test(start_paused = true)]
async fn who_knew_a_subject_before_its_first_value_reads_it_at_once() {
    let memory = Memory::new();
    let (store, other) = (Store::new(memory.clone()), Store::new(memory));
    let event = UserEvent::Registered { name: Personal::new(&ada(), "Ada".into()) };
    let event = Envelope::new("user", &event).unwrap();
    // It comes to nothing, but has asked for the key.
    let nothing = Commit::new().append(StreamId::new("user", 9).unwrap(), Expected::Version(7), [event]);
    assert!(matches!(other.commit(nothing).await, Err(CommitError::Conflict(_))));
    registered(&store).await;
    let user = Repository::<User>::new(&other).load(1).await.unwrap();
    assert_eq!(user.name.as_ref().and_then(Personal::get).map(String::as_str), Some("Ada"));
}

#[tokio::test]
async fn a_commit_that_did_not_happen_leaves_no_key() {
    let memory = Memory::new();
    let store = Store::new(memory.clone());
    let event = |name: &str| UserEvent::Registered { name: Personal::new(&ada(), name.to_owned()) };
    let stream = StreamId::new("user", 1).unwrap();
    let write = |expected| {
        Commit::new().append(stream.clone(), expected, [Envelope::new("user", &event("Ada")).unwrap()])
    };
    let keys = async || store.list_records(KEYS, Query::all()).await.unwrap().records.len();
    memory.set_faults(Faults { refuse: 1, ..Faults::default() });
    assert!(matches!(store.commit(write(Expected::NoStream)).await, Err(CommitError::Unavailable(_))));
    assert!(matches!(store.commit(write(Expected::Version(7))).await, Err(CommitError::Conflict(_))));
    assert_eq!(keys().await, 0);
    let (id, keep) = (new_id(), Duration::from_secs(60));
    assert!(!store.commit(write(Expected::NoStream).with_id(id, keep)).await.unwrap().repeated);
    assert!(store.commit(write(Expected::NoStream).with_id(id, keep)).await.unwrap().repeated);
    assert_eq!(keys().await, 1);
    // Another life has the key that was made, and its data.
    let user = Repository::<User>::new(&Store::new(memory)).load(1).await.unwrap();
    assert_eq!(user.name.as_ref().and_then(Personal::get).map(String::as_str), Some("Ada"));
    // Whom it was about is forgotten, and it has happened all the same.
    store.forget(&ada(), Commit::new()).await.unwrap();
    assert!(store.commit(write(Expected::NoStream).with_id(id, keep)).await.unwrap().repeated);
    let another = store.commit(write(Expected::Any).with_id(new_id(), keep)).await;
    assert!(matches!(another, Err(CommitError::Forgotten(_))));
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
    assert!(kept.iter().all(|record| !String::from_utf8_lossy(&record.value).contains("Ada")));
    store.forget(&ada(), Commit::new()).await.unwrap();
    assert_eq!(answer().await, StatusCode::GONE);
}

#[tokio::test(start_paused = true)]
async fn a_handling_that_would_say_something_new_of_who_is_forgotten_is_parked_and_others_go_on() {
    let (store, other) = (Store::memory(), Store::memory());
    let users = registered(&store).await;
    let name = Personal::new(&Subject::new("user-2").unwrap(), "Bob".to_owned());
    let registers = |_: &User| Ok::<_, CommitError>(UserEvent::Registered { name: name.clone() });
    users.update(2, registers).await.unwrap();
    other.define::<Heard>().await.unwrap();
    other.forget(&ada(), Commit::new()).await.unwrap();
    let handler = async |message: Message| {
        let about = Subject::new(format_args!("user-{}", message.key())).unwrap();
        let heard = Heard { name: Personal::new(&about, "as they know him".into()) };
        Ok::<_, Failure>(Commit::new().put(message.key(), &heard))
    };
    let bus = Bus::embedded(Store::memory());
    let group = bus.group("others", &other).lanes(1).on("user.registered", handler);
    let (status, mut watch) = (group.clone(), other.watch());
    let heard = async {
        while other.get::<Heard>("2").await.unwrap().is_none() {
            watch.changed().await.unwrap();
        }
        status.status().await.unwrap()
    };
    let status = tokio::select! {
        end = bus.relay("users", &store) => panic!("{end:?}"),
        end = group.run(CancellationToken::new()) => panic!("{end:?}"),
        heard = tokio::time::timeout(Duration::from_secs(60), heard) => heard.expect("the group goes on"),
    };
    assert_eq!(status.dead_keys + status.retrying_keys, 1);
    assert!(other.get::<Heard>("1").await.unwrap().is_none());
}

/// Keeps a text about each user that says nothing of what his events say.
struct Notes;

impl Projection for Notes {
    const NAME: &'static str = "notes";
    const CATEGORY: &'static str = "user";
    type Event = UserEvent;
    type Row = Heard;

    fn apply(&self, row: Option<Heard>, event: &UserEvent, at: &Recorded) -> Option<Heard> {
        let about = Subject::new(format_args!("user-{}", at.stream.key())).unwrap();
        match event {
            UserEvent::Visited => Some(Heard { name: Personal::new(&about, "was here".into()) }),
            _ => row,
        }
    }
}

#[tokio::test(start_paused = true)]
async fn an_event_whose_row_would_say_something_new_of_who_is_forgotten_is_parked_and_others_are_folded() {
    let store = Store::memory();
    let users = registered(&store).await;
    forget(&store, &users).await;
    users.update(2, |_: &User| Ok::<_, CommitError>(UserEvent::Visited)).await.unwrap();
    let view = View::new(Notes, &store);
    tokio::select! {
        end = view.run(CancellationToken::new()) => panic!("{end:?}"),
        seen = view.wait_for(store.head(), Duration::from_secs(60)) => seen.unwrap(),
    }
    assert!(view.get("1").await.unwrap().is_none());
    assert!(view.get("2").await.unwrap().is_some());
    let parked = view.parked(None, 9).await.unwrap().items;
    assert!(parked.iter().all(|event| event.key == "1") && parked.len() >= 3, "{parked:?}");
    let reason = parked[0].reason.as_deref().unwrap();
    assert!(reason.contains("`user-1` is forgotten"), "{reason}");
}

/// An engine on which a subject is forgotten, by somebody else, right before a commit.
struct Forgetful {
    memory: Memory,
    /// So many commits come before.
    before: AtomicI64,
}

impl Layer for Forgetful {
    fn inner(&self) -> &dyn Engine {
        &self.memory
    }

    fn commit(&self, commit: Commit) -> BoxFuture<'_, Result<Committed, CommitError>> {
        Box::pin(async move {
            if self.before.fetch_sub(1, Ordering::Relaxed) == 0 {
                Store::new(self.memory.clone()).forget(&ada(), Commit::new()).await?;
            }
            self.memory.commit(commit).await
        })
    }
}

/// Makes a new value of a name.
struct Hellos;

impl Projection for Hellos {
    const NAME: &'static str = "hellos";
    const CATEGORY: &'static str = "user";
    type Event = UserEvent;
    type Row = Greeting;

    fn apply(&self, row: Option<Greeting>, event: &UserEvent, _: &Recorded) -> Option<Greeting> {
        let UserEvent::Registered { name } = event else { return row };
        let hello = |text: &String| Personal::new(name.subject().unwrap(), format!("Hello, {text}"));
        name.get().map(|text| Greeting { text: hello(text) })
    }
}

#[tokio::test(start_paused = true)]
async fn nothing_is_parked_because_somebody_is_forgotten_while_a_view_is_at_his_event() {
    let mut rows = 0;
    for before in 0..8 {
        let memory = Memory::new();
        registered(&Store::new(memory.clone())).await;
        let store = Store::new(Forgetful { memory, before: before.into() });
        let view = View::new(Hellos, &store);
        tokio::select! {
            end = view.run(CancellationToken::new()) => panic!("{before}: {end:?}"),
            seen = view.wait_for(store.head(), Duration::from_secs(60)) => seen.unwrap(),
        }
        assert_eq!(view.parked(None, 9).await.unwrap().items, [], "{before}");
        rows += usize::from(view.get("1").await.unwrap().is_some());
    }
    assert!((1..8).contains(&rows), "he is forgotten before the row, and behind it: {rows}");
}

#[tokio::test(start_paused = true)]
async fn a_row_that_a_view_has_in_mind_says_nothing_of_who_was_forgotten_since() {
    let store = Store::memory();
    let users = registered(&store).await;
    let view = View::new(Hellos, &store);
    let (running, stop) = (view.clone(), CancellationToken::new());
    let run = async {
        view.wait_for(store.head(), Duration::from_secs(60)).await.unwrap();
        store.forget(&ada(), Commit::new()).await.unwrap();
        for _ in 0..2 {
            users.update(1, |_: &User| Ok::<_, CommitError>(UserEvent::Visited)).await.unwrap();
        }
        view.wait_for(store.head(), Duration::from_secs(60)).await.unwrap();
        stop.cancel();
    };
    let (end, ()) = tokio::join!(running.run(stop.clone()), run);
    end.unwrap();
    assert_eq!(view.parked(None, 9).await.unwrap().items, []);
    assert_eq!(view.get("1").await.unwrap().unwrap().text.state(), PersonalState::Forgotten);
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
        assert!(
            asked.iter().all(|record| !String::from_utf8_lossy(&record.value).contains("Ada")),
            "{asked:?}"
        );
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
            assert!(!data.contains("Ada") && !data.contains("Hello"), "{data}");
        }
    }
}

/// Says something new of somebody, in a step or at its end.
async fn speaks(saga: Saga<()>, in_a_step: bool) -> Result<Greeting, SagaError> {
    let new = || Greeting { text: Personal::new(&ada(), "Hello, Ada".into()) };
    match in_a_step {
        true => saga.step("speak", async |_| Ok::<_, CommitError>(new())).await,
        false => Ok(new()),
    }
}

#[tokio::test(start_paused = true)]
async fn a_saga_that_says_something_new_of_who_is_forgotten_stops_and_says_why() {
    let store = Store::memory();
    let sagas = Sagas::new(&store, (), Clock::system()).register("speaks", speaks);
    sagas.prepare().await.unwrap();
    store.forget(&ada(), Commit::new()).await.unwrap();
    let acts = async {
        for (in_a_step, state) in [(true, SagaState::Blocked), (false, SagaState::Stuck)] {
            let id = new_id();
            store.commit(sagas.start("speaks", id, &in_a_step).unwrap()).await.unwrap();
            let view = sagas.wait(id, Duration::from_secs(60)).await.unwrap();
            assert_eq!(view.state, state);
            assert!(
                view.reason.as_ref().is_some_and(|why| why.contains("`user-1` is forgotten")),
                "{view:?}"
            );
        }
    };
    tokio::select! {
        end = sagas.clone().run(CancellationToken::new()) => panic!("{end:?}"),
        () = acts => {}
    }
}

/// Any JSON, with names that a store could take for its own.
fn outside() -> impl Strategy<Value = Value> {
    let word =
        || prop_oneof![Just("$personal".to_owned()), Just("$$personal".to_owned()), "[a-z$\"\\\\]{0,5}"];
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        word().prop_map(Value::from),
        word().prop_map(|of| json!({ "$personal": { "of": of, "sealed": "AAAA" } })),
    ];
    leaf.prop_recursive(3, 24, 4, move |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            proptest::collection::btree_map(word(), inner, 0..4)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Mixed {
    before: Value,
    names: Vec<Personal<Value>>,
    after: Value,
}

impl Row for Mixed {
    const COLLECTION: &'static str = "mixed";
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn whatever_stands_around_a_personal_value_is_read_back_as_it_was(
        before in outside(), inside in proptest::collection::vec(outside(), 0..3), after in outside()
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(async {
            let store = Store::memory();
            store.define::<Mixed>().await.unwrap();
            let names: Vec<_> = inside.iter().map(|value| Personal::new(&ada(), value.clone())).collect();
            let mixed = Mixed { before, names, after };
            store.commit(Commit::new().put("1", &mixed)).await.unwrap();
            let read = async || store.get::<Mixed>("1").await.unwrap().unwrap();
            assert_eq!(read().await, mixed);
            store.forget(&ada(), Commit::new()).await.unwrap();
            let forgotten = read().await;
            assert_eq!((forgotten.before, forgotten.after), (mixed.before, mixed.after));
            assert!(forgotten.names.iter().all(|name| name.state() == PersonalState::Forgotten));
        });
    }
}
