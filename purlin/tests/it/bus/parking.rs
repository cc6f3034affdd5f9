//! Messages that fail are parked, and those of their key behind them; what an operator does with them.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use purlin::bus::{DeadLetterError, DeadLetterState, Failure, Message};
use purlin::message::{Envelope, FaultKind};
use purlin::resilience::Retry;
use purlin::store::{Commit, Expected, StreamId};

use super::{Open, RETRY, World, effect, effect_stream, handle, memory, refused};

on_memory! {
    a_key_waits_for_its_failed_message_and_other_keys_flow,
    a_message_that_keeps_failing_is_dead_until_it_is_replayed,
    dropping_the_first_message_of_a_key_lets_the_later_ones_flow,
    dropping_a_waiting_message_leaves_the_others_in_order,
    a_replay_while_nobody_runs_is_noticed_at_the_next_start,
    the_largest_public_event_can_be_copied_and_parked,
    many_parked_keys_of_another_group_hide_none_of_a_groups_own,
    data_of_any_depth_and_size_of_numbers_can_be_parked,
}

async fn a_key_waits_for_its_failed_message_and_other_keys_flow(open: Open) {
    let world = World::new(open).await;
    for number in 0..3 {
        world.publish("bad", number).await;
        world.publish("good", number).await;
    }
    let stuck = async |message: Message| match message.key() {
        "bad" => Err(refused()),
        _ => Ok(effect(&message)),
    };
    // One lane for both: the failed message must leave it.
    let group =
        || world.group("g").lanes(1).retry(Retry { max_attempts: 1000, ..RETRY }).on("order.created", stuck);
    world.until(group, async || world.effects("good").await.len() == 3).await;
    assert_eq!(world.effects("good").await, [0, 1, 2]);
    assert!(world.effects("bad").await.is_empty());

    let cured = || world.group("g").on("order.created", handle);
    world.until_effects(cured, 6).await;
    assert_eq!(world.effects("bad").await, [0, 1, 2]);
}

/// A group whose handler refuses everything, run until a message of each key is dead.
async fn kill(world: &World, keys: u64) {
    let group = || world.group("g").on("order.created", async |_| Err(refused()));
    let dead = async || world.group("g").status().await.unwrap().dead_keys == keys;
    world.until(group, dead).await;
}

async fn a_message_that_keeps_failing_is_dead_until_it_is_replayed(open: Open) {
    let world = World::new(open).await;
    for number in 0..3 {
        world.publish("a", number).await;
    }
    kill(&world, 1).await;
    let letters = world.dead_letters();
    let group = world.group("g");
    let all_parked = async || group.status().await.unwrap().parked == 3;
    world.until(|| world.group("g").on("order.created", handle), all_parked).await;
    let list = letters.list(Some("g"), None, 2).await.unwrap();
    let rest = letters.list(Some("g"), list.next.as_deref(), 2).await.unwrap();
    let states: Vec<_> = list.items.iter().chain(&rest.items).map(|letter| letter.state).collect();
    assert_eq!(states, [DeadLetterState::Dead, DeadLetterState::Waiting, DeadLetterState::Waiting]);
    assert_eq!(rest.next, None);
    let first = letters.show(&list.items[0].id).await.unwrap();
    assert_eq!((first.letter.attempts, first.letter.kind), (3, Some(FaultKind::Rejected)));
    assert_eq!((first.letter.reason.as_deref(), &*first.letter.key), (Some("not today"), "a"));
    assert!(first.letter.last_failure > first.letter.first_failure && first.letter.next_attempt.is_none());
    assert_eq!((&first.message["data"], &first.message["source"]), (&0.into(), &"orders".into()));
    assert_eq!(letters.list(Some("other"), None, 10).await.unwrap().items, []);

    // While it is dead nothing of its key is tried, however long the group runs.
    let tried = Arc::new(AtomicUsize::new(0));
    let count = async |tried: Arc<AtomicUsize>, message: Message| {
        tried.fetch_add(1, Ordering::Relaxed);
        Ok::<_, Failure>(effect(&message))
    };
    world.publish("b", 0).await;
    let group = || world.group("g").on_with("order.created", &tried, count);
    world.until_effects(group, 1).await;
    assert_eq!(tried.load(Ordering::Relaxed), 1);
    // The last message of the key is named; the first is tried first all the same.
    let replay = async || {
        letters.replay(&rest.items[0].id).await.unwrap();
        world.wait(&async || world.effect_count().await == 4).await;
        true
    };
    world.until(group, replay).await;
    assert_eq!(world.effects("a").await, [0, 1, 2]);
    assert_eq!(letters.list(None, None, 10).await.unwrap().items, []);
    assert!(matches!(letters.show(&list.items[0].id).await, Err(DeadLetterError::NotFound(_))));
    assert!(matches!(letters.replay("g-99").await, Err(DeadLetterError::NotFound(_))));
    assert!(matches!(letters.drop("nonsense").await, Err(DeadLetterError::NotFound(_))));
}

