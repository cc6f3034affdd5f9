//! Rows of a new version, beside those of the old.

use std::time::Duration;

use purlin::projection::{View, ViewError, ViewState};
use purlin::store::{Commit, Position, Query};
use tokio_util::sync::CancellationToken;

use super::{FATES, Open, SumRow, Sums, add, calm, catch_up, memory, short_pages, sums};
use crate::faulty::{Fate, Fates};

on_memory! {
    a_new_version_is_built_beside_the_old_and_takes_its_name,
    wherever_a_rebuild_dies_the_new_rows_are_whole,
    a_new_version_takes_the_name_only_when_it_has_seen_the_whole_log,
    a_version_that_was_never_finished_is_cleared_away,
    an_older_program_leaves_newer_rows_alone,
    wherever_the_process_dies_a_rebuild_ends_and_the_live_rows_were_followed,
}

async fn a_new_version_is_built_beside_the_old_and_takes_its_name(open: Open) {
    let (engine, fates) = (open().await, Fates::new([(4, Fate::DeadBehind)]));
    let store = calm(&engine);
    for number in 0..600 {
        add(&store, &(number % 2).to_string(), 1).await;
    }
    catch_up(&View::new(Sums::<1>, &store)).await;
    // One commit that says who builds, one that begins, one of rows, and one that swaps, behind which the process dies.
    let newer = View::new(Sums::<2>, &fates.store(&engine));
    tokio::select! {
        end = newer.run(CancellationToken::new()) => panic!("the view ended: {end:?}"),
        // The swap has happened; what the view has not said yet it cannot be asked for.
        () = fates.died() => assert_eq!(newer.position(), Position::START),
    }
    fates.live(async || catch_up(&View::new(Sums::<2>, &fates.store(&engine))).await).await;
    assert_eq!(sums(&store).await, [("0".into(), (600, 300)), ("1".into(), (600, 300))].into());
    let gone = store.list_records("sums_view_v1", Query::all()).await;
    assert!(gone.is_err(), "the collection it was built in has become the live one");
    add(&store, "0", 1).await;
    catch_up(&View::new(Sums::<2>, &store)).await;
    assert_eq!(sums(&store).await["0"], (602, 301));
}

async fn wherever_a_rebuild_dies_the_new_rows_are_whole(open: Open) {
    for (at, fate) in (1..=6).flat_map(|at| FATES.map(|fate| (at, fate))) {
        let (engine, fates) = (open().await, Fates::new([(at, fate)]));
        let store = calm(&engine);
        for number in 0..600 {
            add(&store, &(number % 2).to_string(), 1).await;
        }
        catch_up(&View::new(Sums::<1>, &store)).await;
        fates.live(async || catch_up(&View::new(Sums::<2>, &fates.store(&engine))).await).await;
        let expected = [("0".into(), (600, 300)), ("1".into(), (600, 300))].into();
        assert_eq!(sums(&store).await, expected, "{fate:?} at commit {at}");
    }
}

async fn a_new_version_takes_the_name_only_when_it_has_seen_the_whole_log(_: Open) {
    // The fourth commit is one of rows yet: a page that is short is not the end.
    let (engine, fates) = (short_pages().await, Fates::new([(4, Fate::DeadBefore)]));
    let store = calm(&engine);
    for _ in 0..30 {
        add(&store, "a", 1).await;
    }
    catch_up(&View::new(Sums::<1>, &store)).await;
    let newer = View::new(Sums::<2>, &fates.store(&engine));
    tokio::select! {
        end = newer.run(CancellationToken::new()) => panic!("the view ended: {end:?}"),
        () = fates.died() => assert_eq!(sums(&store).await["a"], (30, 30), "the old rows are the live ones"),
    }
    fates.live(async || catch_up(&View::new(Sums::<2>, &fates.store(&engine))).await).await;
    assert_eq!(sums(&store).await["a"], (60, 30));
}

async fn a_version_that_was_never_finished_is_cleared_away(open: Open) {
    let (engine, fates) = (open().await, Fates::new([(4, Fate::DeadBefore)]));
    let store = calm(&engine);
    for _ in 0..2000 {
        add(&store, "a", 1).await;
    }
    catch_up(&View::new(Sums::<1>, &store)).await;
    let unfinished = View::new(Sums::<2>, &fates.store(&engine));
    tokio::select! {
        end = unfinished.run(CancellationToken::new()) => panic!("the view ended: {end:?}"),
        () = fates.died() => {}
    }
    let status = View::new(Sums::<2>, &store).status().await.unwrap();
    let position = status.rebuild.map(|rebuild| rebuild.position);
    assert_eq!((status.state, position), (ViewState::Rebuilding, Some(Position(1024))));
    assert_eq!(sums(&store).await["a"], (2000, 2000), "the live rows are those of the old version");
    catch_up(&View::new(Sums::<3>, &store)).await;
    assert_eq!(sums(&store).await["a"], (6000, 2000));
    for beside in ["sums_view_v1", "sums_view_v2"] {
        assert!(store.list_records(beside, Query::all()).await.is_err(), "what was begun is gone");
    }
}

async fn an_older_program_leaves_newer_rows_alone(open: Open) {
    let store = calm(&open().await);
    add(&store, "a", 1).await;
    catch_up(&View::new(Sums::<2>, &store)).await;
    let end = View::new(Sums::<1>, &store).run(CancellationToken::new()).await;
    assert!(matches!(end, Err(ViewError::Newer { stored: 2, known: 1, .. })), "{end:?}");
    assert_eq!(sums(&store).await["a"], (2, 1));
}

async fn wherever_the_process_dies_a_rebuild_ends_and_the_live_rows_were_followed(open: Open) {
    for (at, fate) in (1..=8).flat_map(|at| FATES.map(|fate| (at, fate))) {
        let (engine, fates) = (open().await, Fates::new([(at, fate)]));
        let store = calm(&engine);
        for number in 0..3000 {
            add(&store, &(number % 2).to_string(), 1).await;
        }
        let view = View::new(Sums::<1>, &store);
        catch_up(&view).await;
        store.commit(Commit::new().put("0", &SumRow::default())).await.unwrap();
        view.rebuild().await.unwrap();
        let written = add(&store, "1", 1).await;
        let life = async || {
            let view = View::new(Sums::<1>, &fates.store(&engine));
            let done = async {
                view.wait_for(written, Duration::from_secs(600)).await.unwrap();
                while view.status().await.unwrap().rebuild.is_some() {
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
            };
            tokio::select! {
                end = view.run(CancellationToken::new()) => panic!("the view ended: {end:?}"),
                () = done => {}
            }
        };
        fates.live(life).await;
        let expected = [("0".into(), (1500, 1500)), ("1".into(), (1501, 1501))].into();
        assert_eq!(sums(&store).await, expected, "{fate:?} at commit {at}");
    }
}
