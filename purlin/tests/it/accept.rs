//! Relays and groups that go on with another life of their log, from where a person says.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use http::{Method, Request};
use http_body_util::BodyExt;
use purlin::bus::{
    AcceptError, Acceptance, Bus, Failure, Follower, FollowerKind, Group, GroupError, Message, RelayError,
    followers,
};
use purlin::message::{Clock, Envelope, Fault, FaultKind};
use purlin::resilience::Retry;
use purlin::service::operator::{self, Served};
use purlin::store::memory::Memory;
use purlin::store::{Commit, CommitError, Engine, Expected, Layer, LogId, Position, Store, StreamId};
use serde_json::Value;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

fn of_log(id: LogId) -> Store {
    Store::new(Memory::of_log(id, Clock::system()))
}

async fn publish(store: &Store, key: &str) {
    let stream = StreamId::new("order", key).unwrap();
    let event = Envelope::raw("order.created", "1").public();
    store.commit(Commit::new().append(stream, Expected::Any, [event])).await.unwrap();
}

/// Runs a relay until the bus is so long.
async fn relay(source: &Store, bus: &Store, until: u64) {
    let mut watch = bus.watch();
    tokio::select! {
        end = Bus::embedded(bus.clone()).relay("orders", source) => panic!("the relay ended: {end:?}"),
        head = watch.wait_for(|head| head.0 >= until) => drop(head.unwrap()),
    }
}

async fn only(store: &Store) -> Follower {
    let mut all = followers(store).await.unwrap();
    assert_eq!(all.len(), 1);
    all.remove(0)
}

#[tokio::test]
async fn a_relay_goes_on_with_a_restored_log_behind_the_position_that_is_said() {
    let (first, bus) = (LogId::new(), Store::memory());
    let (before, restored) = (of_log(first), of_log(LogId { incarnation: first.incarnation + 1, ..first }));
    for key in ["a", "b", "c"] {
        publish(&before, key).await;
    }
    relay(&before, &bus, 3).await;
    for key in ["a", "b", "other"] {
        publish(&restored, key).await;
    }
    let refused = Bus::embedded(bus.clone()).relay("orders", &restored).await;
    assert!(matches!(refused, Err(RelayError::OtherLog { .. })), "{refused:?}");

    let follower = only(&bus).await;
    let accept =
        async |followed: &Store, after| Acceptance::of(&bus, &follower, followed, Position(after)).await;
    assert!(matches!(accept(&before, 3).await, Err(AcceptError::Follows)));
    assert!(matches!(accept(&Store::memory(), 0).await, Err(AcceptError::Another { .. })));
    let ahead = accept(&restored, 4).await.unwrap_err();
    assert_eq!(
        (ahead.kind(), ahead.to_string().as_str()),
        (FaultKind::Rejected, "the log ends at 3: nobody can go on behind 4")
    );
    let (two, late) = (accept(&restored, 2).await.unwrap(), accept(&restored, 3).await.unwrap());
    assert_eq!((two.dropped, two.from), (0, Position(2)));
    two.apply().await.unwrap();
    let late = late.apply().await;
    assert!(
        matches!(late, Err(AcceptError::Write(CommitError::Conflict(_)))),
        "it has been changed meanwhile: {late:?}"
    );
    let moved = accept(&restored, 2).await.unwrap_err();
    assert_eq!(moved.kind(), FaultKind::Conflict);
    assert!(matches!(moved, AcceptError::Moved(_)), "it is not as it was seen: {moved}");

    relay(&restored, &bus, 4).await;
    let other = bus.read_stream(&StreamId::new("order", "other").unwrap(), 1, 9).await.unwrap();
    assert_eq!(other.len(), 1, "what is behind the position was copied");
    for key in ["a", "b", "c"] {
        let copies = bus.read_stream(&StreamId::new("order", key).unwrap(), 1, 9).await.unwrap();
        assert_eq!(copies.len(), 1, "and nothing else: {key}");
    }
}

