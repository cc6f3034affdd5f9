//! Which master key a store makes its keys under, when it has not remembered it, and wherever it is brought.

use purlin::message::{Clock, Envelope, Fault, FaultKind};
use purlin::store::memory::Memory;
use purlin::store::personal::{KEYS, MasterKey, Personal, Subject};
use purlin::store::{
    Collection, Commit, CommitError, Committed, Expected, Query, Revision, Row, Store, StreamId, transfer,
};
use serde::{Deserialize, Serialize};

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

fn with(store: &Store, key: u8) -> Store {
    store.clone().with_master_key(master(key))
}

async fn write(store: &Store, who: &str) -> Result<Committed, CommitError> {
    store.define::<Named>().await.unwrap();
    let name = Personal::new(&Subject::new(who).unwrap(), "Ada".to_owned());
    store.commit(Commit::new().put(who, &Named { name })).await
}

/// Leaves the store as one from before it remembered.
async fn forget_which(store: &Store) {
    let collection = Collection { name: "purlin_wrapping".into(), fields: [].as_slice().into() };
    let commit = Commit::new().delete_in(&collection, "keys", Revision::Any);
    store.sealed().commit(commit).await.unwrap();
}

fn expected(refused: Result<(), CommitError>) -> Option<String> {
    match refused {
        Ok(()) => None,
        Err(CommitError::MasterKey(wrong)) => Some(wrong.expected),
        Err(error) => panic!("{error}"),
    }
}

#[tokio::test]
async fn a_store_that_has_not_remembered_it_means_what_most_of_its_keys_are_under() {
    let store = Store::memory();
    write(&store, "plain-1").await.unwrap();
    write(&store, "plain-2").await.unwrap();
    forget_which(&store).await;
    assert_eq!(expected(store.check_master_key(Some(&master(1))).await), None, "it may get one");
    assert_eq!(expected(store.check_master_key(None).await), None);
    write(&with(&store, 1), "ada").await.unwrap();
    write(&with(&store, 1), "bob").await.unwrap();
    forget_which(&store).await;
    assert_eq!(expected(store.check_master_key(None).await).as_deref(), Some(master(1).name()));
    let refused = write(&store, "carl").await.unwrap_err();
    assert!(matches!(&refused, CommitError::MasterKey(wrong) if wrong.given.is_none()), "{refused:?}");
    assert_eq!((refused.kind(), refused.code()), (FaultKind::Unavailable, "wrong-master-key"));

    // One that was made under a stray key, by a program that did not ask.
    let stray = Store::new(Memory::new());
    write(&with(&stray, 2), "stray").await.unwrap();
    let stray = stray.sealed().get_record(KEYS, "stray").await.unwrap().unwrap();
    let keys = store.collections().await.unwrap().into_iter().find(|one| one.name == KEYS).unwrap();
    let row: serde_json::Value = stray.decode().unwrap();
    store.sealed().commit(Commit::new().put_in(&keys, "stray", &row, Revision::Absent, None)).await.unwrap();
    let found = store.personal_keys().await.unwrap();
    assert_eq!((found.plain, found.wrapped.len()), (2, 2));
    assert_eq!(found.master.as_deref(), Some(master(1).name()));
    assert_eq!(expected(store.check_master_key(Some(&master(2))).await).as_deref(), Some(master(1).name()));
    // The right one helps nobody there, and will not: that is a fault of the data.
    let refused = write(&with(&store, 1), "stray").await.unwrap_err();
    assert!(matches!(&refused, CommitError::Invalid(why) if why.contains(master(2).name())), "{refused:?}");
    write(&with(&store, 1), "carl").await.unwrap();
    assert!(write(&with(&store, 2), "dora").await.is_err());
}

/// Whoever keeps a great many keys has them all looked at.
#[tokio::test]
async fn all_pages_of_keys_are_looked_at() {
    let store = Store::memory();
    store.define::<Named>().await.unwrap();
    let name = |n: u32| Personal::new(&Subject::new(format!("s{n:04}")).unwrap(), "Ada".to_owned());
    for hundred in 0..25 {
        let people = (0..100).map(|n| hundred * 100 + n);
        let commit =
            people.fold(Commit::new(), |commit, n| commit.put(n.to_string(), &Named { name: name(n) }));
        store.commit(commit).await.unwrap();
    }
    write(&with(&store, 1), "z-last").await.unwrap();
    forget_which(&store).await;
    let found = store.personal_keys().await.unwrap();
    assert_eq!((found.plain, found.master.as_deref()), (2500, Some(master(1).name())));
    assert!(expected(store.check_master_key(None).await).is_some());
}

#[tokio::test]
async fn it_goes_where_the_store_goes() {
    let store = Store::memory();
    write(&with(&store, 1), "ada").await.unwrap();
    let mut lines = Vec::new();
    transfer::export(&store, &mut lines, |_| ()).await.unwrap();
    let text = String::from_utf8(lines).unwrap();
    // One that is cut off has brought what it wrote already; the second brings all anew.
    let cut: String = text.lines().take(text.lines().count() - 1).map(|line| format!("{line}\n")).collect();
    let other = Store::new(Memory::of_log(store.log_id(), Clock::system()));
    transfer::import(&other, cut.as_bytes(), |_| ()).await.unwrap_err();
    transfer::import(&other, text.as_bytes(), |_| ()).await.unwrap();
    transfer::compare(&store, &other, |_| ()).await.unwrap();
    assert_eq!(expected(other.check_master_key(None).await).as_deref(), Some(master(1).name()));
    assert!(write(&other, "bob").await.is_err());
    write(&with(&other, 1), "bob").await.unwrap();
    let remembered = other.list_records("purlin_wrapping", Query::all()).await.unwrap().records;
    assert_eq!(remembered.len(), 1);
}

#[tokio::test]
async fn tenants_share_that_of_their_store() {
    let store = Store::memory();
    write(&with(&store, 1).tenant("acme").unwrap(), "ada").await.unwrap();
    assert!(expected(store.check_master_key(None).await).is_some());
    for refused in [&store, &with(&store, 2)] {
        let refused = write(&refused.tenant("other").unwrap(), "ada").await.unwrap_err();
        assert!(matches!(refused, CommitError::MasterKey(_)), "{refused}");
    }
    write(&with(&store, 1).tenant("other").unwrap(), "ada").await.unwrap();
}

#[tokio::test]
async fn what_is_refused_is_all_of_a_commit() {
    let store = Store::memory();
    write(&with(&store, 1), "ada").await.unwrap();
    let stream = StreamId::new("thing", 1).unwrap();
    let name = Personal::new(&Subject::new("bob").unwrap(), "Bob".to_owned());
    let commit = Commit::new()
        .append(stream.clone(), Expected::NoStream, [Envelope::raw("thing.seen", "1")])
        .put("bob", &Named { name });
    assert!(store.commit(commit).await.is_err());
    assert!(store.read_stream(&stream, 1, 1).await.unwrap().is_empty());
}
