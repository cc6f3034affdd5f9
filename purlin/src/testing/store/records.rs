//! Records: by key, by field, by the time they are due.

use std::time::Duration;

use crate::message::Timestamp;
use crate::store::{
    Append, Collection, Commit, CommitError, Conflict, Expected, Field, Position, Query, ReadError, Revision,
    Scalar, Store,
};

use super::{Harness, Note, event, stream};

pub(super) async fn run<H: Harness>(harness: &H) {
    revisions_are_never_used_twice(&harness.open("revisions").await).await;
    records_of_keys_come_in_the_order_of_the_keys(&harness.open("keys").await).await;
    records_are_found_by_their_fields(&harness.open("queries").await).await;
    records_are_found_when_they_are_due(&harness.open("due").await).await;
    what_a_query_cannot_ask_is_refused(&harness.open("refused_queries").await).await;
    every_commit_wakes_who_waits(&harness.open("wake").await).await;
}

async fn revision_of(store: &Store, key: &str) -> Option<u64> {
    store.get_record("notes", key).await.expect("readable").map(|record| record.revision)
}

async fn revisions_are_never_used_twice(store: &Store) {
    store.define::<Note>().await.expect("defined");
    let mut seen = std::collections::HashSet::new();
    for n in 0..20 {
        let expected = if n == 0 { Revision::Absent } else { Revision::Any };
        let put = Commit::new().put_expecting("a", &Note::new("a", n), expected, None);
        let revision = store.commit(put).await.expect("a put").revision;
        assert_eq!(revision_of(store, "a").await, Some(revision));
        assert!(seen.insert(revision), "revision {revision} was used twice");
        if n % 4 == 0 {
            let delete = Commit::new().delete::<Note>("a", Revision::Exact(revision));
            store.commit(delete).await.expect("a delete");
            assert_eq!(revision_of(store, "a").await, None);
        }
    }
    let stale = *seen.iter().min().expect("there were some");
    let refused = store
        .commit(Commit::new().put_expecting("a", &Note::new("a", 0), Revision::Exact(stale), None))
        .await;
    match refused {
        Err(CommitError::Conflict(Conflict::Record { collection, key, expected, actual })) => {
            assert_eq!((collection.as_str(), key.as_str(), expected), ("notes", "a", Revision::Exact(stale)));
            assert_eq!(actual, revision_of(store, "a").await);
        }
        other => panic!("a stale revision gave {other:?}"),
    }
    store
        .commit(Commit::new().delete::<Note>("none", Revision::Any))
        .await
        .expect("nothing to delete is no fault");
    let twice = Commit::new().put("b", &Note::new("first", 1)).put("b", &Note::new("second", 2));
    store.commit(twice).await.expect("the last write of a commit wins");
    assert_eq!(store.get::<Note>("b").await.expect("readable"), Some(Note::new("second", 2)));
}

async fn records_of_keys_come_in_the_order_of_the_keys(store: &Store) {
    let read = async |keys: &[&str]| {
        store.get_records("notes", keys.iter().map(|key| (*key).to_owned()).collect()).await
    };
    assert!(matches!(read(&["a"]).await, Err(ReadError::Invalid(_))), "the collection is not there yet");
    store.define::<Note>().await.expect("defined");
    let mut commit = Commit::new();
    for n in 0..40 {
        commit = commit.put(format!("k{n:02}"), &Note::new("a", n));
    }
    store.commit(commit).await.expect("a put");
    assert_eq!(read(&[]).await.expect("readable"), []);
    // One twice, some that are not there, one that not every engine could store.
    let keys = ["k07", "none", "k31", "k07", "K07", "", "k07\0", "k00"];
    let found = read(&keys).await.expect("readable");
    for (key, found) in keys.iter().zip(&found) {
        assert_eq!(*found, store.get_record("notes", key).await.expect("readable"), "{key:?}");
    }
    let there: Vec<bool> = found.iter().map(Option::is_some).collect();
    assert_eq!(there, [true, false, true, true, false, false, false, true]);
    let many: Vec<String> = (0..4000).map(|n| format!("k{n:02}")).collect();
    let found = store.get_records("notes", many).await.expect("readable");
    assert_eq!((found.len(), found.iter().flatten().count()), (4000, 40));
}

