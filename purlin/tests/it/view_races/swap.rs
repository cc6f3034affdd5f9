//! Rows that were built and take the live names.

use std::sync::{Arc, Mutex};

use purlin::store::{Position, Row, Store};
use tokio_util::sync::CancellationToken;

use super::{Counted, LONG, Rate, Sum, append, engine, newer, run, run_for, strict, sum};
use crate::faulty::{Fate, Fates};

#[tokio::test(start_paused = true)]
async fn rows_that_take_the_live_name_are_as_far_as_those_that_had_it() {
    let (engine, store) = engine();
    append(&store, "a", Counted::Added(1)).await;
    run(&strict(&store)).await;
    let fates = Fates::new([]);
    let seen = Arc::new(Mutex::new(Vec::new()));
    for commit in 3..=8 {
        let (fates, store, seen) = (fates.clone(), store.clone(), Arc::clone(&seen));
        fates.clone().before(commit, async move {
            let status = strict(&store).status().await.expect("a status");
            seen.lock().expect("unbroken").push(status.position);
            if commit == 3 {
                // When the new rows have seen all there was, the old ones are brought further.
                fates.before_get("purlin_projections", "races", async move {
                    append(&store, "a", Counted::Added(1)).await;
                    run_for(LONG / 4, &strict(&store)).await;
                });
            }
        });
    }
    let built = newer(&fates.store(&engine));
    run(&built).await;
    assert_eq!(sum(&built, "a").await, (4, 2));
    let seen = seen.lock().expect("unbroken").clone();
    assert!(seen.is_sorted() && seen.ends_with(&[Position(2)]), "{seen:?}");
}

#[tokio::test(start_paused = true)]
async fn a_paused_view_does_not_finish_a_swap() {
    let (engine, store) = engine();
    append(&store, "a", Counted::Added(1)).await;
    run(&strict(&store)).await;
    // It dies when the swap is announced, and not yet noted as done.
    let fates = Fates::new([(4, Fate::DeadBehind)]);
    let building = newer(&fates.store(&engine));
    tokio::select! {
        end = building.run(CancellationToken::new()) => panic!("the view ended: {end:?}"),
        () = fates.died() => {}
    }
    let view = newer(&store);
    view.pause().await.expect("it is there");
    run(&view).await;
    assert_eq!(sum(&view, "a").await, (1, 1), "the rows are as they were");
    view.resume().await.expect("it is there");
    run(&view).await;
    assert_eq!(sum(&view, "a").await, (2, 1));
}

/// Gives the sums that were built their live name, and them alone, as older programs did first.
async fn swap_sums(store: &Store) {
    let there = store.collections().await.expect("readable");
    let built = there.iter().find(|there| there.name.starts_with("races_sums_")).expect("they are built");
    store.swap(&built.name, Sum::COLLECTION).await.expect("a swap");
}

/// Counts at a rate, by an earlier version of the program.
async fn counted_at_a_rate(store: &Store) {
    append(store, "rate", Counted::Rated(10)).await;
    append(store, "a", Counted::Added(1)).await;
    run(&strict(store)).await;
}

async fn all_is_live(store: &Store) {
    let view = newer(store);
    run(&view).await;
    let rate = view.row::<Rate>("all").await.expect("readable");
    assert_eq!((sum(&view, "a").await, rate), ((20, 1), Some(Rate { rate: 10 })));
    let there = store.collections().await.expect("readable");
    assert_eq!(there.iter().filter(|there| there.name.starts_with("races_")).count(), 2, "{there:?}");
}

#[tokio::test(start_paused = true)]
async fn rows_of_which_an_older_program_swaps_some_meanwhile_are_all_live() {
    let (engine, store) = engine();
    counted_at_a_rate(&store).await;
    let (fates, other) = (Fates::new([]), store.clone());
    fates.before_swap(async move { swap_sums(&other).await });
    run(&newer(&fates.store(&engine))).await;
    all_is_live(&store).await;
}

#[tokio::test(start_paused = true)]
async fn rows_whose_process_died_before_they_had_their_names_get_them_in_the_next_life() {
    for some_are_swapped in [false, true] {
        let (engine, store) = engine();
        counted_at_a_rate(&store).await;
        let (fates, (tell, told)) = (Fates::new([]), tokio::sync::oneshot::channel());
        fates.before_swap(async move {
            tell.send(()).expect("it is waited for");
            std::future::pending::<()>().await;
        });
        tokio::select! {
            end = newer(&fates.store(&engine)).run(CancellationToken::new()) => panic!("the view ended: {end:?}"),
            told = told => told.expect("it comes to the swap"),
        }
        if some_are_swapped {
            swap_sums(&store).await;
        }
        all_is_live(&store).await;
    }
}
