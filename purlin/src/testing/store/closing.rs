//! A closed store does nothing more.

use crate::store::{Commit, CommitError, Expected, LogFilter, Position, Query, ReadError, Store};

use super::{Harness, Note, event, notes, stream};

pub(super) async fn run<H: Harness>(harness: &H) {
    a_closed_store_refuses(&harness.open("closed").await).await;
}

async fn a_closed_store_refuses(store: &Store) {
    store.define::<Note>().await.expect("defined");
    store.commit(Commit::new().put("a", &Note::new("a", 1))).await.expect("a put");
    store.close().await;
    store.close().await;
    for refused in [
        store.commit(Commit::new().append(stream(1), Expected::Any, [event(1)])).await.map(drop),
        store.define_collection(notes().named("others")).await,
        store.swap("notes", "others").await,
        store.drop_collection("notes").await,
    ] {
        assert!(matches!(refused, Err(CommitError::Unavailable(_))), "{refused:?}");
    }
    for refused in [
        store.read_stream(&stream(1), 1, 1).await.map(drop),
        store.read_log(Position::START, &LogFilter::all(), 1).await.map(drop),
        store.get::<Note>("a").await.map(drop),
        store.list::<Note>(Query::all()).await.map(drop),
        store.due::<Note>(crate::message::Timestamp::MAX, 1).await.map(drop),
    ] {
        assert!(matches!(refused, Err(ReadError::Unavailable(_))), "{refused:?}");
    }
}
