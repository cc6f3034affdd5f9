//! The user's API, as the architecture has it, word by word.

use std::time::Duration;

use purlin::message::{Clock, Fault, FaultKind, Uuid, new_id};
use purlin::saga::{Saga, SagaError, SagaState, Sagas};
use purlin::store::Store;
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

#[derive(Debug, thiserror::Error)]
#[error("the service is away")]
struct Away;

impl Fault for Away {
    fn kind(&self) -> FaultKind {
        FaultKind::Unavailable
    }
}

#[derive(Clone, Serialize, Deserialize)]
struct Item {
    sku: String,
}

#[derive(Clone, Serialize, Deserialize)]
struct PlaceOrder {
    items: Vec<Item>,
    payment: String,
    total: i64,
    ship_to: String,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Receipt {
    hold: Uuid,
    payment: String,
    shipment: u64,
}

#[derive(Serialize, Deserialize)]
struct Approval {
    yes: bool,
}

struct Shop {
    inventory: Inventory,
    payments: Payments,
    shipping: Shipping,
}

struct Inventory;
struct Payments;
struct Shipping;

impl Inventory {
    async fn reserve(&self, key: &str, items: &[Item]) -> Result<Uuid, Away> {
        assert!(key.ends_with("/reserve-inventory") && items.len() == 1);
        Ok(new_id())
    }
    async fn release(&self, _key: &str, _hold: Option<Uuid>) -> Result<(), Away> {
        Ok(())
    }
}

impl Payments {
    async fn charge(&self, _key: &str, token: &str, total: i64) -> Result<String, Away> {
        Ok(format!("{token} {total}"))
    }
    async fn refund(&self, _key: &str, _payment: Option<String>) -> Result<(), Away> {
        Ok(())
    }
}

impl Shipping {
    async fn create(&self, _key: &str, ship_to: &str) -> Result<u64, Away> {
        Ok(ship_to.len() as u64)
    }
    async fn cancel(&self, _key: &str, _shipment: Option<u64>) -> Result<(), Away> {
        Ok(())
    }
}

async fn place_order(saga: Saga<Shop>, order: PlaceOrder) -> Result<Receipt, SagaError> {
    let hold = saga
        .step("reserve-inventory", async |at| at.inventory.reserve(at.key(), &order.items).await)
        .compensate(async |at, hold| at.inventory.release(at.key(), hold).await)
        .await?;
    let payment = saga
        .step("process-payment", async |at| at.payments.charge(at.key(), &order.payment, order.total).await)
        .compensate(async |at, payment| at.payments.refund(at.key(), payment).await)
        .await?;
    let shipment = saga
        .step("create-shipment", async |at| at.shipping.create(at.key(), &order.ship_to).await)
        .compensate(async |at, shipment| at.shipping.cancel(at.key(), shipment).await)
        .await?;
    Ok(Receipt { hold, payment, shipment })
}

async fn in_parallel(saga: Saga<Shop>, order: PlaceOrder) -> Result<(Uuid, String), SagaError> {
    let a = saga
        .step("reserve-inventory", async |at| at.inventory.reserve(at.key(), &order.items).await)
        .compensate(async |at, hold| at.inventory.release(at.key(), hold).await);
    let b = saga.step("charge", async |at| at.payments.charge(at.key(), &order.payment, order.total).await);
    let (hold, payment) = tokio::try_join!(a, b)?;
    saga.sleep(Duration::from_millis(1)).await?;
    let approval = saga.signal::<Approval>("approval").within(Duration::from_millis(1)).await?;
    assert!(approval.is_none_or(|approval| approval.yes));
    Ok((hold, payment))
}

fn order() -> PlaceOrder {
    let items = vec![Item { sku: "a".into() }];
    PlaceOrder { items, payment: "tok_ok".into(), total: 7, ship_to: "Rome".into() }
}

fn assert_send<T: Send>(value: T) -> T {
    value
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_architectures_saga_type_checks_and_runs_on_many_threads() {
    let store = Store::memory();
    let shop = Shop { inventory: Inventory, payments: Payments, shipping: Shipping };
    let sagas = Sagas::new(&store, shop, Clock::system())
        .register("checkout", place_order)
        .register("parallel", in_parallel);
    sagas.prepare().await.unwrap();
    let shutdown = CancellationToken::new();
    let mut tasks = tokio::task::JoinSet::new();
    tasks.spawn(assert_send(sagas.clone().run(shutdown.clone())));
    for kind in ["checkout", "parallel"] {
        let id = new_id();
        store.commit(sagas.start(kind, id, &order()).unwrap()).await.unwrap();
        sagas.kick(id);
        let view = sagas.wait(id, Duration::from_secs(10)).await.unwrap();
        assert_eq!((view.state, view.reason), (SagaState::Completed, None));
    }
    shutdown.cancel();
    tasks.join_all().await.into_iter().for_each(|ran| ran.unwrap());
}
