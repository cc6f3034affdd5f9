//! What is personal is nowhere in the files in plain, and a key that is destroyed is nowhere at all.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::path::Path;

use purlin::message::Envelope;
use purlin::store::personal::{KEYS, Personal, PersonalState, Subject};
use purlin::store::{Commit, Expected, Query, Row, Store, StreamId};
use serde::{Deserialize, Serialize};

use crate::folder::Folder;

#[derive(Serialize, Deserialize)]
struct Card {
    name: Personal<String>,
}

impl Row for Card {
    const COLLECTION: &'static str = "cards";
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum UserEvent {
    Named { name: Personal<String> },
}

impl purlin::message::Event for UserEvent {}

fn subject(n: usize) -> Subject {
    Subject::new(format!("user-{n}")).unwrap()
}

async fn write(store: &Store, n: usize) {
    let name = || Personal::new(&subject(n), format!("Plain Name {n}"));
    let named = Envelope::new("user", &UserEvent::Named { name: name() }).unwrap();
    let commit = Commit::new()
        .append(StreamId::new("user", n).unwrap(), Expected::NoStream, [named])
        .put(format!("card-{n}"), &Card { name: name() });
    store.commit(commit).await.unwrap();
}

/// The bytes of the store's file and of its write-ahead log.
fn bytes(file: &Path) -> Vec<u8> {
    let log = file.with_extension("db-wal");
    let mut bytes = std::fs::read(file).unwrap();
    bytes.extend(std::fs::read(log).unwrap_or_default());
    bytes
}

fn has(bytes: &[u8], text: &str) -> bool {
    memchr::memmem::find(bytes, text.as_bytes()).is_some()
}

/// The key of each subject, as it stands in its record.
async fn keys(store: &Store) -> Vec<(String, String)> {
    let (mut keys, mut after) = (Vec::new(), None);
    loop {
        let page = store.list_records(KEYS, Query::all().after(after).limit(1000)).await.unwrap();
        for record in page.records {
            let row: serde_json::Value = record.decode().unwrap();
            keys.extend(row["key"].as_str().map(|key| (record.key, key.to_owned())));
        }
        let Some(next) = page.next else { return keys };
        after = Some(next);
    }
}

#[tokio::test]
async fn a_name_is_never_in_the_files_and_a_destroyed_key_no_more() {
    const SUBJECTS: usize = 2_000;
    let folder = Folder::new();
    let file = folder.file("a");
    let store = purlin_sqlite::open(&file).await.unwrap();
    store.define::<Card>().await.unwrap();
    // In no order, so that the pages of the keys are split and filled again and again.
    let order = |n: usize| (n * 1_237) % SUBJECTS;
    for chunk in (0..SUBJECTS).map(order).collect::<Vec<_>>().chunks(100) {
        futures_util::future::join_all(chunk.iter().map(|n| write(&store, *n))).await;
    }
    let keys = keys(&store).await;
    assert_eq!(keys.len(), SUBJECTS);
    assert!(!has(&bytes(&file), "Plain Name"), "nothing stands in plain");
    assert!(keys.iter().any(|(_, key)| has(&bytes(&file), key)), "keys can be found by their bytes");

    let gone = |n: &usize| n.is_multiple_of(3);
    for n in (0..SUBJECTS).map(order).filter(gone) {
        store.forget(&subject(n), Commit::new()).await.unwrap();
    }
    let bytes = bytes(&file);
    let is_gone = |name: &str| gone(&name["user-".len()..].parse().unwrap());
    let left: Vec<&str> = keys
        .iter()
        .filter(|(name, key)| is_gone(name) && has(&bytes, key))
        .map(|(name, _)| name.as_str())
        .collect();
    assert!(left.is_empty(), "the keys of {} subjects are still in the files: {left:?}", left.len());
    store.close().await;

    let store = purlin_sqlite::open(&file).await.unwrap();
    for n in 0..30 {
        let card: Card = store.get(&format!("card-{n}")).await.unwrap().unwrap();
        let wanted = if gone(&n) { PersonalState::Forgotten } else { PersonalState::Open };
        assert_eq!(card.name.state(), wanted, "{n}");
    }
    store.close().await;
}

/// A page of a stream is cut at a number of bytes, of which sealed data have more: none is taken for the last one.
#[tokio::test]
async fn a_stream_of_large_values_is_read_to_its_end_in_both_directions() {
    let folder = Folder::new();
    let store = purlin_sqlite::open(folder.file("a")).await.unwrap();
    let stream = StreamId::new("user", 1).unwrap();
    for n in 0..30 {
        let name = Personal::new(&subject(1), format!("{n}{}", "x".repeat(700_000)));
        let event = Envelope::new("user", &UserEvent::Named { name }).unwrap();
        store.commit(Commit::new().append(stream.clone(), Expected::Any, [event])).await.unwrap();
    }
    assert_eq!(store.read_stream(&stream, 1, 100).await.unwrap().len(), 30);
    assert_eq!(store.read_stream_back(&stream, u64::MAX, 100).await.unwrap().len(), 30);
    store.close().await;
}
