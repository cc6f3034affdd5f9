//! The relay: each public event is on the bus once, in order.

use std::sync::{Arc, Mutex};

use purlin::bus::{Failure, Message, RelayError};
use purlin::message::{Envelope, TraceContext, Uuid};
use purlin::store::{Commit, CommitError, Expected, Position, Store, StreamId};

use super::{FATES, Open, World, effect, handle, memory, messages, relay};
use crate::faulty::Fates;

on_memory! {
    public_events_are_copied_in_order_and_keep_all_they_had,
    a_relay_that_dies_at_any_commit_copies_each_event_once,
    a_relay_refuses_a_source_that_is_not_the_log_it_knows,
    a_public_event_that_is_no_json_is_refused,
}

async fn public_events_are_copied_in_order_and_keep_all_they_had(open: Open) {
    let world = World::new(open).await;
    let mut public = Envelope::raw("order.created", r#"{"total":5}"#).public();
    public.meta.trace = Some(TraceContext::root());
    world.append("1", public.clone()).await;
    world.append("1", Envelope::raw("order.noted", "null")).await;
    world.append("2", Envelope::raw("order.created", "7").public()).await;
    world.append("1", Envelope::raw("order.submitted", "null").public()).await;
    let seen = Arc::new(Mutex::new(Vec::new()));
    let record = async |seen: Arc<Mutex<Vec<Message>>>, message: Message| {
        seen.lock().unwrap().push(message.clone());
        Ok::<_, Failure>(effect(&message))
    };
    let group = || {
        let group = world.group("g").lanes(1);
        group.on_with("order.created", &seen, record).on_with("order.submitted", &seen, record)
    };
    world.until_effects(group, 3).await;

    let log = world.orders.read_log(Position::START, &purlin::store::LogFilter::public(), 10).await.unwrap();
    let seen = seen.lock().unwrap();
    assert_eq!(seen.iter().map(|message| message.event.clone()).collect::<Vec<_>>(), log.events);
    assert!(seen.iter().all(|message| &*message.source == "orders"));
    assert_eq!((seen[0].id(), seen[0].subject(), seen[0].key()), (public.id, "order.created", "1"));
    assert_eq!(seen.iter().map(|message| message.position.0).collect::<Vec<_>>(), [1, 2, 3]);
}

async fn a_relay_that_dies_at_any_commit_copies_each_event_once(open: Open) {
    for (at, fate) in (1..=3).flat_map(|at| FATES.map(|fate| (at, fate))) {
        let world = World::with_fates(open, Fates::new([(at, fate)])).await;
        for number in 0..600 {
            world.publish(&(number % 7).to_string(), number).await;
        }
        relay(&world, 600).await;
        let copied: Vec<Uuid> = messages(&world).await.iter().map(|event| event.envelope.id).collect();
        let log =
            world.orders.read_log(Position::START, &purlin::store::LogFilter::all(), 1000).await.unwrap();
        let published: Vec<Uuid> = log.events.iter().map(|event| event.envelope.id).collect();
        assert_eq!(copied, published, "{fate:?} at commit {at}");
    }
}

async fn a_relay_refuses_a_source_that_is_not_the_log_it_knows(open: Open) {
    let world = World::new(open).await;
    world.publish("1", 1).await;
    relay(&world, 1).await;
    let other = Store::memory();
    let end = world.bus().relay("orders", &other).await;
    assert!(matches!(end, Err(RelayError::OtherLog { found, .. }) if found == other.log_id()), "{end:?}");
}

async fn a_public_event_that_is_no_json_is_refused(open: Open) {
    let world = World::new(open).await;
    for data in [&b"no json"[..], b"", b"1 2", b"\"\xff\""] {
        let event = Envelope::raw("order.created", data.to_vec());
        let append = |event| {
            let stream = StreamId::new("order", "a").unwrap();
            world.orders.commit(Commit::new().append(stream, Expected::Any, [event]))
        };
        let refused = append(event.clone().public()).await;
        assert!(matches!(refused, Err(CommitError::Invalid(_))), "{refused:?}");
        append(event).await.unwrap();
    }
    world.publish("a", 1).await;
    world.until_effects(|| world.group("g").on("order.created", handle), 1).await;
}
