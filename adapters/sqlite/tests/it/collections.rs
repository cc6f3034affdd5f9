//! The tables of collections.

use futures_util::FutureExt as _;
use purlin::store::{Collection, Commit, Field, Query, Row};

use crate::folder::Folder;

#[tokio::test]
async fn what_a_swap_put_aside_goes_away_and_the_rest_stays() {
    let folder = Folder::new();
    let store = purlin_sqlite::open(folder.file("a")).await.unwrap();
    let fields = vec![Field::integer("n"), Field::texts("tags")];
    let [live, next] =
        ["rows", "rows_v2"].map(|name| Collection { name: name.into(), fields: fields.clone().into() });
    for (of, count) in [(&live, 1700), (&next, 3)] {
        store.define_collection(of.clone()).await.unwrap();
        let put = |commit: Commit, n: i64| {
            let row = serde_json::json!({ "n": n, "tags": ["a", n.to_string()] });
            commit.put_in(of, n.to_string(), &row, purlin::store::Revision::Any, None)
        };
        store.commit((0..count).fold(Commit::new(), put)).await.unwrap();
    }
    store.swap("rows_v2", "rows").await.unwrap();
    let found = store.list_records("rows", Query::all().and("tags", "a")).await.unwrap();
    assert_eq!(found.records.len(), 3);
    store.drop_collection("rows_v2").await.unwrap();
    store.close().await;
    // It is put aside; whoever opens the store next goes on with it.
    let file = rusqlite::Connection::open(folder.file("a")).unwrap();
    let tables = || {
        let mut select = file
            .prepare("SELECT name FROM sqlite_schema WHERE type <> 'index' AND name LIKE '%rows%'")
            .unwrap();
        let names = select.query_map([], |row| row.get::<_, String>(0)).unwrap();
        names.collect::<Result<Vec<_>, _>>().unwrap()
    };
    assert_eq!(tables(), ["rows", "rows.tags"]);
    let gone = || {
        let sql = "SELECT count(*) FROM sqlite_schema WHERE name LIKE '\\_gone%' ESCAPE '\\'";
        file.query_row(sql, [], |row| row.get::<_, i64>(0)).unwrap()
    };
    let store = purlin_sqlite::open(folder.file("a")).await.unwrap();
    while gone() > 0 {
        tokio::task::yield_now().await;
    }
    let found = store.list_records("rows", Query::all().and("n", 2)).await.unwrap();
    assert_eq!(found.records.len(), 1);
    store.close().await;
}

#[tokio::test]
async fn what_was_damaged_goes_with_its_collection_also_when_nobody_waits_for_that() {
    let folder = Folder::new();
    let rows = Collection { name: "rows".into(), fields: [].as_slice().into() };
    let put = || Commit::new().put_in(&rows, "k", &1, purlin::store::Revision::Any, None);
    let store = purlin_sqlite::open(folder.file("a")).await.unwrap();
    store.define_collection(rows.clone()).await.unwrap();
    store.commit(put()).await.unwrap();
    store.close().await;
    let file = rusqlite::Connection::open(folder.file("a")).unwrap();
    file.execute_batch("UPDATE rows SET _value = '2'").unwrap();
    drop(file);
    let store = purlin_sqlite::open(folder.file("a")).await.unwrap();
    assert!(store.list_records("rows", Query::all()).await.is_err());
    assert!(store.drop_collection("rows").now_or_never().is_none(), "it is asked for, and not waited for");
    // Changes are made one after the other.
    store.drop_collection("none").await.unwrap();
    store.define_collection(rows.clone()).await.unwrap();
    store.commit(put()).await.unwrap();
    assert_eq!(store.list_records("rows", Query::all()).await.unwrap().records.len(), 1);
    store.close().await;
}

#[tokio::test]
async fn a_collection_of_an_older_program_gets_what_it_lacks() {
    let folder = Folder::new();
    let tagged = Collection { name: "tagged".into(), fields: vec![Field::texts("tags")].into() };
    let store = purlin_sqlite::open(folder.file("a")).await.unwrap();
    let untagged = Collection { fields: [].as_slice().into(), ..tagged.clone() };
    store.define_collection(untagged.clone()).await.unwrap();
    let row = serde_json::json!({ "tags": ["x"] });
    let put = Commit::new().put_in(&untagged, "k", &row, purlin::store::Revision::Any, None);
    store.commit(put).await.unwrap();
    store.close().await;
    let file = rusqlite::Connection::open(folder.file("a")).unwrap();
    file.execute_batch("UPDATE _collection SET fields = 'tags:texts'").unwrap();
    drop(file);
    let store = purlin_sqlite::open(folder.file("a")).await.unwrap();
    let found = store.list_records("tagged", Query::all().and("tags", "x")).await.unwrap();
    assert_eq!(found.records.len(), 1);
    store.close().await;
}

#[tokio::test]
async fn a_collection_may_have_any_legal_name_and_fields() {
    #[derive(serde::Serialize, serde::Deserialize)]
    struct Odd {
        due: String,
        key: i64,
        value: bool,
    }
    impl Row for Odd {
        const COLLECTION: &'static str = "orders__status";
        const FIELDS: &'static [Field] =
            &[Field::text("due"), Field::integer("key"), Field::boolean("value")];
    }
    let folder = Folder::new();
    let store = purlin_sqlite::open(folder.file("a")).await.unwrap();
    let orders = Collection { name: "orders".into(), fields: vec![Field::text("status")].into() };
    store.define_collection(orders).await.unwrap();
    store.define::<Odd>().await.unwrap();
    let odd = Odd { due: "soon".into(), key: 1, value: true };
    store.commit(Commit::new().put("a", &odd)).await.unwrap();
    let found =
        store.list::<Odd>(Query::all().and("due", "soon").and("key", 1).and("value", true)).await.unwrap();
    assert_eq!(found.records.len(), 1);
    store.close().await;
}

/// A member nested deeper than SQLite's JSON functions read.
#[derive(serde::Serialize, serde::Deserialize)]
struct Deep {
    labels: Vec<String>,
    state: String,
    below: Box<serde_json::value::RawValue>,
}

impl Row for Deep {
    const COLLECTION: &'static str = "deep";
    const FIELDS: &'static [Field] = &[Field::texts("labels")];
}

#[tokio::test]
async fn a_record_that_sqlite_cannot_look_into_stops_nobody() {
    let folder = Folder::new();
    let store = purlin_sqlite::open(folder.file("a")).await.unwrap();
    store.define::<Deep>().await.unwrap();
    let below = format!("{}1{}", "[".repeat(2_000), "]".repeat(2_000));
    let below = serde_json::value::RawValue::from_string(below).unwrap();
    let row = Deep { labels: vec!["a".into()], state: "new".into(), below };
    store.commit(Commit::new().put("one", &row)).await.unwrap();
    store.commit(Commit::new().put("one", &row)).await.unwrap();
    assert!(store.get::<Deep>("one").await.unwrap().is_some(), "it is found by its key");
    let more = Collection { name: "deep".into(), fields: vec![Field::text("state")].into() };
    store.define_collection(more).await.unwrap();
    store.close().await;
}
