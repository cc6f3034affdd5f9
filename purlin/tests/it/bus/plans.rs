//! However messages fail and whenever the process dies: effects in order, once.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use proptest::prelude::*;
use purlin::bus::{DeadLetterState, Message};
use purlin::resilience::Retry;

use super::{FATES, MS, RETRY, World, effect, number, refused, short_pages};
use crate::faulty::{Fate, Fates};

/// How a message behaves: how often its handling fails, and how.
#[derive(Debug, Clone)]
struct Behaviour {
    key: u8,
    failures: u32,
    how: How,
}

#[derive(Debug, Clone, Copy)]
enum How {
    Refuses,
    Panics,
    Hangs,
}

/// All messages, and how often each was tried.
type Plan = Arc<(Vec<Behaviour>, Mutex<HashMap<u64, u32>>)>;

fn behaviour() -> impl Strategy<Value = Behaviour> {
    let how = prop_oneof![4 => Just(How::Refuses), 1 => Just(How::Panics), 1 => Just(How::Hangs)];
    let failures = prop_oneof![3 => Just(0_u32), 2 => 1..7_u32];
    (0..4_u8, failures, how).prop_map(|(key, failures, how)| Behaviour { key, failures, how })
}

fn fates() -> impl Strategy<Value = BTreeMap<usize, Fate>> {
    proptest::collection::btree_map(1..160_usize, proptest::sample::select(&FATES[..]), 0..20)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, max_shrink_iters: 400, ..ProptestConfig::default() })]

    /// However messages fail and whenever the process dies, the effects of each key are exactly its messages, in
    /// order, once. An operator replays what is dead.
    #[test]
    fn the_effects_of_a_key_are_its_messages_in_order_once(
        messages in proptest::collection::vec(behaviour(), 1..30),
        fates in fates(),
        lanes in 1..4_u32,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        let expected = expected(&messages);
        let found = runtime.block_on(run_plan(messages, fates, lanes));
        prop_assert_eq!(found, expected);
    }
}

fn expected(messages: &[Behaviour]) -> BTreeMap<String, Vec<u64>> {
    let mut expected = BTreeMap::<String, Vec<u64>>::new();
    for (number, message) in (0..).zip(messages) {
        expected.entry(message.key.to_string()).or_default().push(number);
    }
    expected
}

async fn run_plan(
    messages: Vec<Behaviour>,
    fates: BTreeMap<usize, Fate>,
    lanes: u32,
) -> BTreeMap<String, Vec<u64>> {
    let world = World::with_fates(short_pages, Fates::new(fates)).await;
    let published = AtomicUsize::new(0);
    let publish = async || {
        while let Some(message) = messages.get(published.load(Ordering::Relaxed)) {
            // The memory engine commits at the first poll: no life ends between the commit and the count.
            world.publish(&message.key.to_string(), published.fetch_add(1, Ordering::Relaxed) as u64).await;
            if published.load(Ordering::Relaxed).is_multiple_of(3) {
                tokio::time::sleep(2 * MS).await;
            }
        }
        std::future::pending::<()>().await;
    };
    let plan: Plan = Arc::new((messages.clone(), Mutex::default()));
    let behave = async |plan: Plan, message: Message| {
        let Behaviour { failures, how, .. } = plan.0[number(&message) as usize];
        let attempt = {
            let mut attempts = plan.1.lock().unwrap();
            *attempts.entry(number(&message)).and_modify(|attempt| *attempt += 1).or_insert(1)
        };
        match how {
            _ if attempt > failures => Ok(effect(&message)),
            How::Refuses => Err(refused()),
            How::Panics => panic!("as planned"),
            How::Hangs => std::future::pending().await,
        }
    };
    let group = || {
        let group = world.group("g").lanes(lanes).timeout(20 * MS).retry(Retry { max_attempts: 2, ..RETRY });
        group.on_with("order.created", &plan, behave)
    };
    let operate = async || {
        let mut watch = world.shop.watch();
        loop {
            watch.borrow_and_update();
            let list = world.dead_letters().list(None, None, 100).await.unwrap();
            for letter in list.items.iter().filter(|letter| letter.state == DeadLetterState::Dead) {
                // The letter may be gone by now; a refused commit is tried again at the next change.
                let _ = world.dead_letters().replay(&letter.id).await;
            }
            let _ = tokio::time::timeout(50 * MS, watch.changed()).await;
        }
    };
    let over = async || {
        let status = world.group("g").status().await.unwrap();
        world.effect_count().await >= messages.len() && status.parked == 0
    };
    let life = async || {
        tokio::select! {
            () = world.life(&group, &over) => {}
            () = publish() => {}
            () = operate() => {}
        }
    };
    tokio::time::timeout(Duration::from_secs(3600), world.fates.live(life))
        .await
        .expect("the plan comes to an end");
    let mut found = BTreeMap::new();
    for key in expected(&messages).into_keys() {
        let effects = world.effects(&key).await;
        found.insert(key, effects);
    }
    found
}
