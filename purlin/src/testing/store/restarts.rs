//! A durable store goes on where it was closed.

use crate::store::{Commit, Expected, Query, Revision};

use super::{Harness, Note, assert_in_order, event, stream, whole_log, whole_stream};

pub(super) async fn run<H: Harness>(harness: &H) {
    what_was_committed_is_there_after_a_restart(harness).await;
}

async fn what_was_committed_is_there_after_a_restart<H: Harness>(harness: &H) {
    let (mut token, mut last) = (None, None);
    for round in 0..4_u64 {
        let store = harness.open("restart").await;
        store.define::<Note>().await.expect("defined");
        if let Some((token, position)) = token.take() {
            let token: String = token;
            assert_eq!(store.parse_token(&token).await, Ok(position), "a position outlives a restart");
            assert_eq!(store.head(), position);
        }
        for n in 0..25 {
            let version = round * 25 + n;
            let commit = Commit::new()
                .append(stream(1), Expected::Version(version), [event(version)])
                .append(stream(1000 + version), Expected::NoStream, [event(1)])
                .put_expecting(
                    "last",
                    &Note::new("last", 1),
                    last.map_or(Revision::Absent, Revision::Exact),
                    None,
                );
            let revision = store.commit(commit).await.expect("versions and revisions go on").revision;
            assert!(last.is_none_or(|before| before < revision));
            last = Some(revision);
        }
        let taken = Commit::new().append(stream(1000), Expected::NoStream, [event(1)]);
        assert!(store.commit(taken).await.is_err(), "a stream of an earlier life is known");
        token = Some((store.token(store.head()), store.head()));
        store.close().await;
    }
    let store = harness.open("restart").await;
    let log = whole_log(&store).await;
    assert_in_order(&log);
    assert_eq!((log.len(), whole_stream(&store, &stream(1)).await.len()), (200, 100));
    let found = store.list::<Note>(Query::all().and("text", "last")).await.expect("collections are known");
    assert_eq!(found.records.len(), 1);
    store.close().await;
}
