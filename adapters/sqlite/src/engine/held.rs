//! Tests: the runs of the index that a reader holds stay there.

use std::path::Path;

use purlin::message::{Envelope, new_id};
use purlin::store::{Commit, Engine as _, Expected, StreamId};

use super::Sqlite;
use crate::engine::Options;
use crate::schema;

/// Events of a run.
const RUN: u64 = 4;

/// Appends a run of the index, an event to each stream; or, with a tag, fails.
async fn append(store: &Sqlite, tag: Option<&'static str>) {
    let commit = (0..RUN).fold(Commit::new(), |commit, n| {
        let stream = StreamId::new("thing", n).unwrap();
        commit.append(stream, Expected::Any, [Envelope::raw("thing.counted", "{}").tagged(tag)])
    });
    assert_eq!(store.commit(commit).await.is_err(), tag.is_some());
}

/// Appends so many runs, and waits until the last of them was merged into another and is gone.
async fn merge(store: &Sqlite, file: &Path, runs: u64) {
    for _ in 0..runs {
        append(store, None).await;
    }
    let (connection, head) = (schema::open_reader(file).unwrap(), store.shared.head.borrow().0);
    let is_there = "SELECT EXISTS (SELECT 1 FROM _run WHERE level <= 0 AND through = ?1)";
    let is_merged = "SELECT EXISTS (SELECT 1 FROM _run WHERE level > 0 AND through = ?1)";
    let ask = |sql| connection.query_row(sql, [head.cast_signed()], |row| row.get::<_, bool>(0)).unwrap();
    while ask(is_there) || !ask(is_merged) {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn what_a_reader_looked_up_stays_there_through_failed_transactions_and_merges() {
    let folder = std::env::temp_dir().join(format!("purlin-read-{}", new_id()));
    let file = folder.join("a.db");
    let options = Options { run: RUN as usize, ..Options::new(&file) };
    let store = Sqlite::open(options).await.unwrap();
    let other = rusqlite::Connection::open(&file).unwrap();
    other
        .execute_batch(
            "CREATE TRIGGER fails BEFORE INSERT ON _tag BEGIN SELECT RAISE(ABORT, 'as the test wants'); END",
        )
        .unwrap();
    for _ in 0..7 {
        append(&store, None).await;
    }
    let key = store.shared.keys.of("thing-1");
    let lookup = || store.shared.index.read().unwrap().lookup(key, 1, u64::MAX);
    let reader = schema::open_reader(&file).unwrap();
    let positions = |lookup: &crate::index::Lookup| lookup.positions(&reader, 1, u64::MAX);
    let (first, before) = (lookup(), positions(&lookup()).unwrap());
    // Runs that are live when a transaction fails, and merged after it.
    append(&store, Some("fails")).await;
    merge(&store, &file, 1).await;
    assert_eq!(positions(&first).unwrap(), before);
    // Runs that are merged when a transaction fails, and wait to be deleted.
    append(&store, Some("fails")).await;
    merge(&store, &file, 8).await;
    assert_eq!(positions(&first).unwrap(), before);
    // Runs that wait to be deleted when the index is made anew.
    other
        .execute_batch("UPDATE _block SET entries = x'00' WHERE block = (SELECT max(block) FROM _block)")
        .unwrap();
    let read = async || store.read_stream(StreamId::new("thing", 1).unwrap(), 1, 100).await;
    assert!(read().await.is_err(), "a block is damaged");
    while read().await.is_err() {
        tokio::task::yield_now().await;
    }
    append(&store, Some("fails")).await;
    // 15 runs were made, and the next one has what was left behind them.
    merge(&store, &file, 9).await;
    assert_eq!(positions(&first).unwrap(), before);
    drop(first);
    store.close().await;
    std::fs::remove_dir_all(folder).unwrap();
}
