//! What is new about who is forgotten.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use purlin::aggregate::{Aggregate, Repository, SnapshotPolicy};
use purlin::bus::{Bus, Failure, Message};
use purlin::message::{Clock, new_id};
use purlin::projection::{Fold, Projection, RowSet, Unfit, View};
use purlin::saga::{Saga, SagaError, SagaState, Sagas};
use purlin::store::memory::Memory;
use purlin::store::personal::{Personal, PersonalState, Subject};
use purlin::store::{
    BoxFuture, Collection, Commit, CommitError, Committed, Engine, Layer, Recorded, Row, Store,
};
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

use super::{Greeting, Heard, User, UserEvent, ada, forget, registered};

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

/// An earlier program, which took no name.
struct Refuses;

impl Fold for Refuses {
    const NAME: &'static str = <Hellos as Projection>::NAME;
    const CATEGORIES: &'static [&'static str] = &["user"];

    fn collections() -> Vec<Collection> {
        vec![Greeting::collection()]
    }

    fn key(&self, event: &Recorded) -> String {
        event.stream.key().to_owned()
    }

    fn apply(&self, _: &Recorded, _: &mut RowSet<'_>) -> Result<(), Unfit> {
        Err(Unfit::new("what is a name?"))
    }
}

#[tokio::test(start_paused = true)]
async fn nothing_stays_parked_because_somebody_is_forgotten_while_his_event_is_tried_again() {
    let mut rows = 0;
    for before in 0..8 {
        let memory = Memory::new();
        let store = Store::new(memory.clone());
        registered(&store).await;
        let earlier = View::new(Refuses, &store);
        tokio::select! {
            end = earlier.run(CancellationToken::new()) => panic!("{before}: {end:?}"),
            seen = earlier.wait_for(store.head(), Duration::from_secs(60)) => seen.unwrap(),
        }
        assert!(!earlier.parked(None, 9).await.unwrap().items.is_empty());
        let view = View::new(Hellos, &Store::new(Forgetful { memory, before: before.into() }));
        tokio::select! {
            end = view.run(CancellationToken::new()) => panic!("{before}: {end:?}"),
            () = tokio::time::sleep(Duration::from_secs(60)) => {}
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
