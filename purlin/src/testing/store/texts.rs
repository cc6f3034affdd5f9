//! Fields that hold several texts.

use crate::store::{Collection, Commit, Field, Query, Revision, Store};

use super::{Harness, Note, notes};

pub(super) async fn run<H: Harness>(harness: &H) {
    only_strings_of_an_array_are_texts(&harness.open("texts").await).await;
    a_field_of_texts_keeps_up_with_its_records(&harness.open("texts_kept").await).await;
}

async fn only_strings_of_an_array_are_texts(store: &Store) {
    let tagged = Collection { name: "tagged".into(), fields: vec![Field::texts("tags")].into() };
    let early = Collection { name: "tagged".into(), fields: [].as_slice().into() };
    let put = |of: Collection, key: String, tags: serde_json::Value| async move {
        let value = serde_json::json!({ "tags": tags });
        store.commit(Commit::new().put_in(&of, key, &value, Revision::Any, None)).await.expect("a put");
    };
    let shapes = || {
        [
            serde_json::json!(["x", "x", "", "it's"]),
            serde_json::json!("x"),
            serde_json::json!({ "x": "x" }),
            serde_json::json!([["x"], 7, null, true, "7"]),
            serde_json::json!(null),
        ]
    };
    store.define_collection(early.clone()).await.expect("defined");
    for (n, tags) in shapes().into_iter().enumerate() {
        put(early.clone(), format!("early{n}"), tags).await;
    }
    store.define_collection(tagged.clone()).await.expect("defined with a field");
    for (n, tags) in shapes().into_iter().enumerate() {
        put(tagged.clone(), format!("late{n}"), tags).await;
    }
    for (text, keys) in [
        ("x", vec!["early0", "late0"]),
        ("", vec!["early0", "late0"]),
        ("it's", vec!["early0", "late0"]),
        ("7", vec!["early3", "late3"]),
        ("true", vec![]),
    ] {
        let page = store.list_records("tagged", Query::all().and("tags", text)).await.expect("a page");
        let found: Vec<_> = page.records.iter().map(|record| record.key.as_str()).collect();
        assert_eq!(found, keys, "with `{text}`");
    }
}

async fn a_field_of_texts_keeps_up_with_its_records(store: &Store) {
    store.define::<Note>().await.expect("defined");
    let beside = notes().named("notes_v2");
    store.define_collection(beside.clone()).await.expect("defined");
    let note = |tags: &[&str]| Note {
        tags: tags.iter().map(|tag| (*tag).to_owned()).collect(),
        ..Note::new("a", 1)
    };
    let keys = |query: Query| async move {
        let page = store.list::<Note>(query.limit(2)).await.expect("a page");
        (page.records.into_iter().map(|record| record.key).collect::<Vec<_>>(), page.next)
    };
    let tagged = |tag: &str| Query::all().and("tags", tag);
    let all = |name: &Collection, count: u32| {
        (0..count).fold(Commit::new(), |commit, n| {
            commit.put_in(name, format!("k{n}"), &note(&["red", "blue"]), Revision::Any, None)
        })
    };
    store.commit(all(&notes(), 5)).await.expect("puts");
    assert_eq!(keys(tagged("red")).await, (vec!["k0".into(), "k1".into()], Some("k1".into())));
    let behind = tagged("red").and("tags", "blue").and("number", 1).after(Some("k3".into()));
    assert_eq!(keys(behind).await, (vec!["k4".into()], None));
    assert_eq!(keys(tagged("red").prefix("k").descending()).await.0, ["k4", "k3"]);
    let changed = Commit::new().put("k0", &note(&["green", "green"])).delete::<Note>("k1", Revision::Any);
    store.commit(changed).await.expect("a change");
    assert_eq!(keys(tagged("red")).await.0, ["k2", "k3"]);
    assert_eq!(keys(tagged("green")).await.0, ["k0"]);
    store.commit(all(&beside, 1)).await.expect("puts");
    store.swap("notes_v2", "notes").await.expect("swapped");
    assert_eq!(keys(tagged("red")).await.0, ["k0"]);
    store.commit(Commit::new().put("k7", &note(&["red"]))).await.expect("a put");
    assert_eq!(keys(tagged("red")).await.0, ["k0", "k7"]);
    store.define_collection(beside.clone()).await.expect("the name is free again");
    store.drop_collection("notes").await.expect("dropped");
    store.define::<Note>().await.expect("defined again");
    assert_eq!(keys(tagged("red")).await.0, Vec::<String>::new(), "nothing is left of what was dropped");
}
