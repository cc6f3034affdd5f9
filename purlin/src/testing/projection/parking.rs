//! Events that do not fit.

use tokio_util::sync::CancellationToken;

use crate::projection::{ParkedState, View, ViewError, ViewState, Views};

use crate::store::Position;

use super::{Counted, Harness, Sum, Totals, add, append, catch_up, rows_of, run_until, totals};

pub(super) async fn run<H: Harness>(harness: &H) {
    an_event_that_does_not_fit_holds_up_its_key_alone(harness).await;
    what_is_dropped_is_left_out_and_the_rest_follows(harness).await;
    too_much_that_does_not_fit_stops_the_view(harness).await;
}

async fn an_event_that_does_not_fit_holds_up_its_key_alone<H: Harness>(harness: &H) {
    let store = harness.open("view_parking").await;
    let view = totals(&store);
    add(&store, "a1", 1).await;
    append(&store, "a1", Counted::Odd).await;
    add(&store, "a1", 10).await;
    add(&store, "a2", 5).await;
    catch_up(&view, &store).await;
    add(&store, "a1", 100).await;
    add(&store, "b1", 7).await;
    catch_up(&view, &store).await;
    let row = view.row::<Sum>("a1").await.expect("readable").expect("there");
    assert_eq!((row.sum, row.events), (1, 1), "as before the event that does not fit");
    let (_, groups) = rows_of(&view).await;
    assert_eq!((groups["a"], groups["b"]), ((6, 2), (7, 1)), "other keys flow");
    let status = view.status().await.expect("a status");
    assert_eq!((status.parked, status.stale_keys, status.state), (3, 1, ViewState::Live));
    let parked = view.parked(None, 2).await.expect("a page");
    let more = view.parked(parked.next.as_deref(), 2).await.expect("a page");
    let of = |item: &crate::projection::ParkedItem| (item.position.0, item.state, item.reason.clone());
    assert_eq!(
        parked.items.iter().chain(&more.items).map(of).collect::<Vec<_>>(),
        [
            (2, ParkedState::Parked, Some("too odd".into())),
            (3, ParkedState::Waiting, None),
            (5, ParkedState::Waiting, None)
        ]
    );
    view.retry("a1").await.expect("there is such a key");
    let tried = async {
        let mut watch = store.watch();
        loop {
            watch.borrow_and_update();
            let first = view.parked(None, 1).await.expect("a page").items.remove(0);
            if first.attempts >= 2 && first.state == ParkedState::Parked {
                return first;
            }
            watch.changed().await.expect("the store is open");
        }
    };
    let tried = tokio::select! {
        end = view.run(CancellationToken::new()) => panic!("the view ended: {end:?}"),
        tried = tried => tried,
    };
    assert_eq!((tried.position.0, tried.reason.as_deref()), (2, Some("too odd")), "it does not fit yet");
    // A corrected program tries again by itself, and in order.
    let corrected = View::new(Totals::<1> { forgiving: true }, &store);
    run_until(&corrected, &store, |status| status.parked == 0).await;
    let row = corrected.row::<Sum>("a1").await.expect("readable").expect("there");
    assert_eq!((row.sum, row.events), (111, 4));
    assert!(corrected.parked(None, 10).await.expect("a page").items.is_empty());
    assert!(corrected.retry("a1").await.is_err(), "there is nothing to be tried");
}

async fn what_is_dropped_is_left_out_and_the_rest_follows<H: Harness>(harness: &H) {
    let store = harness.open("view_dropping").await;
    append(&store, "a1", Counted::Odd).await;
    add(&store, "a1", 1).await;
    append(&store, "a1", Counted::Odd).await;
    add(&store, "a1", 1).await;
    let (view, views) = (totals(&store), Views::new(&store));
    catch_up(&view, &store).await;
    views.drop("suite_totals", Position(1)).await.expect("there is such a key");
    run_until(&view, &store, |status| status.parked == 2).await;
    assert_eq!(view.row::<Sum>("a1").await.expect("readable").expect("there").sum, 1);
    views.drop("suite_totals", Position(1)).await.expect_err("it is dropped already");
    views.drop("suite_totals", Position(4)).await.expect("it waits");
    views.drop("suite_totals", Position(3)).await.expect("it is parked");
    run_until(&view, &store, |status| status.parked == 0).await;
    let row = view.row::<Sum>("a1").await.expect("readable").expect("there");
    assert_eq!((row.sum, row.events), (1, 1), "all but one of its events were dropped");
}

async fn too_much_that_does_not_fit_stops_the_view<H: Harness>(harness: &H) {
    let store = harness.open("view_stopping").await;
    add(&store, "b1", 1).await;
    for key in ["a1", "a2", "a3"] {
        append(&store, key, Counted::Odd).await;
    }
    add(&store, "b1", 1).await;
    let view = totals(&store).park_at_most(2);
    let end = view.run(CancellationToken::new()).await;
    let Err(ViewError::Misfit { misfit, .. }) = end else { panic!("the view ended: {end:?}") };
    assert_eq!((misfit.position.0, &*misfit.reason), (4, "too odd"));
    let status = view.status().await.expect("a status");
    assert_eq!((status.state, status.parked, status.stopped), (ViewState::Stopped, 2, Some(misfit)));
    assert_eq!(
        view.row::<Sum>("b1").await.expect("readable").expect("there").sum,
        1,
        "what stands before it"
    );
    let roomy = totals(&store);
    catch_up(&roomy, &store).await;
    run_until(&roomy, &store, |status| status.state == ViewState::Live && status.parked == 3).await;
    assert_eq!(roomy.row::<Sum>("b1").await.expect("readable").expect("there").sum, 2);
}
