//! Tags, and what must not have come since a decision looked.

use crate::store::{
    Commit, CommitError, Conflict, EventQuery, Expected, LogFilter, Position, ReadError, Recorded, Store,
};

use super::{Harness, event, stream};

pub(super) async fn run<H: Harness>(harness: &H) {
    events_are_found_by_kind_and_tag(&harness.open("tags").await).await;
    a_condition_sees_what_came_behind_its_position(&harness.open("conditions").await).await;
    a_malformed_query_is_refused(&harness.open("malformed").await).await;
    of_two_who_decide_on_the_same_one_wins(&harness.open("boundaries").await).await;
}

/// All that a filter wants, in pages of `limit`.
async fn found(store: &Store, filter: &LogFilter, limit: usize) -> Vec<Recorded> {
    let (mut after, mut found) = (Position::START, Vec::new());
    while after < store.head() {
        let page = store.read_log(after, filter, limit).await.expect("a page");
        assert!(page.through > after && page.events.len() <= limit);
        after = page.through;
        found.extend(page.events);
    }
    found
}

async fn events_are_found_by_kind_and_tag(store: &Store) {
    for n in 0..120_u64 {
        let kind = format!("thing.k{}", n % 3);
        let mut one = crate::message::Envelope::raw(kind, format!("{n}"));
        if n % 4 != 0 {
            let mut tags = vec![format!("four:{}", n % 4), format!("ten:{}", n % 10), "all".to_owned()];
            tags.truncate(usize::try_from(1 + n % 3).expect("small"));
            one = one.tagged(tags);
        }
        let append = Commit::new().append(stream(n % 5), Expected::Any, [one]);
        store.commit(append).await.expect("an append");
    }
    let filters = [
        LogFilter::kinds(["thing.k1"]),
        LogFilter::kinds(["thing.k1", "thing.k2", "thing.none"]),
        LogFilter::tagged(["all"]),
        LogFilter::tagged(["four:1", "ten:3"]),
        LogFilter::tagged(["none"]),
        LogFilter::matching(EventQuery::tagged(["four:3"]).kinds(["thing.k0", "thing.k2"])),
        LogFilter::matching(
            EventQuery::tagged(["four:1", "all"]).or(EventQuery::tagged(["ten:7"]).kinds(["thing.k1"])),
        ),
        LogFilter::matching(EventQuery::tagged(["all"]).or(EventQuery::of_kinds(["thing.k0"]))),
        LogFilter { category: Some("thing".into()), ..LogFilter::tagged(["four:1"]) },
        LogFilter { category: Some("other".into()), ..LogFilter::tagged(["four:1"]) },
        LogFilter::births(),
    ];
    let all = found(store, &LogFilter::all(), 1000).await;
    assert_eq!(all.len(), 120);
    for filter in filters {
        let wanted: Vec<_> = all.iter().filter(|event| filter.admits(event)).cloned().collect();
        for limit in [1, 7, 1000] {
            assert_eq!(found(store, &filter, limit).await, wanted, "{filter:?} in pages of {limit}");
        }
    }
}

