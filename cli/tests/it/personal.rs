//! The master key of personal keys, as an operator sees it and gives it up.

use purlin::store::personal::{MasterKey, Personal, Subject};
use purlin::store::{Commit, Row, Store};
use serde::{Deserialize, Serialize};

use crate::process::{Folder, purlin};

#[derive(Debug, Serialize, Deserialize)]
struct Named {
    name: Personal<String>,
}

impl Row for Named {
    const COLLECTION: &'static str = "named";
}

fn master(key: u8) -> MasterKey {
    MasterKey::new(&[key; 32])
}

async fn open(data: &Folder) -> Store {
    purlin_sqlite::open(data.path().join("users.db")).await.expect("a store")
}

async fn write(data: &Folder, key: Option<u8>, who: &str) -> bool {
    let bare = open(data).await;
    let store = match key {
        Some(key) => bare.clone().with_master_key(master(key)),
        None => bare.clone(),
    };
    store.define::<Named>().await.expect("a collection");
    let name = Personal::new(&Subject::new(who).expect("a name"), "Ada".to_owned());
    let written = store.commit(Commit::new().put(who, &Named { name })).await.is_ok();
    bare.close().await;
    written
}

#[tokio::test]
async fn a_master_key_is_told_and_one_that_is_lost_is_given_up() {
    let data = Folder::new();
    assert!(write(&data, None, "ada").await && write(&data, Some(1), "bob").await);
    assert!(!write(&data, Some(2), "carl").await && !write(&data, None, "carl").await);
    let (first, second) = (master(1).name().to_owned(), master(2).name().to_owned());
    let told = purlin(&data, "doctor").await;
    let line = told.out.lines().find(|line| line.contains("users: personal keys")).expect("it is told");
    assert!(line.starts_with("ok") && line.contains(&format!("1 under the master key `{first}`")), "{line}");
    assert!(line.contains("1 without one"), "{line}");

    let other = purlin(&data, &format!("store abandon-master-key {second} --yes")).await;
    assert_eq!((other.status, other.err.contains(&first)), (1, true), "{}", other.err);
    let asked = purlin(&data, &format!("store abandon-master-key {first}")).await;
    assert_eq!((asked.status, asked.err.contains("1 keys of users")), (1, true), "{}", asked.err);
    assert!(!write(&data, Some(2), "carl").await, "nothing was done");
    let done = purlin(&data, &format!("store abandon-master-key {first} --yes")).await;
    assert_eq!(done.status, 0, "{}", done.err);
    assert!(write(&data, Some(2), "carl").await && !write(&data, Some(1), "dora").await);
    let told = purlin(&data, "doctor").await;
    let line = told.out.lines().find(|line| line.contains("users: personal keys")).expect("it is told");
    assert!(line.starts_with("warn") && line.contains(&format!("1 under another one, `{first}`")), "{line}");
}
