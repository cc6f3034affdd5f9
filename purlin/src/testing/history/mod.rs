//! Whether a store keeps its word to many who ask at once, whatever dies meanwhile.
//!
//! Clients do random operations ([`Workload`]), and each writes down what it asks before it asks and what it hears when
//! it has heard it ([`Journal`]). A process, the server or a connection may be killed at any moment: what was not
//! answered then may have happened or not. At the end what is stored is read, and [`History::check`] finds out whether
//! there is an order of all these operations, one at a time, that explains every answer: no commit lost, doubled, torn or
//! applied against its expectation, no conflict without a reason, no read of what was not there, or not any more.
//!
//! It needs of a store what every engine gives: dense positions, and revisions that grow from commit to commit.
//!
//! ```
//! # tokio::runtime::Builder::new_multi_thread().build().unwrap().block_on(async {
//! use purlin::store::Store;
//! use purlin::testing::history::{Journal, Workload};
//!
//! let (store, journal) = (Store::memory(), Journal::memory());
//! Workload::prepare(&store).await.unwrap();
//! Workload::drawn(7).run(&store, &journal).await;
//! Workload::finish(&store, &journal).await.unwrap();
//! let counts = journal.history().check().unwrap();
//! assert!(counts.applied > 0);
//! # });
//! ```

mod anomaly;
mod check;
mod client;
mod entry;
mod journal;
mod order;
mod timeline;
mod workload;

pub use anomaly::{Anomalies, Anomaly, When};
pub use check::Counts;
pub use entry::{
    Answer, Ask, Clash, Done, Entry, Event, Expect, History, HistoryError, Left, Mark, Row, Wanted,
    operation, process_of,
};
pub use journal::Journal;
pub use workload::Workload;

/// How many histories a test makes: so many as `PURLIN_HISTORIES` says, or else `usual`.
pub fn how_many(usual: u64) -> u64 {
    std::env::var("PURLIN_HISTORIES").ok().and_then(|many| many.parse().ok()).unwrap_or(usual)
}

impl History {
    /// As [`History::check`]; one with anomalies is written to a file, and a panic says where it is, what is wrong with
    /// it, and from which seed it came.
    pub fn insist(&self, seed: u64) -> Counts {
        let anomalies = match self.check() {
            Ok(counts) => return counts,
            Err(anomalies) => anomalies,
        };
        let name = format!("purlin-history-{seed}-{}.jsonl", crate::message::new_id());
        let file = std::env::temp_dir().join(name);
        let kept = match self.write(&file) {
            Ok(()) => format!("kept as {}", file.display()),
            Err(error) => format!("not kept: {error}"),
        };
        panic!("the history of seed {seed} ({kept}) is not linearizable: {anomalies}");
    }
}
