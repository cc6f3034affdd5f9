//! Rows of several kinds from events of several categories.

use crate::message::Envelope;
use crate::store::{Commit, Expected, Query, StreamId};

use super::{
    Called, Counted, Harness, Sum, Totals, add, add_many, append, catch_up, expected, rows_of, totals,
};
use crate::projection::{View, ViewState};

pub(super) async fn run<H: Harness>(harness: &H) {
    events_of_several_categories_make_rows_of_several_kinds(harness).await;
    a_new_version_takes_the_place_of_the_old_one(harness).await;
}

async fn events_of_several_categories_make_rows_of_several_kinds<H: Harness>(harness: &H) {
    let store = harness.open("view_rows").await;
    let view = totals(&store);
    add_many(&store, &["a1", "a2", "b1"], 700).await;
    add(&store, "a1", 40).await;
    let named = Envelope::new("name", &Called::By("first".into())).expect("an enum");
    let stream = StreamId::new("name", "a1").expect("a name");
    let other = StreamId::new("else", "a1").expect("a name");
    let commit = Commit::new().append(stream, Expected::NoStream, [named]).append(
        other,
        Expected::NoStream,
        [Envelope::raw("else.happened", "null")],
    );
    store.commit(commit).await.expect("appends");
    catch_up(&view, &store).await;
    assert_eq!(rows_of(&view).await, expected(&store, 1).await);
    let found = view.rows::<Sum>(Query::all().and("name", "first")).await.expect("by a field").items;
    assert_eq!(found.iter().map(|(key, row)| (key.as_str(), row.sum)).collect::<Vec<_>>(), [("a1", 274)]);
    append(&store, "a1", Counted::Removed).await;
    catch_up(&view, &store).await;
    assert_eq!(view.row::<Sum>("a1").await.expect("readable"), None);
    let status = view.status().await.expect("a status");
    assert_eq!((status.state, status.lag, status.lag_seconds), (ViewState::Live, 0, 0.0));
    assert_eq!(status.collections, ["suite_sums", "suite_groups"]);
    let position = add(&store, "b1", 1).await;
    let behind = view.status().await.expect("a status");
    assert_eq!(behind.lag, position.0 - behind.position.0, "it does not run");
}

async fn a_new_version_takes_the_place_of_the_old_one<H: Harness>(harness: &H) {
    let store = harness.open("view_version").await;
    add_many(&store, &["a1", "b1"], 300).await;
    catch_up(&totals(&store), &store).await;
    let newer = View::new(Totals::<3> { forgiving: false }, &store);
    catch_up(&newer, &store).await;
    assert_eq!(rows_of(&newer).await, expected(&store, 3).await);
    let status = newer.status().await.expect("a status");
    assert_eq!((status.version, status.state, status.rebuild), (3, ViewState::Live, None));
}
