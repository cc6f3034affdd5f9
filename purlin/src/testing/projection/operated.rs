//! What an operator does: pause, rebuild, look.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::projection::{ViewMode, ViewState, Views};
use crate::store::{Commit, Field, Query, Revision, Row};

use super::{Group, Harness, LONG, Sum, add, add_many, catch_up, expected, rows_of, run_until, totals};

pub(super) async fn run<H: Harness>(harness: &H) {
    a_paused_view_stays_paused_in_the_next_life(harness).await;
    a_rebuild_goes_on_where_it_was_cut_off_and_takes_the_name(harness).await;
    a_rebuild_takes_no_collection_of_somebody_else(harness).await;
    a_rebuild_can_be_called_off(harness).await;
    an_operator_sees_only_what_there_is(harness).await;
}

async fn a_paused_view_stays_paused_in_the_next_life<H: Harness>(harness: &H) {
    let mut store = harness.open("view_pausing").await;
    add(&store, "a1", 1).await;
    let view = totals(&store);
    let paused = async {
        view.wait_for(store.head(), LONG).await.expect("it runs");
        view.pause().await.expect("it is there");
        let position = add(&store, "a1", 1).await;
        assert!(view.wait_for(position, Duration::from_millis(100)).await.is_err(), "nothing goes on");
    };
    tokio::select! {
        end = view.run(CancellationToken::new()) => panic!("the view ended: {end:?}"),
        () = paused => {}
    }
    if H::DURABLE {
        store.close().await;
        store = harness.open("view_pausing").await;
    }
    let view = totals(&store);
    let resumed = async {
        let head = store.head();
        assert!(
            view.wait_for(head, Duration::from_millis(100)).await.is_err(),
            "it is paused in the next life"
        );
        let status = view.status().await.expect("a status");
        assert_eq!((status.state, status.lag), (ViewState::Paused, 1));
        Views::new(&store).resume("suite_totals").await.expect("it is there");
        view.wait_for(head, LONG).await.expect("it goes on");
    };
    tokio::select! {
        end = view.run(CancellationToken::new()) => panic!("the view ended: {end:?}"),
        () = resumed => {}
    }
    assert_eq!(rows_of(&view).await, expected(&store, 1).await);
}

async fn a_rebuild_goes_on_where_it_was_cut_off_and_takes_the_name<H: Harness>(harness: &H) {
    let store = harness.open("view_rebuild").await;
    add_many(&store, &["a1", "a2", "b1"], 20_000).await;
    catch_up(&totals(&store), &store).await;
    // Somebody has spoilt a row; a rebuild brings it back.
    let spoilt = Sum { sum: -1, ..Sum::default() };
    store.commit(Commit::new().put("a1", &spoilt)).await.expect("a put");
    let view = totals(&store);
    view.rebuild().await.expect("it is there");
    assert!(view.rebuild().await.is_err(), "it is being built already");
    let begun = |status: &crate::projection::ViewStatus| {
        status.rebuild.as_ref().is_some_and(|rebuild| rebuild.position.0 > 0)
    };
    let cut = run_until(&view, &store, begun).await;
    let rebuild = cut.rebuild.expect("it is under way");
    assert_eq!((cut.state, rebuild.version), (ViewState::Rebuilding, 1));
    assert!(rebuild.progress > 0.0 && rebuild.progress <= 1.0, "{rebuild:?}");
    assert_eq!(
        view.row::<Sum>("a1").await.expect("readable"),
        Some(spoilt),
        "the live rows are as they were"
    );
    add(&store, "c1", 1).await;
    let position = rebuild.position;
    let next = totals(&store);
    run_until(&next, &store, |status| {
        let rebuild = status.rebuild.as_ref();
        assert!(rebuild.is_none_or(|rebuild| rebuild.position >= position), "it goes on where it was");
        rebuild.is_none() && status.lag == 0
    })
    .await;
    assert_eq!(rows_of(&next).await, expected(&store, 1).await);
    for collection in [Sum::COLLECTION, Group::COLLECTION] {
        let beside = store.list_records(&format!("{collection}_v1"), Query::all()).await;
        assert!(beside.is_err(), "the rows beside have become the live ones");
    }
}

/// A row of the user's own, in a collection that is called as rows that are built beside the first ones would be.
#[derive(Debug, PartialEq, serde::Serialize, serde::Deserialize)]
struct Mine {
    own: String,
}

impl Row for Mine {
    const COLLECTION: &'static str = "suite_sums_v1";
    const FIELDS: &'static [Field] = &[Field::text("own")];
}

async fn a_rebuild_takes_no_collection_of_somebody_else<H: Harness>(harness: &H) {
    let store = harness.open("view_names").await;
    let mine = || Mine { own: "mine".into() };
    store.define::<Mine>().await.expect("a collection");
    store.commit(Commit::new().put("a", &mine())).await.expect("a put");
    add_many(&store, &["a1", "b1"], 100).await;
    let view = totals(&store);
    catch_up(&view, &store).await;
    for called_off in [true, false] {
        view.rebuild().await.expect("it is there");
        if called_off {
            view.cancel_rebuild().await.expect("nobody has built it yet");
        }
        run_until(&totals(&store), &store, |status| status.rebuild.is_none() && status.lag == 0).await;
        assert_eq!(rows_of(&view).await, expected(&store, 1).await);
        assert_eq!(store.get::<Mine>("a").await.expect("readable"), Some(mine()));
    }
}

async fn a_rebuild_can_be_called_off<H: Harness>(harness: &H) {
    let store = harness.open("view_calling_off").await;
    add_many(&store, &["a1", "b1"], 3000).await;
    let view = totals(&store);
    catch_up(&view, &store).await;
    assert!(view.cancel_rebuild().await.is_err(), "there is none");
    view.rebuild().await.expect("it is there");
    run_until(&view, &store, |status| status.rebuild.as_ref().is_none_or(|rebuild| rebuild.position.0 > 0))
        .await;
    if view.cancel_rebuild().await.is_ok() {
        catch_up(&totals(&store), &store).await;
        let status = view.status().await.expect("a status");
        assert_eq!((status.state, status.rebuild), (ViewState::Live, None));
    }
    add(&store, "a1", 1).await;
    catch_up(&view, &store).await;
    assert_eq!(rows_of(&view).await, expected(&store, 1).await);
}

async fn an_operator_sees_only_what_there_is<H: Harness>(harness: &H) {
    let store = harness.open("view_looking").await;
    let views = Views::new(&store);
    assert_eq!(views.list().await.expect("a list"), [], "nothing was ever run");
    assert!(views.pause("suite_totals").await.is_err());
    assert!(store.list::<Sum>(Query::all()).await.is_err(), "who only looks makes no collections");
    add(&store, "a1", 1).await;
    catch_up(&totals(&store), &store).await;
    let list = views.list().await.expect("a list");
    assert_eq!(list.len(), 1);
    assert_eq!((&*list[0].name, list[0].version, list[0].mode), ("suite_totals", 1, ViewMode::Following));
    assert!(views.show("another").await.is_err());
    let unwritten = store.get_record(Sum::COLLECTION, "none").await.expect("readable");
    assert!(Revision::Absent.admits(unwritten.map(|record| record.revision)));
}
