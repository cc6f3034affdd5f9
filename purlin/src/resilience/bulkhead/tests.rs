use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::time::Instant;

use crate::resilience::{Criticality, criticality};

use super::*;

const SECOND: Duration = Duration::from_secs(1);

fn bulkhead(max_under_way: usize, max_waiting: usize) -> Bulkhead {
    Bulkhead::new(config(max_under_way, max_waiting))
}

fn config(max_under_way: usize, max_waiting: usize) -> BulkheadConfig {
    BulkheadConfig { max_under_way, max_waiting, max_wait: SECOND, adaptive: None }
}

fn is_idle(bulkhead: &Bulkhead) -> bool {
    let status = bulkhead.status();
    (status.under_way, status.waiting) == (0, 0)
}

#[tokio::test(start_paused = true)]
async fn one_enters_when_another_leaves() {
    let bulkhead = bulkhead(1, 1);
    let first = bulkhead.enter().await.unwrap();
    let second = async { bulkhead.enter().await.is_ok() };
    let leave = async {
        tokio::time::sleep(SECOND / 2).await;
        assert_eq!(bulkhead.free(), 0);
        drop(first);
    };
    assert!(tokio::join!(second, leave).0);
    assert_eq!(bulkhead.free(), 1);
}

#[tokio::test(start_paused = true)]
async fn who_would_wait_behind_too_many_or_for_too_long_is_refused() {
    let (bulkhead, start) = (bulkhead(1, 1), Instant::now());
    let _inside = bulkhead.enter().await.unwrap();
    let waits = async { (bulkhead.enter().await.unwrap_err(), start.elapsed()) };
    let refused = async { (bulkhead.enter().await.unwrap_err(), start.elapsed()) };
    assert_eq!(tokio::join!(waits, refused), ((Full, SECOND), (Full, Duration::ZERO)));
    assert_eq!(bulkhead.status().shed[2], (Criticality::Critical, 2));
}

#[tokio::test(start_paused = true)]
async fn who_waited_first_enters_first_and_nobody_overtakes() {
    let bulkhead = bulkhead(1, 10);
    let order = std::cell::RefCell::new(Vec::new());
    let inside = bulkhead.enter().await.unwrap();
    let one = async |number: u32| {
        tokio::time::sleep(Duration::from_millis(number.into())).await;
        let place = bulkhead.enter().await.unwrap();
        order.borrow_mut().push(number);
        tokio::time::sleep(Duration::from_millis(10)).await;
        drop(place);
    };
    let leave = async {
        tokio::time::sleep(Duration::from_millis(3)).await;
        drop(inside);
    };
    tokio::join!(one(1), one(2), one(3), one(12), leave);
    assert_eq!(*order.borrow(), [1, 2, 3, 12]);
}

#[tokio::test(start_paused = true)]
async fn who_gives_up_waiting_leaves_the_queue() {
    let bulkhead = bulkhead(1, 1);
    let inside = bulkhead.enter().await.unwrap();
    for _ in 0..10 {
        assert!(tokio::time::timeout(SECOND / 10, bulkhead.enter()).await.is_err());
    }
    drop(inside);
    assert!(bulkhead.enter().await.is_ok());
    assert!(is_idle(&bulkhead));
}

#[tokio::test(start_paused = true)]
async fn one_who_is_called_and_does_not_come_passes_the_place_on() {
    let bulkhead = bulkhead(1, 2);
    let inside = bulkhead.enter().await.unwrap();
    let mut first = Box::pin(bulkhead.enter());
    let mut second = Box::pin(bulkhead.enter());
    assert!(futures_util::poll!(&mut first).is_pending() && futures_util::poll!(&mut second).is_pending());
    drop(inside);
    drop(first);
    assert!(matches!(futures_util::poll!(&mut second), std::task::Poll::Ready(Ok(_))));
}

#[tokio::test]
async fn lower_classes_are_refused_first() {
    let bulkhead = bulkhead(8, 0);
    let mut inside = Vec::new();
    for class in Criticality::ALL {
        while let Ok(place) = criticality::within(class, bulkhead.enter()).await {
            inside.push(place);
        }
        assert_eq!(inside.len(), class.share(8), "{class}");
    }
    let shed = bulkhead.status().shed.map(|(_, shed)| shed);
    assert_eq!(shed, [1, 1, 1]);
}

/// Polls once; whether it is inside, and then its place.
macro_rules! poll {
    ($enters:expr) => {
        match futures_util::poll!(&mut $enters) {
            std::task::Poll::Ready(place) => Some(place.unwrap()),
            std::task::Poll::Pending => None,
        }
    };
}

