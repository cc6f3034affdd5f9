//! An aggregate, a saga, a projection and a route, joined by commits: `cargo run -p purlin --example order`.

use axum::{Router, body::Body, extract::State, response::Response, routing::post};
use purlin::aggregate::{Aggregate, Repository};
use purlin::http::{Decided, Idempotency, Path, Problem, WriteRequest};
use purlin::message::{Clock, Event, FaultKind, Refusal, Uuid, new_id};
use purlin::projection::{Projection, View};
use purlin::saga::{Saga, SagaError, Sagas};
use purlin::store::{Recorded, Row, Store};
use serde::{Deserialize, Serialize};
use std::time::Duration;
use tower::ServiceExt;

#[derive(Clone, Default, Serialize, Deserialize)]
struct Order(bool); // whether it is submitted
#[derive(Serialize, Deserialize)]
enum OrderEvent {
    Submitted(u64),
    Paid(String),
}
impl Event for OrderEvent {}
impl Aggregate for Order {
    const KIND: &'static str = "order";
    type Event = OrderEvent;
    fn apply(&mut self, _event: &OrderEvent) {
        self.0 = true;
    }
}
impl Order {
    fn submit(&self, total: u64) -> Result<OrderEvent, Refusal> {
        let refusal = Refusal::new(FaultKind::Conflict, "already-submitted", "it is submitted already");
        if self.0 { Err(refusal) } else { Ok(OrderEvent::Submitted(total)) }
    }
}

#[derive(Debug, Serialize, Deserialize)]
struct OrderRow(String);
impl Row for OrderRow {
    const COLLECTION: &'static str = "orders_view";
}
struct OrdersView;
impl Projection for OrdersView {
    const NAME: &'static str = "orders_view";
    const CATEGORY: &'static str = "order";
    type Event = OrderEvent;
    type Row = OrderRow;
    fn apply(&self, _: Option<OrderRow>, event: &OrderEvent, _: &Recorded) -> Option<OrderRow> {
        Some(match event {
            OrderEvent::Submitted(total) => OrderRow(format!("{total} to pay")),
            OrderEvent::Paid(receipt) => OrderRow(format!("paid: {receipt}")),
        })
    }
}

async fn pay(saga: Saga<Repository<Order>>, (id, total): (Uuid, u64)) -> Result<(), SagaError> {
    let receipt = saga
        .step("charge", async |at| Ok::<_, Refusal>(format!("{total} charged once under {}", at.key())))
        .compensate(async |_at, receipt: Option<String>| Ok::<_, Refusal>(format!("refund {receipt:?}")))
        .await?;
    let paid = |_: &Order| Ok::<_, Refusal>(OrderEvent::Paid(receipt.clone()));
    saga.transact("mark-paid", async |at| at.change(id, paid).await.map(|paid| ((), paid.into()))).await
}

type App = (Repository<Order>, Sagas<Repository<Order>>, Idempotency);
async fn submit(
    State((orders, sagas, keys)): State<App>,
    Path(id): Path<Uuid>,
    request: WriteRequest,
) -> Response {
    let decide = async |_| {
        let order =
            orders.change(id, |order| order.submit(1299)).await.map_err(|e| Problem::from_fault(&e))?;
        let saga = sagas.start("pay", id, &(id, 1299_u64)).map_err(|e| Problem::from_fault(&e))?;
        Decided::new(saga.append_all(order.append), http::StatusCode::ACCEPTED, &"submitted")
    };
    keys.run("anyone", &request, decide).await // the event, the saga and the answer are one commit
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let (store, stop) = (Store::memory(), tokio_util::sync::CancellationToken::new());
    let (orders, view) = (Repository::<Order>::new(&store), View::new(OrdersView, &store));
    let sagas = Sagas::new(&store, orders.clone(), Clock::system()).register("pay", pay);
    sagas.prepare().await?;
    let app = (orders, sagas.clone(), Idempotency::new(&store, Clock::system()));
    let routes = Router::new().route("/orders/{id}/submit", post(submit)).with_state(app);
    let use_it = async {
        let (id, _stop) = (new_id(), stop.clone().drop_guard());
        let request = http::Request::post(format!("/orders/{id}/submit")).header("idempotency-key", "k");
        println!("{}", routes.oneshot(request.body(Body::empty())?).await?.status());
        sagas.wait(id, Duration::from_secs(5)).await?;
        view.wait_for(store.head(), Duration::from_secs(5)).await?;
        println!("{:?}", view.get(&id.to_string()).await?);
        Ok(())
    };
    tokio::join!(sagas.clone().run(stop.clone()), view.run(stop.clone()), use_it).2
}
