//! Consumer groups: their lanes, their marks, and how they stop.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use purlin::bus::{Bus, Failure, Group, GroupError, Message};
use purlin::message::{Envelope, Uuid};
use purlin::store::Store;
use purlin::telemetry::Metrics;
use tokio_util::sync::CancellationToken;

use super::{FATES, MS, Open, World, effect, handle, memory, number, refused, relay};
use crate::faulty::Fates;

on_memory! {
    whatever_commit_the_process_dies_at_every_effect_is_there_once,
    a_lane_that_hangs_holds_up_no_other,
    a_group_keeps_its_lanes_and_its_bus,
    the_marks_move_past_messages_of_other_subjects,
    a_shutdown_finishes_what_is_in_hand,
    a_group_tells_the_metrics_what_it_does,
}

async fn whatever_commit_the_process_dies_at_every_effect_is_there_once(open: Open) {
    let mut at = 1;
    loop {
        let mut commits = 0;
        for fate in FATES {
            let world = World::with_fates(open, Fates::new([(at, fate)])).await;
            for number in 0..4 {
                world.publish("a", number).await;
                world.publish("b", number).await;
            }
            // One of each key fails once, so that parking, joining and retrying are among the commits.
            let failed = Arc::new(Mutex::new(Vec::new()));
            let stumble = async |failed: Arc<Mutex<Vec<Uuid>>>, message: Message| {
                let mut failed = failed.lock().unwrap();
                if number(&message) == 1 && !failed.contains(&message.id()) {
                    failed.push(message.id());
                    return Err(refused());
                }
                Ok(effect(&message))
            };
            let group = || world.group("g").lanes(2).on_with("order.created", &failed, stumble);
            world.until_effects(group, 8).await;
            for key in ["a", "b"] {
                assert_eq!(world.effects(key).await, [0, 1, 2, 3], "{fate:?} at commit {at}, key {key}");
            }
            commits = commits.max(world.fates.commits());
        }
        if at > commits {
            return assert!(at > 10, "there are more commits than that");
        }
        at += 1;
    }
}

async fn a_lane_that_hangs_holds_up_no_other(open: Open) {
    let world = World::new(open).await;
    // Far more than a lane's queue holds stand behind the message that hangs, and among them those of others.
    for number in 0..3000 {
        world.publish("slow", number).await;
        if number % 100 == 0 {
            world.publish(&format!("quick-{number}"), number).await;
        }
    }
    let free = CancellationToken::new();
    let hangs = async |free: CancellationToken, message: Message| {
        if message.key() == "slow" {
            free.cancelled().await;
        }
        Ok::<_, Failure>(effect(&message))
    };
    let day = Duration::from_secs(86_400);
    let group = || world.group("g").lanes(8).timeout(day).on_with("order.created", &free, hangs);
    world.until_effects(group, 30 - quick_in_lane_of("slow")).await;
    free.cancel();
    world.until_effects(group, 3030).await;
    assert_eq!(world.effects("slow").await, (0..3000).collect::<Vec<_>>());
}

/// How many of the quick keys share the lane of another: those do wait for it.
fn quick_in_lane_of(key: &str) -> usize {
    let lane = |key: &str| {
        let hash = key.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
        (hash ^ (hash >> 32)) % 8
    };
    (0..3000).step_by(100).filter(|number| lane(&format!("quick-{number}")) == lane(key)).count()
}

async fn a_group_keeps_its_lanes_and_its_bus(open: Open) {
    let world = World::new(open).await;
    world.publish("a", 0).await;
    let group = || world.group("g").lanes(4).on("order.created", handle);
    world.until_effects(group, 1).await;
    let run = async |group: Group| group.run(CancellationToken::new()).await;
    let end = run(world.group("g").lanes(5)).await;
    assert!(matches!(end, Err(GroupError::Lanes { stored: 4, wanted: 5, .. })), "{end:?}");
    let end = run(Bus::embedded(Store::memory()).group("g", &world.shop)).await;
    assert!(matches!(end, Err(GroupError::OtherLog { .. })), "{end:?}");
    let end = run(world.group("No such name")).await;
    assert!(matches!(end, Err(GroupError::Name(_))), "{end:?}");
    let end = run(group().on("order.created", handle)).await;
    assert!(matches!(end, Err(GroupError::Doubled { .. })), "{end:?}");
    world.publish("a", 1).await;
    world.until_effects(|| world.group("g").on("order.created", handle), 2).await;
}

async fn the_marks_move_past_messages_of_other_subjects(open: Open) {
    let world = World::new(open).await;
    for _ in 0..5000 {
        world.append("a", Envelope::raw("order.noted", "null").public()).await;
    }
    relay(&world, 5000).await;
    assert!(world.group("g").status().await.unwrap().lag >= 5000);
    let marked = async || world.group("g").status().await.unwrap().lag < 1500;
    world.until(|| world.group("g").on("order.created", handle), marked).await;
    assert_eq!(world.effect_count().await, 0);
}

async fn a_shutdown_finishes_what_is_in_hand(open: Open) {
    let world = World::new(open).await;
    world.publish("a", 0).await;
    world.publish("a", 1).await;
    relay(&world, 2).await;
    let shutdown = CancellationToken::new();
    let last = async |shutdown: CancellationToken, message: Message| {
        shutdown.cancel();
        tokio::time::sleep(MS).await;
        Ok::<_, Failure>(effect(&message))
    };
    let group = world.group("g").on_with("order.created", &shutdown, last);
    group.run(shutdown.clone()).await.unwrap();
    assert_eq!(world.effects("a").await, [0]);
}

async fn a_group_tells_the_metrics_what_it_does(open: Open) {
    let world = World::new(open).await;
    let metrics = Metrics::new();
    for key in ["a", "b", "bad", "bad"] {
        world.publish(key, 0).await;
    }
    let stuck = async |message: Message| match message.key() {
        "bad" => Err(refused()),
        _ => Ok(effect(&message)),
    };
    let group = || world.group("g").metrics(&metrics).on("order.created", stuck);
    let shown = async || {
        let text = metrics.render();
        [
            "purlin_bus_handled_total{group=\"g\"} 2",
            "purlin_bus_parked_messages{group=\"g\"} 2",
            "purlin_bus_dead_keys{group=\"g\"} 1",
            "purlin_bus_failures_total{group=\"g\",kind=\"rejected\"} 3",
        ]
        .iter()
        .all(|line| text.contains(line))
    };
    let touch = async || {
        while !shown().await {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        true
    };
    world.until(group, touch).await;
}
