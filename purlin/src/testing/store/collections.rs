//! Collections as a whole: what a commit makes, renames and removes.

use std::time::Duration;

use futures_util::future::join;

use crate::message::new_id;
use crate::store::{
    Collection, Commit, CommitError, Conflict, EventQuery, Expected, Field, Position, Query, Revision,
    Scalar, Store,
};

use super::{Harness, Note, event, notes, stream};

pub(super) async fn run<H: Harness>(harness: &H) {
    a_collection_can_get_other_fields(&harness.open("fields").await).await;
    a_collection_can_take_the_place_of_another(&harness.open("swap").await).await;
    collections_take_their_places_all_at_once_or_not_at_all(&harness.open("swap_all").await).await;
    what_is_changed_of_collections_is_part_of_its_commit(&harness.open("changes").await).await;
    no_reader_meets_a_new_collection_and_then_an_old_one(&harness.open("swap_readers").await).await;
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
