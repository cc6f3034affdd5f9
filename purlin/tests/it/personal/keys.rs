//! Keys: who has them, and who knows that they are gone.

use std::time::Duration;

use purlin::aggregate::Repository;
use purlin::message::{Envelope, new_id};
use purlin::store::memory::{Faults, Memory};
use purlin::store::personal::{KEYS, MasterKey, Personal, PersonalState, Subject};
use purlin::store::{Commit, CommitError, Expected, Query, Store, StreamId};

use super::{Heard, User, UserEvent, ada, forget, registered};

#[tokio::test]
async fn without_its_master_key_a_store_gives_placeholders() {
    let memory = Memory::new();
    let with = |key: u8| Store::new(memory.clone()).with_master_key(MasterKey::new(&[key; 32]));
    registered(&with(1)).await;
    let name = async |store: Store| {
        Repository::<User>::new(&store).load(1).await.unwrap().name.clone().unwrap().into_value()
    };
    assert_eq!(name(with(1)).await.as_deref(), Some("Ada"));
    for store in [with(2), Store::new(memory.clone())] {
        assert_eq!(name(store.clone()).await, None);
        let again = UserEvent::Registered { name: Personal::new(&ada(), "Ada".into()) };
        let envelope = Envelope::new("user", &again).unwrap();
        let commit = Commit::new().append(StreamId::new("user", 9).unwrap(), Expected::Any, [envelope]);
        let refused = store.commit(commit).await.unwrap_err();
        assert!(refused.to_string().contains("wrapped in the master key"), "{refused}");
    }
    // What cannot be opened stays where it is, and goes nowhere else.
    let (owner, without) = (with(1), Store::new(memory.clone()));
    owner.define::<Heard>().await.unwrap();
    let heard = Heard { name: Personal::new(&ada(), "Ada".into()) };
    owner.commit(Commit::new().put("heard", &heard)).await.unwrap();
    let sealed = without.get::<Heard>("heard").await.unwrap().unwrap();
    without.commit(Commit::new().put("heard", &sealed)).await.unwrap();
    let refused = without.commit(Commit::new().put("elsewhere", &sealed)).await.unwrap_err();
    assert!(refused.to_string().contains("could not be opened"), "{refused}");
    owner.commit(Commit::new().put("elsewhere", &sealed)).await.unwrap();
    for place in ["heard", "elsewhere"] {
        assert_eq!(owner.get::<Heard>(place).await.unwrap().unwrap().name, heard.name, "{place}");
    }
    let other = Store::new(memory.clone());
    other.forget(&ada(), Commit::new()).await.unwrap();
    assert_eq!(name(Store::new(memory.clone())).await, None, "forgetting needs no key");
}

#[tokio::test(start_paused = true)]
async fn another_process_knows_within_a_second_that_a_subject_is_forgotten() {
    let memory = Memory::new();
    let (store, other) = (Store::new(memory.clone()), Store::new(memory.clone()));
    let users = registered(&store).await;
    let name = async || Repository::<User>::new(&other).load(1).await.unwrap().name.clone().unwrap().state();
    assert_eq!(name().await, PersonalState::Open);
    forget(&store, &users).await;
    tokio::time::advance(Duration::from_millis(1001)).await;
    assert_eq!(name().await, PersonalState::Forgotten);
    // Whoever writes knows at once.
    let (memory, bob) = (Memory::new(), Subject::new("bob").unwrap());
    let (store, other) = (Store::new(memory.clone()), Store::new(memory));
    let write = |n: u32| {
        let event = UserEvent::Registered { name: Personal::new(&bob, "Bob".into()) };
        let event = Envelope::new("user", &event).unwrap();
        Commit::new().append(StreamId::new("user", n).unwrap(), Expected::NoStream, [event])
    };
    other.commit(write(1)).await.unwrap();
    store.forget(&bob, Commit::new()).await.unwrap();
    assert!(matches!(other.commit(write(2)).await, Err(CommitError::Forgotten(_))));
}

