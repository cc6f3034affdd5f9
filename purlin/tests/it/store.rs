//! The engine in memory under the suite that every engine passes.

use std::time::Duration;

use purlin::message::{Clock, Timestamp, new_id};
use purlin::store::{Commit, Query, Store};
use purlin::testing::store::{Harness, conformance};
use tokio_util::sync::CancellationToken;

struct Memory;

impl Harness for Memory {
    const DURABLE: bool = false;

    async fn open(&self, _name: &str) -> Store {
        Store::memory()
    }
}

#[tokio::test(start_paused = true)]
async fn the_ids_of_commits_are_forgotten_when_their_time_is_over() {
    let (clock, hand) = Clock::manual(Timestamp::UNIX_EPOCH);
    let store = Store::new(purlin::store::memory::Memory::with_clock(clock));
    for keep in [Duration::ZERO, Duration::from_secs(3600)] {
        store.commit(Commit::new().with_id(new_id(), keep)).await.unwrap();
    }
    let kept = async || store.list_records("purlin_commits", Query::all()).await.unwrap().records.len();
    assert_eq!(kept().await, 2);
    let shutdown = CancellationToken::new();
    let swept = async {
        let mut changes = store.watch();
        while kept().await > 1 {
            changes.changed().await.unwrap();
        }
        tokio::time::sleep(Duration::from_secs(300)).await;
        assert_eq!(kept().await, 1, "by the clock of the store an hour is not over yet");
        hand.advance(Duration::from_secs(3600));
        while kept().await > 0 {
            changes.changed().await.unwrap();
        }
        shutdown.cancel();
    };
    let (end, ()) = tokio::join!(store.commit_sweeper(shutdown.clone()), swept);
    end.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_engine_in_memory_conforms() {
    conformance(&Memory).await;
}
