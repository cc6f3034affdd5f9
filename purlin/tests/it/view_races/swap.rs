//! Rows that were built and take the live names.

use std::sync::{Arc, Mutex};

use purlin::message::{Clock, Timestamp};
use purlin::projection::{Fold, RowSet, Unfit, View, ViewState, Views};
use purlin::store::memory::Memory;
use purlin::store::{Collection, Engine, Position, Recorded, Row, Store};

use super::{
    Counted, LONG, Rate, Sum, Tally, append, engine, newer, run, run_for, strict, sum, until_it_dies,
};
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
async fn a_view_that_is_paused_right_before_its_rows_swap_changes_none() {
    let (engine, store) = engine();
    append(&store, "a", Counted::Added(1)).await;
    run(&strict(&store)).await;
    let (fates, operator) = (Fates::new([]), Views::new(&store));
    fates.before_swap(async move { operator.pause("races").await.expect("it is there") });
    let view = newer(&fates.store(&engine));
    run(&view).await;
    assert_eq!(sum(&view, "a").await, (1, 1), "the rows are as they were");
    let status = view.status().await.expect("a status");
    assert_eq!((status.state, status.position), (ViewState::Paused, Position(1)));
    view.resume().await.expect("it is there");
    run(&view).await;
    assert_eq!(sum(&view, "a").await, (2, 1));
}

/// Counts at a rate, by an earlier version of the program.
async fn counted_at_a_rate(store: &Store) {
    append(store, "rate", Counted::Rated(10)).await;
    append(store, "a", Counted::Added(1)).await;
    run(&strict(store)).await;
}

/// The collections of the view, those beside the live ones among them.
async fn collections(store: &Store) -> Vec<String> {
    let there = store.collections().await.expect("readable").into_iter();
    there.map(|there| there.name.into_owned()).filter(|name| name.starts_with("races_")).collect()
}

#[tokio::test(start_paused = true)]
async fn rows_whose_process_dies_around_the_swap_are_all_old_or_all_new_and_new_in_the_next_life() {
    let mut seen = Vec::new();
    for fate in [Fate::DeadBefore, Fate::DeadBehind] {
        let (engine, store) = engine();
        counted_at_a_rate(&store).await;
        let fates = Fates::new([]);
        fates.at_swap(fate);
        let building = newer(&fates.store(&engine));
        until_it_dies(&building, &fates).await;
        let view = newer(&store);
        seen.push(sum(&view, "a").await);
        run(&view).await;
        let rate = view.row::<Rate>("all").await.expect("readable");
        assert_eq!((sum(&view, "a").await, rate), ((20, 1), Some(Rate { rate: 10 })));
        assert_eq!(collections(&store).await, ["races_rates", "races_sums"], "nothing lies about");
    }
    assert_eq!(seen, [(10, 1), (20, 1)]);
}

#[tokio::test(start_paused = true)]
async fn who_was_away_before_a_swap_gives_nothing_a_name_that_others_have_built_meanwhile() {
    let (engine, store) = engine();
    counted_at_a_rate(&store).await;
    let (fates, other) = (Fates::new([]), store.clone());
    fates.before_swap(async move {
        // What he has built is called off, built anew by another, and counted on.
        let view = newer(&other);
        run_for(LONG / 8, &view).await;
        append(&other, "a", Counted::Added(1)).await;
        run_for(LONG / 8, &view).await;
        view.rebuild().await.expect("it is there");
        run_for(LONG / 8, &view).await;
    });
    let view = newer(&fates.store(&engine));
    run(&view).await;
    assert_eq!(sum(&view, "a").await, (40, 2));
    assert_eq!(collections(&store).await, ["races_rates", "races_sums"], "nothing lies about");
}

/// A version that counts in one more collection.
struct Wide;

impl Fold for Wide {
    const NAME: &'static str = "races";
    const VERSION: u32 = 2;
    const CATEGORIES: &'static [&'static str] = &["count"];

    fn collections() -> Vec<Collection> {
        let wide = Sum::collection().named("races_wide");
        vec![Sum::collection(), Rate::collection(), wide]
    }

    fn apply(&self, _event: &Recorded, _rows: &mut RowSet<'_>) -> Result<(), Unfit> {
        Ok(())
    }
}

/// It is built, and its process dies before it is live.
async fn wide_is_cut_off(engine: &Arc<dyn Engine>) {
    let fates = Fates::new([]);
    fates.at_swap(Fate::DeadBefore);
    until_it_dies(&View::new(Wide, &fates.store(engine)), &fates).await;
}