#[tokio::test]
async fn a_relay_whose_service_has_lost_its_store_goes_on_with_the_log_that_it_has_now() {
    let (bus, lost, found) = (Store::memory(), Store::memory(), Store::memory());
    for key in ["a", "b", "c"] {
        publish(&lost, key).await;
    }
    relay(&lost, &bus, 3).await;
    for key in ["d", "e"] {
        publish(&found, key).await;
    }
    let refused = Bus::embedded(bus.clone()).relay("orders", &found).await;
    assert!(matches!(refused, Err(RelayError::OtherLog { .. })), "{refused:?}");
    let stores = [("bus", &bus), ("orders", &found)];
    let (_, listed) = ask(&stores, Method::GET, "/followers").await;
    let item = &listed["items"][0];
    assert_eq!(
        (&item["refuses"], &item["other_log"], &item["log"]),
        (&true.into(), &true.into(), &"orders".into())
    );
    let accept = async |after: u64| {
        let path = format!("/followers/accept?service=bus&kind=relay&name=orders&after={after}");
        ask(&stores, Method::POST, &path).await
    };
    assert_eq!(accept(3).await.0, 422, "it does not go so far");
    let (status, done) = accept(1).await;
    assert_eq!((status, &done["from"], &done["done"]), (200, &1.into(), &true.into()), "{done}");
    relay(&found, &bus, 4).await;
    let copies =
        async |key| bus.read_stream(&StreamId::new("order", key).unwrap(), 1, 9).await.unwrap().len();
    assert_eq!(
        (copies("d").await, copies("e").await),
        (0, 1),
        "what is behind the position was copied, and no more"
    );
    let (_, listed) = ask(&stores, Method::GET, "/followers").await;
    assert_eq!(listed["items"][0]["refuses"], false);

    // A group follows the bus itself: what it has handled is of the bus that is lost.
    let follower = Follower { kind: FollowerKind::Group, ..only(&bus).await };
    let another = Acceptance::of_successor(&bus, &follower, &lost, Position(0)).await;
    assert!(matches!(another, Err(AcceptError::Another { .. })), "{another:?}");
}

#[tokio::test]
async fn a_relay_goes_on_with_a_log_that_has_lost_its_end() {
    let (id, bus) = (LogId::new(), Store::memory());
    let (before, shorter) = (of_log(id), of_log(id));
    publish(&before, "a").await;
    publish(&before, "b").await;
    relay(&before, &bus, 2).await;
    publish(&shorter, "a").await;
    let refused = Bus::embedded(bus.clone()).relay("orders", &shorter).await;
    assert!(matches!(refused, Err(RelayError::SourceBehind { .. })), "{refused:?}");
    let acceptance = Acceptance::of(&bus, &only(&bus).await, &shorter, Position(1)).await.unwrap();
    acceptance.apply().await.unwrap();
    publish(&shorter, "c").await;
    relay(&shorter, &bus, 3).await;
}

#[tokio::test]
async fn a_group_goes_on_with_a_restored_bus_and_what_is_parked_behind_the_position_comes_again() {
    let (first, store, source) = (LogId::new(), Store::memory(), Store::memory());
    let (bus, restored) = (of_log(first), of_log(LogId { incarnation: first.incarnation + 1, ..first }));
    let handled = Arc::new(AtomicUsize::new(0));
    let group = |bus: &Store| {
        let (bus, handled) = (Bus::embedded(bus.clone()), Arc::clone(&handled));
        let once = Retry { max_attempts: 1, ..Group::DEFAULT_RETRY };
        bus.group("g", &store).lanes(4).retry(once).on("order.created", move |message: Message| {
            let odd = message.key() == "odd";
            if !odd {
                handled.fetch_add(1, Ordering::SeqCst);
            }
            async move { if odd { Err(Failure::new(FaultKind::Rejected, "odd")) } else { Ok(Commit::new()) } }
        })
    };
    let until = async |bus: &Store, parked: u64, count: usize| {
        let (group, mut watch) = (group(bus), store.watch());
        let seen = async {
            while group.status().await.unwrap().parked < parked || handled.load(Ordering::SeqCst) < count {
                watch.changed().await.unwrap();
            }
        };
        tokio::select! {
            end = group.run(CancellationToken::new()) => panic!("{end:?}"),
            () = seen => {}
        }
    };
    for key in ["odd", "a", "odd", "b", "odd"] {
        publish(&source, key).await;
    }
    relay(&source, &bus, 5).await;
    until(&bus, 3, 2).await;
    // The bus is put back from a backup of its first two messages; its relay copies the others again.
    relay(&source, &restored, 5).await;
    let end = group(&restored).run(CancellationToken::new()).await;
    assert!(matches!(end, Err(GroupError::OtherLog { .. })), "{end:?}");
    let acceptance = Acceptance::of(&store, &only(&store).await, &restored, Position(2)).await.unwrap();
    assert_eq!(acceptance.dropped, 2);
    acceptance.apply().await.unwrap();
    assert_eq!(group(&restored).status().await.unwrap().parked, 1);
    until(&restored, 3, 3).await;
    let letters = purlin::bus::DeadLetters::new(&store).list(None, None, 10).await.unwrap().items;
    let ids: Vec<&str> = letters.iter().map(|letter| letter.id.as_str()).collect();
    assert_eq!(ids, ["g-1", "g-3", "g-5"], "each once, in order");
    assert_eq!(handled.load(Ordering::SeqCst), 3, "what is behind the position was handled again");
}

fn next_life(id: LogId) -> LogId {
    LogId { incarnation: id.incarnation + 1, ..id }
}

