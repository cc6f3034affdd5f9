//! Relays and groups that go on with another life of their log, from where a person says.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use purlin::bus::{AcceptError, Acceptance, Bus, Failure, Follower, RelayError, followers};
use purlin::message::{Clock, Envelope, Fault, FaultKind};
use purlin::resilience::Retry;
use purlin::store::memory::Memory;
use purlin::store::{Commit, CommitError, Expected, LogId, Position, Store, StreamId};
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
    assert_eq!(two.dropped, 0);
    two.apply().await.unwrap();
    let late = late.apply().await;
    assert!(
        matches!(late, Err(AcceptError::Write(CommitError::Conflict(_)))),
        "it has been changed meanwhile: {late:?}"
    );
    assert!(matches!(accept(&restored, 9).await, Err(AcceptError::Ahead { .. })), "as it was seen");

    relay(&restored, &bus, 4).await;
    let other = bus.read_stream(&StreamId::new("order", "other").unwrap(), 1, 9).await.unwrap();
    assert_eq!(other.len(), 1, "what is behind the position was copied");
    for key in ["a", "b", "c"] {
        let copies = bus.read_stream(&StreamId::new("order", key).unwrap(), 1, 9).await.unwrap();
        assert_eq!(copies.len(), 1, "and nothing else: {key}");
    }
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
        let once = Retry { max_attempts: 1, ..purlin::bus::Group::DEFAULT_RETRY };
        bus.group("g", &store).lanes(4).retry(once).on("order.created", move |message: purlin::bus::Message| {
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
    assert!(matches!(end, Err(purlin::bus::GroupError::OtherLog { .. })), "{end:?}");
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
