//! A log that is read beside the process that writes it.

use std::path::Path;
use std::time::Duration;

use futures_util::future::join;
use purlin::message::Envelope;
use purlin::store::archive::Selection;
use purlin::store::audit::Audit;
use purlin::store::{
    Commit, CommitError, EventQuery, Expected, LogFilter, Position, ReadError, Recorded, Store, StreamId,
};
use purlin_sqlite::{OpenError, Options, Sqlite, open_beside};

use crate::folder::Folder;

fn stream(key: u64) -> StreamId {
    StreamId::new("thing", key).expect("a name")
}

async fn open(file: &Path) -> Store {
    Store::new(Sqlite::open(Options { run: 40, ..Options::new(file) }).await.unwrap())
}

async fn append(store: &Store, from: u64, to: u64) {
    for n in from..to {
        let event = Envelope::raw("thing.counted", n.to_string()).tagged([format!("t{}", n % 5)]);
        store.commit(Commit::new().append(stream(n % 7), Expected::Any, [event])).await.unwrap();
    }
}

async fn log(store: &Store) -> Vec<Recorded> {
    store.read_log(Position::START, &LogFilter::all(), 1000).await.unwrap().events
}

/// Waits until a log is seen to go so far.
async fn until(store: &Store, head: u64) {
    store.watch().wait_for(|seen| *seen >= Position(head)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_is_read_whether_a_process_has_it_open_or_not_and_none_is_kept_out() {
    let folder = Folder::new();
    let file = folder.file("a");
    let none = open_beside(&file, None).await.unwrap_err();
    assert!(matches!(none, OpenError::File { .. }) && !file.exists(), "nothing is made: {none}");
    let store = open(&file).await;
    append(&store, 0, 20).await;
    let beside = open_beside(&file, None).await.unwrap();
    assert_eq!((beside.log_id(), beside.head()), (store.log_id(), Position(20)));
    append(&store, 20, 30).await;
    until(&beside, 30).await;
    assert_eq!(log(&beside).await, log(&store).await);
    let tagged = LogFilter { matching: Some(EventQuery::tagged(["t3"])), ..LogFilter::all() };
    let found = beside.read_log(Position::START, &tagged, 100).await.unwrap();
    assert_eq!(found.events.len(), 6);
    store.close().await;
    assert_eq!(log(&beside).await.len(), 30, "also when it is closed");
    let store = open(&file).await;
    append(&store, 30, 40).await;
    until(&beside, 40).await;
    assert_eq!(log(&beside).await, log(&store).await);
    let late = open_beside(&file, None).await.unwrap();
    store.close().await;
    beside.close().await;
    assert_eq!(log(&late).await.len(), 40);
    assert!(matches!(
        beside.read_log(Position::START, &LogFilter::all(), 1).await,
        Err(ReadError::Unavailable(_))
    ));
}

#[tokio::test(flavor = "multi_thread")]
async fn who_closes_a_store_leaves_all_in_its_file_also_when_it_is_read_beside() {
    let (folder, other) = (Folder::new(), Folder::new());
    let file = folder.file("a");
    let store = open(&file).await;
    let beside = open_beside(&file, None).await.unwrap();
    append(&store, 0, 20).await;
    until(&beside, 20).await;
    store.close().await;
    let log_of_sqlite = file.with_extension("db-wal");
    assert_eq!(std::fs::metadata(log_of_sqlite).unwrap().len(), 0);
    std::fs::copy(&file, other.file("a")).unwrap();
    let copied = open(&other.file("a")).await;
    assert_eq!(log(&copied).await, log(&beside).await);
    assert_eq!(copied.head(), Position(20));
    copied.close().await;
    beside.close().await;
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_file_that_cannot_be_read_is_not_kept_open() {
    let folder = Folder::new();
    let file = folder.file("a");
    open(&file).await.close().await;
    let connection = rusqlite::Connection::open(&file).unwrap();
    connection.execute_batch("DROP TABLE _event").unwrap();
    drop(connection);
    let refused = open_beside(&file, None).await.unwrap_err();
    assert!(matches!(refused, OpenError::Database { .. }), "{refused}");
    let is_open = |fd: std::fs::DirEntry| std::fs::read_link(fd.path()).is_ok_and(|to| to == file);
    assert!(!std::fs::read_dir("/proc/self/fd").unwrap().any(|fd| is_open(fd.unwrap())));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_follower_sees_all_that_another_writes_and_archives() {
    let folder = Folder::new();
    let file = folder.file("a");
    let store = open(&file).await;
    append(&store, 0, 300).await;
    let beside = open_beside(&file, None).await.unwrap();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let audit = Audit { page: 7, behind: 50, ..Audit::default() };
    let wait = async {
        let _ = stopped.await;
    };
    let write = async {
        until(&beside, 300).await;
        let moved = store.archive(&Selection::category("thing"), |_| ()).await.unwrap();
        assert!(moved.events > 200, "{moved:?}");
        append(&store, 300, 600).await;
        until(&beside, 600).await;
        let _ = stop.send(());
    };
    let (followed, ()) = join(audit.follow(&beside, Position::START, wait, |_| ()), write).await;
    let followed = followed.unwrap();
    assert!(followed.report.is_clean(), "{followed}");
    assert_eq!(followed.report.events, 600);
    assert_eq!(log(&beside).await, log(&store).await);
    beside.close().await;
    store.close().await;
    std::fs::rename(folder.path().join("a.db.archive"), folder.file("away")).unwrap();
    let away = open_beside(&file, None).await.unwrap();
    assert!(away.read_log(Position::START, &LogFilter::all(), 10).await.is_err());
    let found = open_beside(&file, Some(folder.file("away"))).await.unwrap();
    assert_eq!(log(&found).await.len(), 600);
}

#[tokio::test(flavor = "multi_thread")]
async fn another_file_in_its_place_is_not_taken_for_it() {
    let folder = Folder::new();
    let file = folder.file("a");
    let store = open(&file).await;
    append(&store, 0, 20).await;
    store.close().await;
    let beside = open_beside(&file, None).await.unwrap();
    let (mut subscription, audit) =
        (beside.subscribe(Position(20), LogFilter::all()).unwrap(), Audit::default());
    std::fs::rename(&file, folder.file("old")).unwrap();
    let gone = beside.read_log(Position::START, &LogFilter::all(), 10).await.unwrap_err();
    assert!(matches!(gone, ReadError::Unavailable(_)), "{gone}");
    purlin_sqlite::restore(folder.file("old"), &file).await.unwrap();
    // Who waits for something new hears of it too.
    let following = audit.follow(&beside, Position(20), std::future::pending(), |_| ());
    let waited = async { join(following, subscription.next()).await };
    let (followed, next) = tokio::time::timeout(Duration::from_secs(60), waited).await.expect("they end");
    for refused in [followed.unwrap_err(), next.unwrap_err()] {
        let ReadError::Unavailable(cause) = refused else { panic!("it cannot be read") };
        assert!(cause.to_string().contains("is not the file any more"), "{cause}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_but_the_log_is_read_beside_a_store_and_nothing_is_written() {
    let folder = Folder::new();
    let store = open(&folder.file("a")).await;
    append(&store, 0, 3).await;
    let beside = open_beside(folder.file("a"), None).await.unwrap();
    let read = beside.read_stream(&stream(1), 1, 10).await.unwrap_err();
    assert!(matches!(read, ReadError::Unavailable(_)), "{read}");
    let event = Envelope::raw("thing.counted", "1");
    let written = beside.commit(Commit::new().append(stream(1), Expected::Any, [event])).await.unwrap_err();
    assert!(matches!(written, CommitError::Unavailable(_)), "{written}");
    assert!(beside.backup(&folder.file("copy")).await.is_err());
    assert_eq!(store.head(), Position(3));
}