async fn copies(bus: &Store, key: &str) -> usize {
    bus.read_stream(&StreamId::new("order", key).unwrap(), 1, 9).await.unwrap().len()
}

#[tokio::test]
async fn a_relay_that_had_not_come_so_far_is_not_set_forward() {
    let (first, bus) = (LogId::new(), Store::memory());
    let (before, restored) = (of_log(first), of_log(next_life(first)));
    for key in ["a", "b"] {
        publish(&before, key).await;
    }
    relay(&before, &bus, 2).await;
    for key in ["a", "b", "c", "d"] {
        publish(&restored, key).await;
    }
    let acceptance = Acceptance::of(&bus, &only(&bus).await, &restored, Position(4)).await.unwrap();
    assert_eq!(acceptance.from, Position(2));
    acceptance.apply().await.unwrap();
    assert_eq!(only(&bus).await.position, Position(2));
    relay(&restored, &bus, 4).await;
    for key in ["a", "b", "c", "d"] {
        assert_eq!(copies(&bus, key).await, 1, "{key}");
    }
}

const KEYS: [&str; 9] = ["slow", "a", "b", "c", "d", "e", "f", "g", "h"];

/// A group whose handler makes one effect of a message; with `hangs` it never comes to an end with the first key.
fn effects(bus: &Store, store: &Store, hangs: bool) -> Group {
    let effect = move |message: Message| async move {
        if hangs && message.key() == KEYS[0] {
            std::future::pending::<()>().await;
        }
        let stream = StreamId::new("effect", message.key()).unwrap();
        Ok::<_, Failure>(Commit::new().append(stream, Expected::Any, [Envelope::raw("effect.made", "1")]))
    };
    Bus::embedded(bus.clone()).group("g", store).lanes(4).on("order.created", effect)
}

/// Runs a group until it has made so many effects in all.
async fn until_effects(group: &Group, store: &Store, count: u64) {
    let mut watch = store.watch();
    let made = tokio::time::timeout(Duration::from_secs(60), watch.wait_for(|head| head.0 >= count));
    tokio::select! {
        end = group.run(CancellationToken::new()) => panic!("{end:?}"),
        made = made => drop(made.expect("all that is published is handled").unwrap()),
    }
}

/// A group on a bus, some of whose lanes have handled messages while another has handled none.
async fn with_lanes_apart(bus: &Store) -> (Store, Follower) {
    let (store, source) = (Store::memory(), Store::memory());
    for key in KEYS {
        publish(&source, key).await;
    }
    relay(&source, bus, KEYS.len() as u64).await;
    until_effects(&effects(bus, &store, true), &store, 4).await;
    let follower = only(&store).await;
    assert_eq!(follower.position, Position::START);
    assert!(follower.furthest > Position(4), "{follower:?}");
    (store, follower)
}

