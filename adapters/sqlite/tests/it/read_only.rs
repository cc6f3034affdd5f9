//! A disk that is read-only: said clearly, and no reason not to read.

use std::time::Duration;

use purlin::message::Envelope;
use purlin::store::{Commit, Expected, Row, Store, StreamId};
use purlin_sqlite::OpenError;
use tokio::task::JoinSet;

use crate::shim::{Disk, is_preloaded};

/// Names the folder and the mark of a read-only disk to the child; without them `the_child` has nothing to do.
const FOLDER: &str = "PURLIN_TEST_READ_ONLY_FOLDER";
const MARK: &str = "PURLIN_TEST_READ_ONLY_MARK";

#[derive(Debug, serde::Serialize, serde::Deserialize)]
struct Lease {}

impl Row for Lease {
    const COLLECTION: &'static str = "leases";
}

fn stream(n: u64) -> StreamId {
    StreamId::new("thing", n).expect("a name")
}

async fn append(store: &Store, n: u64) -> Result<(), String> {
    let commit = Commit::new().append(stream(n), Expected::NoStream, [Envelope::raw("thing.counted", "{}")]);
    let texts = |error: &dyn std::error::Error| format!("{error}: {}", error.source().expect("a reason"));
    store.commit(commit).await.map(drop).map_err(|error| texts(&error))
}

#[test]
fn the_child() {
    let (Ok(folder), Ok(mark)) = (std::env::var(FOLDER), std::env::var(MARK)) else { return };
    assert!(is_preloaded(), "the library is not preloaded: is the test linked statically?");
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(live(std::path::Path::new(&folder), &mark));
}

async fn live(folder: &std::path::Path, mark: &str) {
    let become_read_only = || std::fs::write(mark, "").unwrap();
    let become_writable = || std::fs::remove_file(mark).unwrap();
    let store = purlin_sqlite::open(folder.join("a.db")).await.unwrap();
    store.define::<Lease>().await.unwrap();
    store.commit(Commit::new().put("a", &Lease {})).await.unwrap();
    append(&store, 0).await.unwrap();
    become_read_only();
    // What of the first is true cannot be found out before the disk can be written; nobody later waits for that.
    let mut begun = JoinSet::new();
    begun.spawn({
        let store = store.clone();
        async move { append(&store, 1).await }
    });
    let soon = Duration::from_secs(1);
    let mut n = 2..;
    let refused = loop {
        let n = n.next().unwrap();
        if let Ok(Err(refused)) = tokio::time::timeout(soon, append(&store, n)).await {
            break refused;
        }
    };
    assert!(refused.contains("cannot write at the moment") && refused.contains("read-only"), "{refused}");
    assert_eq!(store.read_stream(&stream(0), 1, 10).await.unwrap().len(), 1, "reading goes on");
    assert!(store.get::<Lease>("a").await.unwrap().is_some());
    for name in ["b.db", "new/c.db"] {
        let refused = purlin_sqlite::open(folder.join(name)).await.unwrap_err();
        assert!(matches!(refused, OpenError::ReadOnly { .. }), "{refused:?}");
    }
    become_writable();
    let begun = begun.join_next().await.unwrap().unwrap().is_ok();
    while append(&store, n.next().unwrap()).await.is_err() {}
    assert_eq!(
        store.read_stream(&stream(1), 1, 10).await.unwrap().len(),
        usize::from(begun),
        "as it was told"
    );
    store.close().await;
    become_read_only();
    let refused = purlin_sqlite::open(folder.join("a.db")).await.unwrap_err();
    assert!(matches!(refused, OpenError::ReadOnly { .. }), "{refused:?}");
    let text = refused.to_string();
    assert!(text.contains("a.db") && text.contains("read-only") && text.contains("mount"), "{text}");
    become_writable();
    purlin_sqlite::open(folder.join("a.db")).await.unwrap().close().await;
}

#[test]
fn writing_to_a_read_only_disk_is_refused_with_what_to_do_and_reading_goes_on() {
    let Some(disk) = Disk::new() else { return };
    let (folder, mark) = (disk.seen(), disk.read_only());
    let variables = [(FOLDER, folder.to_str().unwrap()), (MARK, mark.to_str().unwrap())];
    disk.run("read_only::the_child", &variables).expect_success();
}
