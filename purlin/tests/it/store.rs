//! The engine in memory under the suite that every engine passes.

use purlin::store::Store;
use purlin::testing::store::{Harness, conformance};

struct Memory;

impl Harness for Memory {
    const DURABLE: bool = false;

    async fn open(&self, _name: &str) -> Store {
        Store::memory()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_engine_in_memory_conforms() {
    conformance(&Memory).await;
}