async fn each_was_handled_once(store: &Store) {
    for key in KEYS {
        let effects = store.read_stream(&StreamId::new("effect", key).unwrap(), 1, 9).await.unwrap();
        assert_eq!(effects.len(), 1, "{key}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_lane_that_had_not_come_so_far_is_not_set_forward() {
    let first = LogId::new();
    let (bus, restored) = (of_log(first), of_log(next_life(first)));
    let (store, follower) = with_lanes_apart(&bus).await;
    let (source, all) = (Store::memory(), KEYS.len() as u64);
    for key in KEYS {
        publish(&source, key).await;
    }
    relay(&source, &restored, all).await;
    let acceptance = Acceptance::of(&store, &follower, &restored, Position(all)).await.unwrap();
    assert_eq!(acceptance.from, Position::START);
    acceptance.apply().await.unwrap();
    let moved = Acceptance::of(&store, &follower, &restored, Position(all)).await.unwrap_err();
    assert!(matches!(moved, AcceptError::Moved(_)), "{moved}");
    until_effects(&effects(&restored, &store, false), &store, all).await;
    each_was_handled_once(&store).await;
}

async fn ask(stores: &[(&str, &Store)], method: Method, path: &str) -> (u16, Value) {
    let served = |(name, store): &(&str, &Store)| Served { name: (*name).into(), store: (*store).clone() };
    let router: Router = operator::router(stores.iter().map(served));
    let request = Request::builder().method(method).uri(path).body(Body::empty()).unwrap();
    let response = tower::ServiceExt::oneshot(router, request).await.unwrap();
    let status = response.status().as_u16();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    (status, serde_json::from_slice(&body).unwrap())
}

#[tokio::test(start_paused = true)]
async fn a_group_of_which_one_lane_is_beyond_the_end_refuses_and_is_let_go_on() {
    let first = LogId::new();
    let (bus, shorter) = (of_log(first), of_log(first));
    let (store, follower) = with_lanes_apart(&bus).await;
    for key in &KEYS[..2] {
        publish(&shorter, key).await;
    }
    let end = effects(&shorter, &store, false).run(CancellationToken::new()).await;
    assert!(matches!(end, Err(GroupError::BusBehind { .. })), "{end:?}");
    let stores = [("bus", &shorter), ("orders", &store)];
    let (_, listed) = ask(&stores, Method::GET, "/followers").await;
    let item = &listed["items"][0];
    assert_eq!((&item["refuses"], &item["position"], &item["head"]), (&true.into(), &0.into(), &2.into()));
    assert_eq!(item["furthest"], follower.furthest.0);
    let (status, done) =
        ask(&stores, Method::POST, "/followers/accept?service=orders&kind=group&name=g&after=2").await;
    assert_eq!((status, &done["from"], &done["done"]), (200, &0.into(), &true.into()), "{done}");
    let (_, listed) = ask(&stores, Method::GET, "/followers").await;
    assert_eq!(listed["items"][0]["refuses"], false);
    assert_eq!(only(&store).await.furthest, Position(2));
}

/// A store in a database, in a process that has heard of nothing that others have committed since it was opened.
struct Deaf {
    engine: Memory,
    heard: watch::Sender<Position>,
}

impl Layer for Deaf {
    fn inner(&self) -> &dyn Engine {
        &self.engine
    }

    fn watch(&self) -> watch::Receiver<Position> {
        self.heard.subscribe()
    }
}

#[tokio::test]
async fn who_is_at_work_in_another_process_is_not_taken_for_one_that_refuses() {
    let (engine, bus) = (Memory::new(), Store::memory());
    let orders = Store::new(engine.clone());
    publish(&orders, "a").await;
    let heard = watch::channel(orders.head()).0;
    let deaf = Store::new(Deaf { engine, heard: heard.clone() });
    publish(&orders, "b").await;
    relay(&orders, &bus, 2).await;
    let stores = [("bus", &bus), ("orders", &deaf)];
    let (_, listed) = ask(&stores, Method::GET, "/followers").await;
    let item = &listed["items"][0];
    assert_eq!((&item["refuses"], &item["position"], &item["head"]), (&false.into(), &2.into(), &2.into()));
    let (status, refused) =
        ask(&stores, Method::POST, "/followers/accept?service=bus&kind=relay&name=orders&after=1").await;
    assert_eq!(status, 409, "{refused}");
    assert_eq!(only(&bus).await.position, Position(2));

    // Nor does its own relay take what it has not heard of for lost.
    let mut copied = bus.watch();
    let next = async {
        publish(&orders, "c").await;
        heard.send_replace(orders.head());
        copied.wait_for(|head| head.0 >= 3).await.map(drop)
    };
    tokio::select! {
        biased;
        end = Bus::embedded(bus.clone()).relay("orders", &deaf) => panic!("the relay ended: {end:?}"),
        copied = next => copied.unwrap(),
    }
}

#[tokio::test]
async fn who_has_moved_since_he_was_looked_at_is_not_set_back() {
    let (id, bus) = (LogId::new(), Store::memory());
    let (before, shorter) = (of_log(id), of_log(id));
    for key in ["a", "b", "c"] {
        publish(&before, key).await;
    }
    relay(&before, &bus, 2).await;
    let earlier = only(&bus).await;
    publish(&shorter, "a").await;
    publish(&before, "d").await;
    relay(&before, &bus, 4).await;
    let refused = Acceptance::of(&bus, &earlier, &shorter, Position(1)).await;
    assert!(matches!(refused, Err(AcceptError::Moved(_))), "{refused:?}");
}

#[tokio::test]
async fn which_of_two_lives_of_a_log_is_followed_is_for_a_person_to_say() {
    let (first, bus) = (LogId::new(), Store::memory());
    let before = of_log(first);
    publish(&before, "a").await;
    publish(&before, "b").await;
    relay(&before, &bus, 2).await;
    let (copy, restored) = (of_log(next_life(first)), of_log(next_life(next_life(first))));
    publish(&copy, "a").await;
    publish(&restored, "a").await;
    let accept = "/followers/accept?service=bus&kind=relay&name=orders&after=1";
    let both = [("bus", &bus), ("a-copy", &copy), ("orders", &restored)];
    let (status, refused) = ask(&both, Method::POST, accept).await;
    let said = refused["detail"].as_str().unwrap_or_default();
    assert!(status == 409 && said.contains("a-copy, orders"), "{refused}");
    let (status, done) =
        ask(&both[..1].iter().chain(&both[2..]).copied().collect::<Vec<_>>(), Method::POST, accept).await;
    assert_eq!((status, &done["log"]), (200, &"orders".into()), "{done}");
}
