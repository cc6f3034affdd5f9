//! Processes that die, wherever they are.

use std::time::Duration;

use purlin::message::{Envelope, Fault, FaultKind};
use purlin::projection::{Projection, View, ViewMode};
use purlin::store::{Commit, Expected, Position, StreamId};
use tokio_util::sync::CancellationToken;

use super::{CountEvent, FATES, Open, Sums, add, append, calm, catch_up, memory, sums};
use crate::faulty::Fates;

on_memory! {
    wherever_the_process_dies_every_event_is_folded_once,
    wherever_the_process_dies_what_is_parked_is_in_order,
    wherever_the_process_dies_inline_rows_are_what_the_events_say,
}

async fn wherever_the_process_dies_every_event_is_folded_once(open: Open) {
    for (at, fate) in (1..=5).flat_map(|at| FATES.map(|fate| (at, fate))) {
        let (engine, fates) = (open().await, Fates::new([(at, fate)]));
        let store = calm(&engine);
        for number in 0..700 {
            add(&store, &(number % 5).to_string(), 1).await;
        }
        fates.live(async || catch_up(&View::new(Sums::<1>, &fates.store(&engine))).await).await;
        let expected = (0..5).map(|key| (key.to_string(), (140, 140))).collect();
        assert_eq!(sums(&store).await, expected, "{fate:?} at commit {at}");
    }
}

async fn wherever_the_process_dies_what_is_parked_is_in_order(open: Open) {
    for (at, fate) in (1..=7).flat_map(|at| FATES.map(|fate| (at, fate))) {
        let (engine, fates) = (open().await, Fates::new([(at, fate)]));
        let store = calm(&engine);
        for number in 0..400 {
            add(&store, if number % 2 == 0 { "a" } else { "b" }, 1).await;
            if number == 200 {
                append(&store, "a", CountEvent::Broken).await;
            }
        }
        let life = async || {
            let view = View::new(Sums::<1>, &fates.store(&engine));
            catch_up(&view).await;
            view.parked(None, 1000).await.unwrap().items
        };
        let parked = fates.live(life).await;
        let waiting: Vec<_> = parked.iter().map(|item| (&*item.key, item.position.0)).collect();
        let expected = (202..=400).step_by(2);
        assert!(parked[0].reason.as_deref().unwrap().contains("cannot fold this"), "{fate:?} at {at}");
        assert_eq!(waiting, expected.map(|at| ("a", at)).collect::<Vec<_>>(), "{fate:?} at {at}");
        assert_eq!(sums(&store).await, [("a".into(), (101, 101)), ("b".into(), (200, 200))].into());
        // Dropped by one who may die over it, too: what waits flows, once.
        let fates = Fates::new([(at, fate)]);
        let life = async || {
            let view = View::new(Sums::<1>, &fates.store(&engine));
            while let Err(error) = view.drop_parked(Position(202)).await
                && error.kind() != FaultKind::NotFound
            {}
            catch_up(&view).await;
            while view.status().await.unwrap().parked > 0 {
                catch_up_again(&view).await;
            }
        };
        fates.live(life).await;
        assert_eq!(sums(&store).await, [("a".into(), (200, 200)), ("b".into(), (200, 200))].into());
    }
}

/// Runs a view for a while, although it may have seen the whole log.
async fn catch_up_again<P: Projection>(view: &View<P>) {
    tokio::select! {
        end = view.run(CancellationToken::new()) => panic!("the view ended: {end:?}"),
        () = tokio::time::sleep(Duration::from_secs(1)) => {}
    }
}

async fn wherever_the_process_dies_inline_rows_are_what_the_events_say(open: Open) {
    for (at, fate) in (1..=14).flat_map(|at| FATES.map(|fate| (at, fate))) {
        let (engine, fates) = (open().await, Fates::new([(at, fate)]));
        let store = calm(&engine);
        for _ in 0..3 {
            add(&store, "a", 1).await;
        }
        let stream = StreamId::new("count", "a").unwrap();
        let life = async || {
            let view = View::new(Sums::<1>, &fates.store(&engine));
            let inline = view.inline();
            let write = async {
                loop {
                    let version = store.read_stream(&stream, 1, 100).await.unwrap().len() as u64;
                    if version >= 12 {
                        break;
                    }
                    let event = Envelope::new("count", &CountEvent::Added { amount: 1 }).unwrap();
                    let expected = Expected::Version(version);
                    // Refused, or too late: the stream says what to do next.
                    let _ = inline.commit(Commit::new().append(stream.clone(), expected, [event])).await;
                    if view.status().await.unwrap().mode == ViewMode::Inline {
                        let read = store.read_stream(&stream, 1, 100).await.unwrap().len() as u64;
                        assert_eq!(view.get("a").await.unwrap().unwrap().events, read, "{fate:?} at {at}");
                    }
                    tokio::task::yield_now().await;
                }
            };
            tokio::select! {
                end = view.run(CancellationToken::new()) => panic!("the view ended: {end:?}"),
                () = write => {}
            }
        };
        fates.live(life).await;
        catch_up(&View::new(Sums::<1>, &store)).await;
        assert_eq!(sums(&store).await["a"], (12, 12), "{fate:?} at commit {at}");
    }
}