async fn records_are_found_by_their_fields(store: &Store) {
    store.define::<Note>().await.expect("defined");
    for n in 0..60_i64 {
        let note = Note::new(if n % 3 == 0 { "fizz" } else { "it's" }, n);
        store.commit(Commit::new().put(format!("k{n:02}"), &note)).await.expect("a put");
    }
    let keys = |query: Query| async move {
        let page = store.list::<Note>(query).await.expect("a page");
        (page.records.into_iter().map(|record| record.key).collect::<Vec<_>>(), page.next)
    };
    assert_eq!(keys(Query::all()).await.0.len(), Query::DEFAULT_LIMIT);
    let fizz = Query::all().and("text", "fizz");
    assert_eq!(keys(fizz.clone().limit(100)).await.0.len(), 20);
    assert_eq!(keys(fizz.clone().and("done", true).limit(100)).await.0.len(), 10);
    assert_eq!(keys(Query::all().and("number", 7)).await, (vec!["k07".to_owned()], None));
    assert_eq!(keys(Query::all().and("tags", "t9")).await, (vec!["k09".to_owned()], None));
    assert_eq!(keys(Query::all().and("tags", "all").limit(100)).await.0.len(), 60);
    assert_eq!(keys(Query::all().and("text", "it's").and("number", 3)).await, (Vec::new(), None));
    assert_eq!(keys(Query::all().and("text", Scalar::Null)).await.0.len(), 0);
    assert_eq!(keys(Query::all().prefix("k1").limit(100)).await.0.len(), 10);
    for descending in [false, true] {
        let (mut after, mut all) = (None, Vec::new());
        loop {
            let query = fizz.clone().limit(7).after(after);
            let (page, next) = keys(if descending { query.descending() } else { query }).await;
            all.extend(page);
            match next {
                Some(next) => after = Some(next),
                None => break,
            }
        }
        let sorted = all.is_sorted_by(|a, b| if descending { a > b } else { a < b });
        assert!(all.len() == 20 && sorted, "pages give each record once, in order: {all:?}");
    }
    assert!(
        store.list::<Note>(Query::all().and("unknown", "x")).await.is_err(),
        "an unknown field is an error"
    );
}

async fn records_are_found_when_they_are_due(store: &Store) {
    store.define::<Note>().await.expect("defined");
    let start: Timestamp = "2030-01-01T00:00:00.000001Z".parse().expect("a time");
    let at = |seconds: u64| start + Duration::from_secs(seconds);
    for n in [5, 1, 3, 2, 4] {
        let due = Some(at(n));
        let put = Commit::new().put_expecting(format!("k{n}"), &Note::new("due", 1), Revision::Any, due);
        store.commit(put).await.expect("a put");
    }
    store.commit(Commit::new().put("never", &Note::new("not due", 1))).await.expect("a put");
    let due = |until, limit| async move {
        let records = store.due::<Note>(until, limit).await.expect("readable");
        records.into_iter().map(|record| record.key).collect::<Vec<_>>()
    };
    assert!(due(start, 10).await.is_empty());
    assert_eq!(due(at(3), 10).await, ["k1", "k2", "k3"]);
    assert_eq!(due(at(9), 2).await, ["k1", "k2"]);
    store.commit(Commit::new().put("k1", &Note::new("done", 1))).await.expect("no longer due");
    assert_eq!(due(at(2), 10).await, ["k2"]);
    let record = store.get_record("notes", "k2").await.expect("readable").expect("there");
    assert_eq!(record.due, Some(at(2)), "to the microsecond");
    let between = Some(at(2) + Duration::from_nanos(999));
    let put = Commit::new().put_expecting("k2", &Note::new("due", 1), Revision::Any, between);
    store.commit(put).await.expect("a put");
    let record = store.get_record("notes", "k2").await.expect("readable").expect("there");
    assert_eq!(record.due, Some(at(2)), "and no finer");
    assert_eq!(store.sweep::<Note>(at(4)).await.expect("swept"), 3);
    assert_eq!(due(at(9), 10).await, ["k5"]);
}

