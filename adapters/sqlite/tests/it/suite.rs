//! The suite that every engine passes.

use purlin::store::Store;
use purlin::testing::projection;
use purlin::testing::store::{Harness, conformance};

use crate::folder::Folder;

struct Files(Folder);

impl Harness for Files {
    const DURABLE: bool = true;

    async fn open(&self, name: &str) -> Store {
        purlin_sqlite::open(self.0.file(name)).await.expect("the store opens")
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_engine_conforms() {
    conformance(&Files(Folder::new())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn views_stand_on_it() {
    projection::conformance(&Files(Folder::new())).await;
}
