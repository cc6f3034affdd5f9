//! Backups, and restoring from one.

use purlin::message::Envelope;
use purlin::store::{Commit, Expected, Position, StreamId, TokenError};
use purlin_sqlite::OpenError;

use crate::folder::Folder;

fn stream(key: u64) -> StreamId {
    StreamId::new("thing", key).expect("a name")
}

fn event() -> Envelope {
    Envelope::raw("thing.counted", "{}")
}

#[tokio::test]
async fn a_backup_is_a_store_as_of_one_instant() {
    let folder = Folder::new();
    let store = purlin_sqlite::open(folder.file("a")).await.unwrap();
    store.commit(Commit::new().append(stream(1), Expected::Any, [event()])).await.unwrap();
    store.backup(&folder.file("copy")).await.unwrap();
    store.commit(Commit::new().append(stream(1), Expected::Any, [event()])).await.unwrap();
    assert!(store.backup(&folder.file("copy")).await.is_err(), "a file that is there is not written over");
    let copy = purlin_sqlite::open(folder.file("copy")).await.unwrap();
    assert_eq!((copy.head(), store.head()), (Position(1), Position(2)));
    copy.close().await;
    store.close().await;
}

#[tokio::test]
async fn a_copy_that_goes_on_is_another_incarnation_each_time_one_is_restored() {
    let folder = Folder::new();
    let store = purlin_sqlite::open(folder.file("a")).await.unwrap();
    store.commit(Commit::new().append(stream(1), Expected::Any, [event()])).await.unwrap();
    let token = store.token(store.head());
    let before = store.log_id();
    store.backup(&folder.file("copy")).await.unwrap();
    store.close().await;
    // A backup, a backup of it that nobody has opened, and the store's own files.
    purlin_sqlite::restore(folder.file("copy"), folder.file("b")).await.unwrap();
    purlin_sqlite::restore(folder.file("copy"), folder.file("c")).await.unwrap();
    purlin_sqlite::restore(folder.file("a"), folder.file("d")).await.unwrap();
    let again = purlin_sqlite::restore(folder.file("copy"), folder.file("b")).await.unwrap_err();
    assert!(matches!(again, OpenError::Database { .. }), "what is there is not written over: {again}");
    assert!(purlin_sqlite::restore(folder.file("none"), folder.file("e")).await.is_err());
    let mut seen = vec![before];
    for name in ["copy", "b", "c", "d"] {
        let restored = purlin_sqlite::open(folder.file(name)).await.unwrap();
        let id = restored.log_id();
        assert_eq!((id.log, restored.head()), (before.log, Position(1)), "`{name}` is the same log");
        assert!(!seen.contains(&id), "`{name}` begins a life of its own");
        assert_eq!(restored.parse_token(&token).await, Err(TokenError::OtherIncarnation));
        seen.push(id);
        restored.close().await;
        let reopened = purlin_sqlite::open(folder.file(name)).await.unwrap();
        assert_eq!(reopened.log_id(), id, "and goes on with it");
        reopened.close().await;
    }
    let original = purlin_sqlite::open(folder.file("a")).await.unwrap();
    assert_eq!((original.log_id(), original.parse_token(&token).await), (before, Ok(Position(1))));
    original.close().await;
}

#[tokio::test]
async fn a_backup_that_fails_leaves_nothing_and_reads_go_on_beside_several() {
    let folder = Folder::new();
    let store = purlin_sqlite::open(folder.file("a")).await.unwrap();
    store.commit(Commit::new().append(stream(1), Expected::Any, [event()])).await.unwrap();
    let names = ["b", "c", "d", "e"].map(|name| folder.file(name));
    let backups = futures_util::future::join_all(names.iter().map(|to| store.backup(to)));
    let (made, read) = futures_util::future::join(backups, store.read_stream(&stream(1), 1, 10)).await;
    assert!(made.iter().all(Result::is_ok), "{made:?}");
    assert_eq!(read.unwrap().len(), 1);
    let nowhere = folder.file("none").join("copy.db");
    assert!(store.backup(&nowhere).await.is_err());
    // What another process left that died while it wrote one.
    std::fs::write(folder.file("f").with_extension("db.part"), "half of it").unwrap();
    store.backup(&folder.file("f")).await.unwrap();
    store.close().await;
    assert!(store.backup(&folder.file("g")).await.is_err(), "a closed store writes no backup");
    let left = std::fs::read_dir(folder.file("a").parent().unwrap()).unwrap();
    let parts = left.filter(|entry| entry.as_ref().unwrap().path().to_string_lossy().contains(".part"));
    assert_eq!(parts.count(), 0);
}
