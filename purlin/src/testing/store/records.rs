//! Records: by key, by field, by the time they are due; collections as a whole.

use std::time::Duration;

use futures_util::future::join;

use crate::message::{Timestamp, new_id};
use crate::store::{
    Append, Collection, Commit, CommitError, Conflict, EventQuery, Expected, Field, Position, Query,
    ReadError, Revision, Scalar, Store,
};

use super::{Harness, Note, event, notes, stream};

pub(super) async fn run<H: Harness>(harness: &H) {
    revisions_are_never_used_twice(&harness.open("revisions").await).await;
    records_of_keys_come_in_the_order_of_the_keys(&harness.open("keys").await).await;
    records_are_found_by_their_fields(&harness.open("queries").await).await;
    records_are_found_when_they_are_due(&harness.open("due").await).await;
    a_collection_can_get_other_fields(&harness.open("fields").await).await;
    a_collection_can_take_the_place_of_another(&harness.open("swap").await).await;
    collections_take_their_places_all_at_once_or_not_at_all(&harness.open("swap_all").await).await;
    what_is_changed_of_collections_is_part_of_its_commit(&harness.open("changes").await).await;
    no_reader_meets_a_new_collection_and_then_an_old_one(&harness.open("swap_readers").await).await;
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

async fn a_collection_can_get_other_fields(store: &Store) {
    let plain = Collection { name: "notes".into(), fields: [].as_slice().into() };
    store.define_collection(plain.clone()).await.expect("defined without fields");
    let put = Commit::new().put_in(&plain, "a", &Note::new("early", 1), Revision::Any, None);
    store.commit(put).await.expect("a put");
    store.define::<Note>().await.expect("defined with fields");
    store.define::<Note>().await.expect("defined once more");
    store.commit(Commit::new().put("b", &Note::new("late", 2))).await.expect("a put");
    for (field, value, key) in
        [("text", Scalar::from("early"), "a"), ("number", 2.into(), "b"), ("done", false.into(), "a")]
    {
        let page = store.list::<Note>(Query::all().and(field, value)).await.expect("an index of old and new");
        assert_eq!(
            page.records.iter().map(|record| record.key.as_str()).collect::<Vec<_>>(),
            [key],
            "by {field}"
        );
    }
    let fewer = Collection { name: "notes".into(), fields: [Field::integer("number")].to_vec().into() };
    store.define_collection(fewer.clone()).await.expect("defined with fewer fields");
    let put = Commit::new().put_in(&fewer, "c", &Note::new("last", 3), Revision::Any, None);
    store.commit(put).await.expect("a put");
    let page = store.list::<Note>(Query::all().and("number", 3)).await.expect("a field that stayed");
    assert_eq!(page.records.len(), 1);
    assert!(store.list::<Note>(Query::all().and("text", "last")).await.is_err(), "the field is gone");
}

async fn a_collection_can_take_the_place_of_another(store: &Store) {
    store.define::<Note>().await.expect("defined");
    let beside = notes().named("notes_v2");
    store.define_collection(beside.clone()).await.expect("defined");
    let old = Commit::new().put("a", &Note::new("old", 1)).put("b", &Note::new("old", 2));
    store.commit(old).await.expect("a put");
    let new = Commit::new().put_in(&beside, "a", &Note::new("new", 1), Revision::Any, None);
    store.commit(new).await.expect("a put");
    let names = |all: Vec<Collection>| all.iter().map(|one| one.name.to_string()).collect::<Vec<_>>();
    let known = store.collections().await.expect("readable");
    assert!(known.contains(&beside) && known.is_sorted_by_key(|one| one.name.clone()));
    store.swap("notes_v2", "notes").await.expect("swapped");
    assert_eq!(names(store.collections().await.expect("readable")), ["notes"]);
    let page = store.list::<Note>(Query::all().and("text", "new")).await.expect("a page");
    assert_eq!(page.records.len(), 1);
    assert_eq!(store.get::<Note>("b").await.expect("readable"), None);
    assert!(store.get_record("notes_v2", "a").await.is_err(), "its old name is gone");
    store.commit(Commit::new().put("c", &Note::new("after", 3))).await.expect("a put");
    store.define_collection(beside.clone()).await.expect("the name can be used again");
    assert!(matches!(store.swap("none", "notes").await, Err(CommitError::Invalid(_))));
    assert!(store.get::<Note>("c").await.expect("readable").is_some(), "a refused swap changes nothing");
    for hostile in ["_event", "notes\"; DROP TABLE _event; --", "sqlite_schema", ""] {
        assert!(matches!(store.drop_collection(hostile).await, Err(CommitError::Invalid(_))), "{hostile}");
        assert!(matches!(store.swap(hostile, "notes").await, Err(CommitError::Invalid(_))), "{hostile}");
    }
    store.drop_collection("notes").await.expect("dropped");
    assert!(store.get::<Note>("c").await.is_err());
    let gone = store.commit(Commit::new().put("c", &Note::new("x", 1))).await;
    assert!(matches!(gone, Err(CommitError::Invalid(_))));
}

async fn collections_take_their_places_all_at_once_or_not_at_all(store: &Store) {
    const NAMES: [&str; 3] = ["notes", "others", "thirds"];
    let said = async |name: &str| {
        let record = store.get_record(name, "a").await.expect("readable");
        record.map(|record| record.decode::<Note>().expect("a note").text)
    };
    let make = async |name: &str, text: &str| {
        let collection = notes().named(name);
        store.define_collection(collection.clone()).await.expect("defined");
        let put = Commit::new().put_in(&collection, "a", &Note::new(text, 1), Revision::Any, None);
        store.commit(put).await.expect("a put");
    };
    for name in NAMES {
        make(name, "old").await;
    }
    make("notes_v2", "new").await;
    make("others_v2", "new").await;
    let both = || Commit::new().swap("notes_v2", "notes").swap("others_v2", "others");
    let refused = store.commit(both().swap("thirds_v2", "thirds")).await;
    assert!(matches!(refused, Err(CommitError::Invalid(_))), "one of them is not there: {refused:?}");
    for (beside, live) in [("notes_v2", "notes"), ("others_v2", "others")] {
        assert_eq!(said(live).await.as_deref(), Some("old"), "a refused swap changes nothing");
        assert_eq!(said(beside).await.as_deref(), Some("new"), "a refused swap changes nothing");
    }
    let twice = store.commit(Commit::new().swap("notes_v2", "notes").swap("others_v2", "notes")).await;
    assert!(matches!(twice, Err(CommitError::Invalid(_))), "two for one name: {twice:?}");
    let round = store.commit(Commit::new().swap("notes_v2", "notes").swap("notes", "others")).await;
    assert!(matches!(round, Err(CommitError::Invalid(_))), "a name in two swaps: {round:?}");
    store.commit(both()).await.expect("swapped");
    for (name, text) in NAMES.into_iter().zip(["new", "new", "old"]) {
        assert_eq!(said(name).await.as_deref(), Some(text), "{name}");
    }
    assert!(store.get_record("others_v2", "a").await.is_err(), "its old name is gone");
}

async fn what_is_changed_of_collections_is_part_of_its_commit(store: &Store) {
    let names = async || {
        let all = store.collections().await.expect("readable");
        all.iter().map(|one| one.name.to_string()).collect::<Vec<_>>()
    };
    let (ledger, beside) = (notes().named("ledger"), notes().named("notes_v2"));
    store.define_collection(ledger.clone()).await.expect("defined");
    let entry = |commit: Commit, number, expected| {
        commit.put_in(&ledger, "a", &Note::new("entry", number), expected, None)
    };
    let begun = entry(Commit::new().define(notes()).define(beside.clone()), 1, Revision::Absent);
    let begun = store.commit(begun.append(stream(1), Expected::NoStream, [event(1)])).await.expect("begun");
    assert_eq!(
        (begun.position, names().await),
        (Position(1), vec!["ledger".into(), "notes".into(), "notes_v2".into()])
    );
    assert_eq!(store.read_stream(&stream(1), 1, 10).await.expect("readable").len(), 1);
    let record = store.get_record("ledger", "a").await.expect("readable").expect("it was written");
    assert_eq!((record.revision, record.position), (begun.revision, begun.position));
    let filled = Commit::new().put_in(&beside, "a", &Note::new("new", 7), Revision::Any, None);
    store.commit(filled).await.expect("a put");

    // Each of them is refused, and then nothing of it has happened.
    let late = Revision::Exact(begun.revision + 1);
    for refused in [
        entry(Commit::new().swap("notes_v2", "notes"), 2, late),
        entry(Commit::new().swap("none", "notes").define(notes().named("more")), 2, late),
        entry(Commit::new().drop_collection("notes_v2").define(notes().named("more")), 2, Revision::Absent),
    ] {
        let refused = store.commit(refused).await;
        assert!(
            matches!(&refused, Err(CommitError::Conflict(conflict)) if conflict.is_record("ledger", "a")),
            "{refused:?}"
        );
    }
    let moved = entry(Commit::new().swap("notes_v2", "notes"), 2, Revision::Any);
    let refused = store.commit(moved.append(stream(1), Expected::NoStream, [event(2)])).await;
    assert!(matches!(refused, Err(CommitError::Conflict(Conflict::Stream { .. }))), "{refused:?}");
    let tagged = event(2).tagged(["t:1"]);
    store.commit(Commit::new().append(stream(2), Expected::NoStream, [tagged])).await.expect("an append");
    let late = Commit::new().swap("none", "notes").unless(EventQuery::tagged(["t:1"]), Position(1));
    let refused = store.commit(late).await;
    assert!(matches!(refused, Err(CommitError::Conflict(Conflict::Condition { .. }))), "{refused:?}");
    for invalid in [
        Commit::new().drop_collection("purlin_commits").with_id(new_id(), Duration::from_secs(60)),
        entry(Commit::new().swap("none", "notes"), 2, Revision::Any),
        entry(Commit::new().define(notes().named("more")).drop_collection("more"), 2, Revision::Any),
        entry(Commit::new().drop_collection("ledger"), 2, Revision::Any),
        Commit::new().define(notes().named("more")).put("a", &Note::new("x", 1)).swap("notes_v2", "notes"),
        Commit::new().drop_collection("notes").require::<Note>("a", Revision::Absent),
        entry(Commit::new().define(notes().named("No")), 2, Revision::Any),
    ] {
        let refused = store.commit(invalid).await;
        assert!(matches!(refused, Err(CommitError::Invalid(_))), "{refused:?}");
    }
    assert_eq!(names().await, ["ledger", "notes", "notes_v2"]);
    assert_eq!(store.get::<Note>("a").await.expect("readable"), None);
    let record = store.get_record("ledger", "a").await.expect("readable").expect("it is there");
    assert_eq!((record.revision, store.head()), (begun.revision, Position(2)));

    // And what is not refused has happened wholly, and once when it has an id.
    let id = new_id();
    for repeated in [false, true] {
        let changed =
            Commit::new().swap("notes_v2", "notes").define(notes().named("more")).drop_collection("none");
        let changed = entry(changed, 3, Revision::Exact(begun.revision)).with_id(id, Duration::from_secs(60));
        let committed = store.commit(changed).await.expect("it fits");
        assert_eq!(committed.repeated, repeated);
    }
    let there = names().await;
    assert_eq!(
        there.iter().filter(|name| !name.starts_with("purlin_")).collect::<Vec<_>>(),
        ["ledger", "more", "notes"]
    );
    assert_eq!(store.get::<Note>("a").await.expect("readable"), Some(Note::new("new", 7)));
    let record = store.get_record("ledger", "a").await.expect("readable").expect("it is there");
    assert_eq!(record.decode::<Note>().expect("a note").number, 3);
    store
        .commit(entry(Commit::new(), 4, Revision::Exact(record.revision)))
        .await
        .expect("others go on behind it");
}

async fn no_reader_meets_a_new_collection_and_then_an_old_one(store: &Store) {
    const ROUNDS: i64 = 20;
    let (first, second) = (notes(), notes().named("others"));
    store.define_collection(first.clone()).await.expect("defined");
    store.define_collection(second.clone()).await.expect("defined");
    let number = async |name: &str| {
        let record = store.get_record(name, "a").await.expect("readable while others take its place");
        record.map_or(0, |record| record.decode::<Note>().expect("a note").number)
    };
    let swap = async {
        for round in 1..=ROUNDS {
            let mut put = Commit::new();
            for live in [&first, &second] {
                let beside = live.named(format!("{}_v2", live.name));
                store.define_collection(beside.clone()).await.expect("defined");
                put = put.put_in(&beside, "a", &Note::new("built", round), Revision::Any, None);
            }
            store.commit(put).await.expect("a put");
            let both = Commit::new().swap("notes_v2", "notes").swap("others_v2", "others");
            store.commit(both).await.expect("swapped");
        }
    };
    let read = async {
        loop {
            // In both orders: whichever an engine might do first.
            let (one, other) = (number("notes").await, number("others").await);
            assert!(one <= other, "notes of round {one} and then others of round {other}");
            let (other, one) = (number("others").await, number("notes").await);
            assert!(other <= one, "others of round {other} and then notes of round {one}");
            if one == ROUNDS && other == ROUNDS {
                return;
            }
            // Engines may answer at once, and the swaps are to be heard too.
            tokio::task::yield_now().await;
        }
    };
    join(swap, read).await;
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
