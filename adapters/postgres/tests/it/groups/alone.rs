//! Who is wrong within a group, and what its commits see of each other.

use futures_util::future::join_all;
use purlin::store::{Commit, CommitError, Conflict, Expected, Revision};

use super::{Count, append, assert_dense, cold, stream};
use crate::server::Server;

pub(super) async fn who_is_wrong_about_a_stream_fails_alone(server: &Server) {
    let store = cold(server, "streams").await;
    for key in 0..40 {
        store.commit(append(key, Expected::NoStream)).await.expect("it is taken");
    }
    store.close().await;
    let store = cold(server, "streams").await;
    let all = (0..40).map(|key| {
        let expected = if key == 7 { Expected::Version(5) } else { Expected::Version(1) };
        store.commit(append(key, expected))
    });
    for (key, outcome) in join_all(all).await.into_iter().enumerate() {
        match outcome {
            Ok(committed) => assert_eq!((key == 7, committed.appended[0].version), (false, 2)),
            Err(CommitError::Conflict(Conflict::Stream { actual, .. })) => assert_eq!((key, actual), (7, 1)),
            Err(error) => panic!("{error:?}"),
        }
    }
    assert_dense(&store).await;
}

pub(super) async fn who_is_wrong_about_a_record_fails_alone(server: &Server) {
    let store = cold(server, "records").await;
    store.define::<Count>().await.expect("a collection");
    let put = |key: u64, expected| {
        append(key, Expected::Any).put_expecting(key.to_string(), &Count { n: key }, expected, None)
    };
    let commits = join_all((0..20).map(|key| store.commit(put(key, Revision::Absent)))).await;
    let revisions: Vec<u64> =
        commits.into_iter().map(|committed| committed.expect("nobody had it").revision).collect();
    for rounds in 0..2 {
        let all = (0..20).map(|key| {
            let right = if rounds == 0 { Revision::Exact(revisions[key as usize]) } else { Revision::Any };
            let expected = if key == 7 { Revision::Exact(3) } else { right };
            store.commit(put(key, expected))
        });
        for (key, outcome) in join_all(all).await.into_iter().enumerate() {
            match outcome {
                Ok(_) => assert_ne!(key, 7),
                Err(CommitError::Conflict(Conflict::Record { actual, .. })) => {
                    assert_eq!((key, actual), (7, Some(revisions[7])));
                }
                Err(error) => panic!("{error:?}"),
            }
        }
    }
    let of_seven = store.read_stream(&stream(7), 1, 10).await.expect("readable");
    assert_eq!(of_seven.len(), 1, "the event of what failed is not there");
    assert_dense(&store).await;
}

pub(super) async fn commits_of_a_group_see_each_other(server: &Server) {
    let store = cold(server, "chains").await;
    store.define::<Count>().await.expect("a collection");
    for round in 0..10 {
        let all = (0..30).map(|n| store.commit(append(round, Expected::Version(n))));
        for (n, outcome) in join_all(all).await.into_iter().enumerate() {
            let committed = outcome.expect("each expects what the one before left");
            assert_eq!(committed.appended[0].version, n as u64 + 1);
        }
        let key = round.to_string();
        let marks = (0..10).map(|n| {
            store.commit(Commit::new().put_expecting(key.clone(), &Count { n }, Revision::Absent, None))
        });
        let marked = join_all(marks).await.into_iter().filter(Result::is_ok).count();
        assert_eq!(marked, 1, "one is the first");
    }
    assert_dense(&store).await;
}
