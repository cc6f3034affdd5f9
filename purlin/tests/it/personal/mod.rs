//! Personal data through everything that stands on a store.

mod anew;
mod keys;
mod sealed;
mod told;

use std::time::Duration;

use purlin::aggregate::{Aggregate, Repository, SnapshotPolicy};
use purlin::projection::{Projection, View};
use purlin::store::personal::{Personal, PersonalState, Subject};
use purlin::store::{CommitError, LogFilter, Position, Recorded, Row, Store};
use serde::{Deserialize, Serialize};
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

/// Whether something says her name in plain; what is sealed has these three letters by chance, but not what stands behind
/// them here.
fn names_ada(bytes: &[u8]) -> bool {
    let text = String::from_utf8_lossy(bytes);
    ["Ada\"", "Ada\\", "Ada.", "Ada!", "Ada ", "Hello, Ada"].iter().any(|name| text.contains(name))
}

#[tokio::test(start_paused = true)]
async fn a_snapshot_and_the_events_behind_it_read_as_forgotten() {
    let store = Store::memory();
    let users = registered(&store).await;
    let user = users.load(1).await.unwrap();
    assert_eq!(user.name.as_ref().and_then(Personal::get).map(String::as_str), Some("Ada"));
    assert!(store.get_record("purlin_snapshots", "user-1").await.unwrap().is_some(), "there is a snapshot");
    let sealed = store.sealed().get_record("purlin_snapshots", "user-1").await.unwrap().unwrap();
    assert!(!names_ada(&sealed.value));
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
