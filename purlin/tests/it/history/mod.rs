//! Histories of stores: those of the engine in memory, and those that are wrong on purpose.

mod memory;
mod planted;
mod small;

use purlin::store::Store;
use purlin::testing::history::{History, Journal, Workload};

/// A history of clients that nothing happens to.
async fn undisturbed(workload: &Workload) -> History {
    let (store, journal) = (Store::memory(), Journal::memory());
    Workload::prepare(&store).await.unwrap();
    workload.run(&store, &journal).await;
    Workload::finish(&store, &journal).await.unwrap();
    journal.history()
}