#[tokio::test(start_paused = true)]
async fn a_crowd_that_another_process_has_just_forgotten_stops_no_commit() {
    let memory = Memory::new();
    let (store, other) = (Store::new(memory.clone()), Store::new(memory));
    let crowd: Vec<_> = (0..50).map(|n| Subject::new(format_args!("user-{n}")).unwrap()).collect();
    let names = crowd.iter().map(|of| Heard { name: Personal::new(of, "one of many".into()) });
    store.define::<Heard>().await.unwrap();
    let all = names.enumerate().fold(Commit::new(), |all, (n, heard)| all.put(n.to_string(), &heard));
    store.commit(all).await.unwrap();
    let mut again = Commit::new();
    for record in store.list::<Heard>(Query::all().limit(50)).await.unwrap().records {
        again = again.put(record.key.clone(), &record.decode::<Heard>().unwrap());
    }
    let forget = crowd.iter().fold(Commit::new(), |forget, subject| forget.forget(subject));
    other.commit(forget).await.unwrap();
    store.commit(again).await.unwrap();
    let name = store.get::<Heard>("7").await.unwrap().unwrap().name;
    assert_eq!(name.state(), PersonalState::Forgotten);
}

#[tokio::test(start_paused = true)]
async fn who_knew_a_subject_before_its_first_value_reads_it_at_once() {
    let memory = Memory::new();
    let (store, other) = (Store::new(memory.clone()), Store::new(memory));
    let event = UserEvent::Registered { name: Personal::new(&ada(), "Ada".into()) };
    let event = Envelope::new("user", &event).unwrap();
    // It comes to nothing, but has asked for the key.
    let nothing = Commit::new().append(StreamId::new("user", 9).unwrap(), Expected::Version(7), [event]);
    assert!(matches!(other.commit(nothing).await, Err(CommitError::Conflict(_))));
    registered(&store).await;
    let user = Repository::<User>::new(&other).load(1).await.unwrap();
    assert_eq!(user.name.as_ref().and_then(Personal::get).map(String::as_str), Some("Ada"));
}

#[tokio::test]
async fn a_commit_that_did_not_happen_leaves_no_key() {
    let memory = Memory::new();
    let store = Store::new(memory.clone());
    let event = |name: &str| UserEvent::Registered { name: Personal::new(&ada(), name.to_owned()) };
    let stream = StreamId::new("user", 1).unwrap();
    let write = |expected| {
        Commit::new().append(stream.clone(), expected, [Envelope::new("user", &event("Ada")).unwrap()])
    };
    let keys = async || store.list_records(KEYS, Query::all()).await.unwrap().records.len();
    memory.set_faults(Faults { refuse: 1, ..Faults::default() });
    assert!(matches!(store.commit(write(Expected::NoStream)).await, Err(CommitError::Unavailable(_))));
    assert!(matches!(store.commit(write(Expected::Version(7))).await, Err(CommitError::Conflict(_))));
    assert_eq!(keys().await, 0);
    let (id, keep) = (new_id(), Duration::from_secs(60));
    assert!(!store.commit(write(Expected::NoStream).with_id(id, keep)).await.unwrap().repeated);
    assert!(store.commit(write(Expected::NoStream).with_id(id, keep)).await.unwrap().repeated);
    assert_eq!(keys().await, 1);
    // Another life has the key that was made, and its data.
    let user = Repository::<User>::new(&Store::new(memory)).load(1).await.unwrap();
    assert_eq!(user.name.as_ref().and_then(Personal::get).map(String::as_str), Some("Ada"));
    // Whom it was about is forgotten, and it has happened all the same.
    store.forget(&ada(), Commit::new()).await.unwrap();
    assert!(store.commit(write(Expected::NoStream).with_id(id, keep)).await.unwrap().repeated);
    let another = store.commit(write(Expected::Any).with_id(new_id(), keep)).await;
    assert!(matches!(another, Err(CommitError::Forgotten(_))));
}
