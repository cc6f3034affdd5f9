//! The suite that every engine passes.

use purlin::store::Store;
use purlin::testing::projection;
use purlin::testing::store::{Harness, conformance};

use crate::server::Server;

struct Schemas(Server);

impl Harness for Schemas {
    const DURABLE: bool = true;

    async fn open(&self, name: &str) -> Store {
        purlin_postgres::open(self.0.url(), name).await.expect("the store opens")
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_engine_conforms() {
    let Some(server) = Server::start() else { return };
    conformance(&Schemas(server)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn views_stand_on_it() {
    let Some(server) = Server::start() else { return };
    projection::conformance(&Schemas(server)).await;
}
