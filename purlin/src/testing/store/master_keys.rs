//! A store makes the keys of personal data under one master key, and remembers which.

use futures_util::future::join_all;
use serde::{Deserialize, Serialize};

use crate::message::{Envelope, Event};
use crate::store::personal::{MasterKey, Personal, PersonalKeys, Subject, WrongMasterKey};
use crate::store::{Commit, CommitError, Committed, Expected, Store, StreamId};

use super::Harness;

#[derive(Debug, Serialize, Deserialize)]
enum Happened {
    Named { name: Personal<String> },
}

impl Event for Happened {}

pub(super) async fn run<H: Harness>(harness: &H) {
    of_two_who_are_first_one_is_right(&harness.open("master-first").await).await;
    a_store_without_one_may_get_one(&harness.open("master-later").await).await;
    if H::DURABLE {
        it_is_remembered(harness).await;
    }
}

fn master(key: u8) -> MasterKey {
    MasterKey::new(&[key; 32])
}

/// A handle as that of another process.
fn with(store: &Store, key: u8) -> Store {
    store.clone().with_master_key(master(key))
}

/// Writes something about somebody new.
async fn write(store: &Store, who: impl std::fmt::Display) -> Result<Committed, CommitError> {
    let subject = Subject::new(&who).expect("a name");
    let event = Happened::Named { name: Personal::new(&subject, "Ada".into()) };
    let event = Envelope::new("thing", &event).expect("an event");
    let stream = StreamId::new("thing", &who).expect("a name");
    store.commit(Commit::new().append(stream, Expected::Any, [event])).await
}

async fn can_read(store: &Store, who: &str) -> bool {
    let stream = StreamId::new("thing", who).expect("a name");
    let event = store.read_stream(&stream, 1, 1).await.expect("readable").remove(0).envelope;
    let Happened::Named { name } = event.decode().expect("an event");
    name.get().is_some()
}

fn wrong<T: std::fmt::Debug>(refused: Result<T, CommitError>) -> WrongMasterKey {
    match refused {
        Err(CommitError::MasterKey(wrong)) => wrong,
        other => panic!("it was not refused: {other:?}"),
    }
}

async fn of_two_who_are_first_one_is_right(store: &Store) {
    // Several handles of each: no two know of each other.
    let writes = (0..20_u8).map(|n| async move {
        let key = 1 + n % 2;
        (key, write(&with(store, key), n).await)
    });
    let done = join_all(writes).await;
    let right = done.iter().find(|(_, done)| done.is_ok()).expect("one is right").0;
    let (expected, given) = (master(right), master(3 - right));
    let named = |key: &MasterKey| key.name().to_owned();
    for (key, done) in done {
        if key == right {
            done.expect("all of his are");
            continue;
        }
        let said = wrong(done);
        assert_eq!(said, WrongMasterKey { expected: named(&expected), given: Some(named(&given)) });
        let told = said.to_string();
        assert!(told.contains(expected.name()) && told.contains(given.name()), "{told}");
    }
    let wrapped = [(named(&expected), 10)].into();
    let keys = store.personal_keys().await.expect("readable");
    assert_eq!(keys, PersonalKeys { master: Some(named(&expected)), wrapped, ..PersonalKeys::default() });

    assert_eq!(wrong(write(store, "bob").await).given, None, "nor is one made without any");
    wrong(store.check_master_key(None).await);
    wrong(store.check_master_key(Some(&given)).await);
    store.check_master_key(Some(&expected)).await.expect("the right one");
    let old = if right == 1 { "0" } else { "1" };
    assert!(wrong(write(store, old).await).given.is_none(), "nor is an old one used that it cannot open");
    assert!(!can_read(store, old).await && can_read(&with(store, right), old).await);
    store.forget(&Subject::new("carl").expect("a name"), Commit::new()).await.expect("it needs no key");
}

async fn a_store_without_one_may_get_one(store: &Store) {
    store.check_master_key(None).await.expect("nothing was ever sealed");
    write(store, "ada").await.expect("committed");
    let keys = store.personal_keys().await.expect("readable");
    assert_eq!(keys, PersonalKeys { plain: 1, ..PersonalKeys::default() });
    store.check_master_key(Some(&master(1))).await.expect("it has none yet");
    let wrapping = with(store, 1);
    write(&wrapping, "ada").await.expect("her key is there");
    write(store, "bob").await.expect("no key was made under the other");
    write(&wrapping, "carl").await.expect("committed");
    // It was let make keys a moment ago.
    assert_eq!(wrong(write(store, "dora").await).expected, master(1).name());
    write(store, "ada").await.expect("her key was made without one");
    for who in ["ada", "bob", "carl"] {
        assert!(can_read(&wrapping, who).await, "{who}");
    }
    let keys = store.personal_keys().await.expect("readable");
    let name = master(1).name().to_owned();
    let wrapped = [(name.clone(), 1)].into();
    assert_eq!(keys, PersonalKeys { master: Some(name), plain: 2, wrapped, ..PersonalKeys::default() });
    for fixed in ["purlin_wrapping", crate::store::personal::KEYS] {
        assert!(matches!(store.drop_collection(fixed).await, Err(CommitError::Invalid(_))), "{fixed}");
    }
}

async fn it_is_remembered<H: Harness>(harness: &H) {
    let store = harness.open("master-again").await;
    write(&with(&store, 1), "ada").await.expect("committed");
    store.close().await;
    drop(store);
    let store = harness.open("master-again").await;
    assert_eq!(wrong(store.check_master_key(None).await).expected, master(1).name());
    wrong(write(&with(&store, 2), "bob").await);
    write(&with(&store, 1), "bob").await.expect("committed");
    store.close().await;
}