#[tokio::test(start_paused = true)]
async fn a_build_that_a_later_version_gives_up_leaves_none_of_its_collections() {
    let (engine, store) = engine();
    counted_at_a_rate(&store).await;
    wide_is_cut_off(&engine).await;
    assert!(collections(&store).await.contains(&"races_wide_v1".to_owned()));
    run(&View::new(Tally::<3> { forgiving: false }, &store)).await;
    assert_eq!(
        collections(&store).await,
        ["races_rates", "races_sums", "races_wide"],
        "what was built beside is gone"
    );
}

#[tokio::test(start_paused = true)]
async fn a_build_is_begun_anew_by_a_program_of_the_same_version_that_has_other_collections() {
    let (clock, hands) = Clock::manual(Timestamp::UNIX_EPOCH);
    let engine: Arc<dyn Engine> = Arc::new(Memory::with_clock(clock));
    let store = Fates::new([]).store(&engine);
    counted_at_a_rate(&store).await;
    wide_is_cut_off(&engine).await;
    let view = newer(&store);
    run(&view).await;
    assert_eq!(sum(&view, "a").await, (10, 1), "the other may be at it");
    hands.advance(LONG);
    run(&view).await;
    assert_eq!(sum(&view, "a").await, (20, 1), "what the other has built has no rows");
    assert_eq!(collections(&store).await, ["races_rates", "races_sums", "races_wide"]);
}

#[tokio::test(start_paused = true)]
async fn two_versions_that_are_built_at_the_same_time_leave_each_other_alone() {
    let (engine, store) = engine();
    counted_at_a_rate(&store).await;
    let (second, third) = (Fates::new([(3, Fate::DeadBehind)]), Fates::new([]));
    let cut_off = newer(&second.store(&engine));
    until_it_dies(&cut_off, &second).await;
    let (other, seen) = (store.clone(), Arc::new(Mutex::new(Vec::new())));
    third.before_swap({
        let seen = Arc::clone(&seen);
        async move {
            *seen.lock().expect("unbroken") = collections(&other).await;
            run_for(LONG / 4, &newer(&other)).await;
        }
    });
    let view = View::new(Tally::<3> { forgiving: false }, &third.store(&engine));
    run(&view).await;
    let seen = seen.lock().expect("unbroken").clone();
    assert!(
        seen.contains(&"races_sums_v1".to_owned()) && seen.contains(&"races_sums_v2".to_owned()),
        "{seen:?}"
    );
    assert_eq!(sum(&view, "a").await, (30, 1));
    assert_eq!(collections(&store).await, ["races_rates", "races_sums"], "nothing lies about");
}

#[tokio::test(start_paused = true)]
async fn who_was_away_makes_no_collections_for_a_build_that_was_called_off() {
    for commit in 1..=4 {
        let (engine, store) = engine();
        counted_at_a_rate(&store).await;
        strict(&store).rebuild().await.expect("it is there");
        let (away, other) = (Fates::new([]), store.clone());
        away.before(commit, async move {
            let view = strict(&other);
            // It may have been done before.
            let _ = view.cancel_rebuild().await;
            run_for(LONG / 4, &view).await;
        });
        let view = strict(&away.store(&engine));
        run(&view).await;
        let status = view.status().await.expect("a status");
        assert_eq!((status.rebuild, status.state), (None, ViewState::Live), "before commit {commit}");
        assert_eq!(collections(&store).await, ["races_rates", "races_sums"], "before commit {commit}");
    }
}

#[tokio::test(start_paused = true)]
async fn who_reads_rows_that_another_life_swaps_meanwhile_goes_on_with_the_live_ones() {
    let (engine, store) = engine();
    counted_at_a_rate(&store).await;
    for _ in 0..2000 {
        append(&store, "a", Counted::Added(1)).await;
    }
    // Half of them are built; whoever goes on has to read the rows that are there.
    let unfinished = Fates::new([(3, Fate::DeadBehind)]);
    let cut_off = newer(&unfinished.store(&engine));
    until_it_dies(&cut_off, &unfinished).await;
    let (slow, other) = (Fates::new([]), store.clone());
    slow.before_get("races_sums_v1", "a", async move { run_for(LONG / 4, &newer(&other)).await });
    let view = newer(&slow.store(&engine));
    run(&view).await;
    assert_eq!((sum(&view, "a").await, view.lag()), ((20 * 2001, 2001), 0));
}