async fn a_condition_sees_what_came_behind_its_position(store: &Store) {
    let tagged = |tags: &[&str]| event(1).tagged(tags.iter().copied());
    let append = |tags: &[&str]| Commit::new().append(stream("a"), Expected::Any, [tagged(tags)]);
    for tags in [&["x", "y"][..], &["x"], &[], &["y", "z"]] {
        store.commit(append(tags)).await.expect("an append");
    }
    let of = |tags: &[&str]| EventQuery::tagged(tags.iter().copied());
    let other = |tags: &[&str]| of(tags).kinds(["thing.other"]);
    let fine = [
        (of(&["x"]), 2),
        (of(&["x", "y"]), 1),
        (of(&["x", "z"]), 0),
        (of(&["none"]), 0),
        (other(&["x"]), 0),
        (of(&["x"]).or(of(&["none"])), 2),
        (of(&["x", "y"]).kinds(["thing.counted"]), 1),
    ];
    for (query, after) in fine {
        let commit = Commit::new().unless(query.clone(), Position(after));
        store.commit(commit).await.unwrap_or_else(|error| panic!("{query:?} after {after}: {error:?}"));
    }
    let refused = [
        (of(&["x"]), 1, 2),
        (of(&["x", "y"]), 0, 1),
        (of(&["z"]).kinds(["thing.counted", "thing.other"]), 3, 4),
        (of(&["none"]).or(of(&["y"])), 0, 4),
        (other(&["x"]).or(of(&["x"])), 0, 2),
    ];
    for (query, after, position) in refused {
        let commit = append(&["w"]).unless(query.clone(), Position(after));
        match store.commit(commit).await {
            Err(CommitError::Conflict(Conflict::Condition { after: a, found })) => {
                assert_eq!((a, found), (Position(after), Position(position)), "{query:?}");
            }
            other => panic!("{query:?} after {after} gave {other:?}"),
        }
    }
    assert_eq!(store.head(), Position(4), "nothing was applied");
    // Its own events do not count; those of the next commit do.
    store.commit(append(&["w"]).unless(of(&["w"]), Position(4))).await.expect("its own event");
    let again = store.commit(append(&["w"]).unless(of(&["w"]), Position(4))).await;
    assert!(matches!(again, Err(CommitError::Conflict(_))), "{again:?}");
    let ahead = store.commit(append(&["w"]).unless(of(&["w"]), Position(99))).await;
    assert!(matches!(ahead, Err(CommitError::Invalid(_))), "a position that was not reached: {ahead:?}");
}

async fn a_malformed_query_is_refused(store: &Store) {
    let bad_commits = [
        Commit::new().unless(EventQuery::of_kinds(["thing.counted"]), Position::START),
        Commit::new().unless(EventQuery::default(), Position::START),
        Commit::new().unless(EventQuery::tagged(["a\nb"]), Position::START),
        Commit::new().append(stream(1), Expected::Any, [event(1).tagged([""])]),
        Commit::new().append(stream(1), Expected::Any, [event(1).tagged(["x".repeat(200)])]),
        Commit::new().append(stream(1), Expected::Any, [event(1).tagged((0..17).map(|n| n.to_string()))]),
    ];
    for commit in bad_commits {
        let refused = store.commit(commit).await;
        assert!(matches!(refused, Err(CommitError::Invalid(_))), "{refused:?}");
    }
    let none = store.read_log(Position::START, &LogFilter::matching(EventQuery::default()), 1).await;
    assert!(matches!(none, Err(ReadError::Invalid(_))), "{none:?}");
}

/// Each takes a seat if fewer than three are taken: many at once never take a fourth.
async fn of_two_who_decide_on_the_same_one_wins(store: &Store) {
    const SEATS: usize = 3;
    let take = |n: u64| async move {
        let taken = EventQuery::tagged(["course:1"]).kinds(["thing.counted"]);
        loop {
            let (mut after, mut seats) = (Position::START, 0);
            loop {
                let page =
                    store.read_log(after, &LogFilter::matching(taken.clone()), 2).await.expect("a page");
                seats += page.events.len();
                if page.through == after {
                    break;
                }
                after = page.through;
            }
            if seats >= SEATS {
                return false;
            }
            let seat = event(n).tagged(["course:1".to_owned(), format!("student:{n}")]);
            let commit = Commit::new().append(stream(n), Expected::NoStream, [seat]);
            match store.commit(commit.unless(taken.clone(), after)).await {
                Ok(_) => return true,
                Err(CommitError::Conflict(Conflict::Condition { .. })) => {}
                Err(error) => panic!("{error:?}"),
            }
        }
    };
    let seated = futures_util::future::join_all((0..20).map(take)).await;
    assert_eq!(seated.iter().filter(|seated| **seated).count(), SEATS);
    let all = found(store, &LogFilter::tagged(["course:1"]), 100).await;
    assert_eq!(all.len(), SEATS);
}