#[tokio::test(start_paused = true)]
async fn who_comes_between_leaving_and_waking_takes_nobodys_place() {
    let bulkhead = bulkhead(1, 3);
    let inside = bulkhead.enter().await.unwrap();
    let (mut first, mut second) = (Box::pin(bulkhead.enter()), Box::pin(bulkhead.enter()));
    assert!(poll!(first).is_none() && poll!(second).is_none());
    drop(inside);
    let mut late = Box::pin(bulkhead.enter());
    assert!(poll!(late).is_none(), "the place is the first one's, who has not been woken yet");
    assert!(poll!(second).is_none());
    let first = poll!(first).expect("it was handed over");
    drop(first);
    assert!(poll!(late).is_none());
    assert!(poll!(second).is_some() && poll!(late).is_some());
    drop(late);
    assert!(is_idle(&bulkhead));
}

#[tokio::test]
async fn shares_hold_of_the_places_and_of_the_queue_each() {
    let bulkhead = bulkhead(8, 8);
    let (mut inside, mut waiting) = (Vec::new(), Vec::new());
    for class in Criticality::ALL {
        loop {
            let mut enters = Box::pin(criticality::within(class, bulkhead.enter()));
            match futures_util::poll!(&mut enters) {
                std::task::Poll::Ready(Ok(place)) => inside.push(place),
                std::task::Poll::Ready(Err(Full)) => break,
                std::task::Poll::Pending => waiting.push(enters),
            }
        }
        assert_eq!((inside.len(), waiting.len()), (class.share(8), class.share(8)), "{class}");
    }
}

#[tokio::test]
async fn the_highest_class_that_waits_is_called_first_and_the_lower_never_beyond_its_share() {
    let bulkhead = bulkhead(2, 8);
    let enters = |class| Box::pin(criticality::within(class, bulkhead.enter()));
    let (mut one, mut other) = (enters(Criticality::Critical), enters(Criticality::Critical));
    let (one, other) = (poll!(one).unwrap(), poll!(other).unwrap());
    let (mut low, mut middle) = (enters(Criticality::Sheddable), enters(Criticality::SheddablePlus));
    let mut high = enters(Criticality::Critical);
    assert!(poll!(low).is_none() && poll!(middle).is_none() && poll!(high).is_none());
    drop(one);
    assert!(poll!(low).is_none() && poll!(middle).is_none(), "the last comes first");
    let high = poll!(high).unwrap();
    drop(other);
    assert!(poll!(low).is_none());
    let middle = poll!(middle).unwrap();
    drop(middle);
    assert!(poll!(low).is_none(), "half of two places is one, which is taken");
    let mut newcomer = enters(Criticality::Critical);
    assert!(poll!(newcomer).is_some(), "who may take it does not wait behind one who may not");
    drop(high);
    drop(newcomer);
    assert!(poll!(low).is_some());
}

#[tokio::test(start_paused = true)]
async fn other_terms_hold_at_once_and_lose_nobody() {
    let bulkhead = bulkhead(1, 2);
    let inside = bulkhead.enter().await.unwrap();
    let waits = async { bulkhead.enter().await.map(drop) };
    let grows = async {
        tokio::task::yield_now().await;
        bulkhead.reconfigure(config(2, 0));
    };
    assert_eq!(tokio::join!(waits, grows).0, Ok(()));
    bulkhead.reconfigure(config(1, 0));
    assert_eq!(bulkhead.enter().await.unwrap_err(), Full, "the one inside still counts");
    drop(inside);
    assert!(bulkhead.enter().await.is_ok() && is_idle(&bulkhead));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn there_are_never_more_inside_than_places_and_all_come_in() {
    let (bulkhead, inside, done) = (bulkhead(3, 64), AtomicUsize::new(0), AtomicUsize::new(0));
    let shared = std::sync::Arc::new((bulkhead, inside, done));
    let mut callers = tokio::task::JoinSet::new();
    for _ in 0..32 {
        let shared = std::sync::Arc::clone(&shared);
        callers.spawn(async move {
            let (bulkhead, inside, done) = &*shared;
            for round in 0..200 {
                if round % 7 == 0 {
                    // Some give up at once, waiting or not.
                    let mut gives_up = Box::pin(bulkhead.enter());
                    let _ = futures_util::poll!(&mut gives_up);
                    continue;
                }
                let place = bulkhead.enter().await.unwrap();
                assert!(inside.fetch_add(1, Ordering::SeqCst) < 3);
                tokio::task::yield_now().await;
                inside.fetch_sub(1, Ordering::SeqCst);
                drop(place);
                done.fetch_add(1, Ordering::Relaxed);
            }
        });
    }
    callers.join_all().await;
    assert_eq!(shared.2.load(Ordering::Relaxed), 32 * 171);
    assert!(is_idle(&shared.0));
}
