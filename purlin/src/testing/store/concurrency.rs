//! Many at once: nobody's commit is lost or doubled, and no reader passes what he has not seen.

use futures_util::future::{join, join_all};

use crate::store::{Commit, CommitError, Expected, LogFilter, Position, Revision, Store};

use super::{Harness, Note, assert_in_order, event, stream, whole_log, whole_stream};

pub(super) async fn run<H: Harness>(harness: &H) {
    of_rivals_for_a_version_one_wins(&harness.open("rivals").await).await;
    of_rivals_for_a_record_one_wins(&harness.open("records_rivals").await).await;
    a_reader_sees_every_event_in_order(&harness.open("gapless").await).await;
}

async fn of_rivals_for_a_version_one_wins(store: &Store) {
    for version in 0..50 {
        let append =
            |n: u64| store.commit(Commit::new().append(stream(1), Expected::Version(version), [event(n)]));
        let outcomes = join_all((0..8).map(append)).await;
        assert_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count(), 1, "at version {version}");
        let lost = |outcome: &Result<_, _>| matches!(outcome, Err(CommitError::Conflict(_)));
        assert_eq!(outcomes.iter().filter(|outcome| lost(outcome)).count(), 7);
    }
    let log = whole_log(store).await;
    assert_eq!(log.len(), 50);
    assert_in_order(&log);
}

async fn of_rivals_for_a_record_one_wins(store: &Store) {
    store.define::<Note>().await.expect("defined");
    let mut expected = Revision::Absent;
    for n in 0..50 {
        let put = |rival: u64| {
            let note = Note::new(&rival.to_string(), n);
            store.commit(Commit::new().put_expecting("a", &note, expected, None).append(
                stream(rival),
                Expected::Any,
                [event(rival)],
            ))
        };
        let outcomes = join_all((0..8).map(put)).await;
        let won: Vec<_> = outcomes.into_iter().flatten().collect();
        assert_eq!(won.len(), 1);
        expected = Revision::Exact(won[0].revision);
    }
    assert_eq!(whole_log(store).await.len(), 50, "who lost the record appended nothing");
}

async fn a_reader_sees_every_event_in_order(store: &Store) {
    const WRITERS: u64 = 16;
    const EACH: u64 = 100;
    store.define::<Note>().await.expect("defined");
    let write = |writer: u64| async move {
        for n in 0..EACH {
            let own = Commit::new().append(stream(writer), Expected::Version(n * 2), [event(n), event(n)]);
            let note = Note::new("written", 1);
            let commit =
                own.append(stream("shared"), Expected::Any, [event(writer)]).put(writer.to_string(), &note);
            store.commit(commit).await.expect("no rival writes this stream");
        }
    };
    let total = WRITERS * EACH * 3;
    let follow = async {
        let (mut seen, mut after, mut watch) = (Vec::new(), Position::START, store.watch());
        while (seen.len() as u64) < total {
            watch.borrow_and_update();
            let page = store.read_log(after, &LogFilter::all(), 50).await.expect("a page");
            if page.through == after {
                watch.changed().await.expect("the store is open");
                continue;
            }
            assert!(page.through <= store.head(), "nothing is seen before it is committed");
            after = page.through;
            seen.extend(page.events);
        }
        seen
    };
    let (seen, _) = join(follow, join_all((0..WRITERS).map(write))).await;
    assert_in_order(&seen);
    for writer in 0..WRITERS {
        assert_eq!(whole_stream(store, &stream(writer)).await.len() as u64, 2 * EACH);
    }
    assert_eq!(whole_stream(store, &stream("shared")).await.len() as u64, WRITERS * EACH);
}