async fn dropping_the_first_message_of_a_key_lets_the_later_ones_flow(open: Open) {
    let world = World::new(open).await;
    for number in 0..3 {
        world.publish("a", number).await;
    }
    kill(&world, 1).await;
    let group = || world.group("g").on("order.created", handle);
    let drop_first = async || {
        let first = world.dead_letters().list(None, None, 1).await.unwrap().items.remove(0);
        world.dead_letters().drop(&first.id).await.unwrap();
        world.wait(&async || world.effect_count().await == 2).await;
        true
    };
    world.until(group, drop_first).await;
    assert_eq!(world.effects("a").await, [1, 2]);
    world.publish("a", 3).await;
    world.until_effects(group, 3).await;
    assert_eq!(world.effects("a").await, [1, 2, 3]);
}

async fn dropping_a_waiting_message_leaves_the_others_in_order(open: Open) {
    let world = World::new(open).await;
    for number in 0..4 {
        world.publish("a", number).await;
    }
    kill(&world, 1).await;
    let parked = async || world.group("g").status().await.unwrap().parked == 4;
    world.until(|| world.group("g").on("order.created", handle), parked).await;
    let letters = world.dead_letters();
    let ids: Vec<_> =
        letters.list(None, None, 9).await.unwrap().items.into_iter().map(|letter| letter.id).collect();
    letters.drop(&ids[1]).await.unwrap();
    assert_eq!(world.group("g").status().await.unwrap().parked, 3);
    letters.replay_key("g", "a").await.unwrap();
    world.until_effects(|| world.group("g").on("order.created", handle), 3).await;
    assert_eq!(world.effects("a").await, [0, 2, 3]);
}

async fn a_replay_while_nobody_runs_is_noticed_at_the_next_start(open: Open) {
    let world = World::new(open).await;
    world.publish("a", 0).await;
    kill(&world, 1).await;
    let first = world.dead_letters().list(None, None, 1).await.unwrap().items.remove(0);
    world.dead_letters().replay(&first.id).await.unwrap();
    world.until_effects(|| world.group("g").on("order.created", handle), 1).await;
    assert_eq!(world.effects("a").await, [0]);
}

async fn the_largest_public_event_can_be_copied_and_parked(open: Open) {
    let world = World::new(open).await;
    let event =
        |bytes: usize| Envelope::raw("order.created", format!("\"{}\"", "x".repeat(bytes - 2))).public();
    let append = |event| Commit::new().append(StreamId::new("order", "a").unwrap(), Expected::Any, [event]);
    let largest = (1 << 20) - (64 << 10);
    assert!(world.orders.commit(append(event(largest + 1))).await.is_err());
    world.orders.commit(append(event(largest))).await.unwrap();
    let refuse = async |_| Err(Failure::new(FaultKind::Rejected, "\0".repeat(100_000)));
    let dead = async || world.group("g").status().await.unwrap().dead_keys == 1;
    world.until(|| world.group("g").on("order.created", refuse), dead).await;
    let letter = world.dead_letters().show("g-1").await.unwrap();
    assert_eq!(letter.message["data"].as_str().unwrap().len(), largest - 2);
}

async fn data_of_any_depth_and_size_of_numbers_can_be_parked(open: Open) {
    let world = World::new(open).await;
    let deep = format!("{}{}", "[".repeat(500), "]".repeat(500));
    for (key, data) in [("deep", deep.clone()), ("large", "1e999".to_owned())] {
        world.append(key, Envelope::raw("order.created", data).public()).await;
    }
    world.publish("a", 1).await;
    let allowed = Arc::new(Mutex::new(false));
    let choosy = async |allowed: Arc<Mutex<bool>>, message: Message| match message.key() {
        "a" => Ok(effect(&message)),
        _ if *allowed.lock().unwrap() => Ok(effect(&message)),
        _ => Err(refused()),
    };
    let group = || world.group("g").lanes(1).on_with("order.created", &allowed, choosy);
    let dead = async || {
        let status = world.group("g").status().await.unwrap();
        (status.dead_keys, world.effects("a").await) == (2, vec![1])
    };
    world.until(group, dead).await;
    let letters = world.dead_letters();
    let shown = letters.show("g-1").await.unwrap().message;
    assert_eq!(shown["data"].as_str(), Some(&*deep));
    *allowed.lock().unwrap() = true;
    for id in ["g-1", "g-2"] {
        letters.replay(id).await.unwrap();
    }
    world.until_effects(group, 3).await;
    let effects = world.shop.read_stream(&effect_stream("deep"), 1, 10).await.unwrap();
    assert_eq!(effects[0].envelope.data, deep);
}

async fn many_parked_keys_of_another_group_hide_none_of_a_groups_own(open: Open) {
    let world = World::new(open).await;
    for number in 0..300 {
        world.publish(&format!("key-{number}"), 0).await;
    }
    let refuse = async |_| Err::<Commit, _>(refused());
    let patient = Retry { max_attempts: 1000, ..RETRY };
    let other = || world.group("other").retry(patient).on("order.created", refuse);
    let all = async || world.group("other").status().await.unwrap().retrying_keys == 300;
    world.until(other, all).await;
    let tried = Arc::new(AtomicUsize::new(0));
    let second = async |tried: Arc<AtomicUsize>, message: Message| match tried.fetch_add(1, Ordering::Relaxed)
    {
        0..300 => Err(refused()),
        _ => Ok(effect(&message)),
    };
    world.until_effects(|| world.group("own").on_with("order.created", &tried, second), 300).await;
    assert_eq!(world.group("own").status().await.unwrap().parked, 0);
}