/// The same with and without records: an engine does not find out by looking at them.
async fn what_a_query_cannot_ask_is_refused(store: &Store) {
    store.define::<Note>().await.expect("defined");
    for n in 0..2_i64 {
        for (field, value) in [
            ("unknown", Scalar::from("x")),
            ("number", Scalar::from("0")),
            ("number", Scalar::from(true)),
            ("text", Scalar::from(0)),
            ("done", Scalar::from(1)),
            ("done", Scalar::from("true")),
            ("tags", Scalar::from(0)),
            ("tags", Scalar::Null),
        ] {
            let found = store.list::<Note>(Query::all().and(field, value.clone())).await;
            assert!(matches!(found, Err(ReadError::Invalid(_))), "{field} = {value:?} gave {found:?}");
        }
        let all =
            store.list::<Note>(Query::all().limit(usize::MAX)).await.expect("there is no limit too high");
        assert_eq!(all.records.len() as i64, n);
        assert_eq!(
            store.due::<Note>(Timestamp::MAX, usize::MAX).await.expect("nor for what is due").len(),
            0
        );
        store.commit(Commit::new().put("a", &Note::new("0", 0))).await.expect("a put");
    }
    let other = |fields: Vec<Field>| Collection { name: "notes".into(), fields: fields.into() };
    let (fewer, renamed) = (
        other(vec![Field::text("text")]),
        other(vec![
            Field::text("text"),
            Field::integer("other"),
            Field::boolean("done"),
            Field::texts("tags"),
        ]),
    );
    for of in [fewer, renamed] {
        let put = Commit::new().put_in(&of, "a", &Note::new("other", 1), Revision::Any, None);
        let refused = store.commit(put).await;
        assert!(matches!(refused, Err(CommitError::Invalid(_))), "fields of another definition: {refused:?}");
    }
    let itself = store.swap("notes", "notes").await;
    assert!(matches!(itself, Err(CommitError::Invalid(_))), "{itself:?}");
    assert_eq!(store.get::<Note>("a").await.expect("readable"), Some(Note::new("0", 0)), "nothing was lost");
    let long = Commit::new().require::<Note>("k".repeat(1000), Revision::Absent);
    assert!(
        matches!(store.commit(long).await, Err(CommitError::Invalid(_))),
        "keys that are asked for have a limit"
    );
    let mut empty = Commit::new();
    empty.appends.push(Append { stream: stream(1), expected: Expected::Any, events: Vec::new(), at: None });
    assert!(matches!(store.commit(empty).await, Err(CommitError::Invalid(_))), "an append has events");
}

async fn every_commit_wakes_who_waits(store: &Store) {
    store.define::<Note>().await.expect("defined");
    let mut watch = store.watch();
    watch.borrow_and_update();
    store.commit(Commit::new().append(stream(1), Expected::Any, [event(1)])).await.expect("an append");
    watch.changed().await.expect("the store is open");
    assert_eq!(*watch.borrow_and_update(), Position(1));
    store.commit(Commit::new().put("a", &Note::new("a", 1))).await.expect("a put");
    watch.changed().await.expect("a commit of records alone wakes too");
    assert_eq!(*watch.borrow(), Position(1));
    let token = store.token(Position(1));
    assert_eq!(store.parse_token(&token).await, Ok(Position(1)));
    let long = token.replace("-1-1", "-1-01");
    for bad in
        ["", "1", "x-1-1", &long, &store.token(Position(2)), &format!("{token}0"), &format!("{token}-")]
    {
        assert!(store.parse_token(bad).await.is_err(), "`{bad}` is no position of this log");
    }
}
