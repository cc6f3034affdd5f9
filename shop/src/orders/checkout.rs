//! The orchestrated checkout: a saga that asks the other services, one after the other, and undoes what they did
//! when it cannot go on.

use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use purlin::aggregate::{Repository, UpdateError};
use purlin::message::Uuid;
use purlin::saga::{End, Function, Saga, SagaError};
use purlin::store::Commit;
use serde::{Deserialize, Serialize};

use super::Helpers;
use super::order::{Order, OrderError};
use super::purse::Purse;
use crate::contracts::events::{Line, Payment, ShipTo};
use crate::contracts::money::Money;

/// The name that checkouts are stored under.
pub const KIND: &str = "checkout";

/// What a checkout works with: those whom it asks, and the orders themselves.
pub struct Conductor {
    /// Whom it asks.
    pub helpers: Helpers,
    /// What it pays with.
    pub purse: Purse,
    /// The orders.
    pub orders: Repository<Order>,
}

impl Deref for Conductor {
    type Target = Helpers;

    fn deref(&self) -> &Helpers {
        &self.helpers
    }
}

/// What is to be carried through.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct PlaceOrder {
    /// Which order.
    pub order_id: Uuid,
    /// What is ordered.
    pub lines: Vec<Line>,
    /// What it costs.
    pub total: Money,
    /// How it is paid.
    pub payment: Payment,
    /// Where it goes.
    pub ship_to: ShipTo,
}

/// The checkout, which is given up when it is not done within `patience`, and ends the order when it failed.
pub fn function(patience: Duration) -> Function<Conductor, PlaceOrder, ()> {
    Function::new(place_order).deadline(patience).on_end(end)
}

async fn place_order(saga: Saga<Conductor>, order: PlaceOrder) -> Result<(), SagaError> {
    let id = order.order_id;
    saga.step("reserve-inventory", async |at| at.inventory.reserve(at.key(), id, &order.lines).await)
        .compensate(async move |at, _| at.inventory.release(at.key(), id).await)
        .await?;
    saga.step("process-payment", async |at| {
        at.purse.charge(at.key(), id, &order.payment.token, order.total).await
    })
    .compensate(async move |at, _| at.purse.refund(at.key(), id).await)
    .await?;
    saga.step("create-shipment", async |at| at.shipping.create(at.key(), id, &order.ship_to).await)
        .compensate(async move |at, _| at.shipping.cancel(at.key(), id).await)
        .await?;
    saga.transact("confirm-order", async |at| {
        let confirmed = at.orders.change(id, |order| order.confirm(id)).await?;
        Ok::<_, UpdateError<OrderError>>(((), Commit::new().append_all(confirmed.append)))
    })
    .await?;
    saga.transact("ship-order", async |at| {
        let shipped = at.orders.change(id, |order| order.ship(id)).await?;
        Ok::<_, UpdateError<OrderError>>(((), Commit::new().append_all(shipped.append)))
    })
    .await
}

/// What is committed with the saga's end: nothing once it is shipped, and else, everything being given back, the
/// order's end.
async fn end(
    conductor: Arc<Conductor>,
    order: PlaceOrder,
    end: End<()>,
) -> Result<Commit, UpdateError<OrderError>> {
    let End::Failed(error) = end else { return Ok(Commit::new()) };
    let reason = reason_of(&error);
    let decide = |state: &Order| Ok(state.end(order.order_id, &reason));
    let ended = conductor.orders.change(order.order_id, decide).await?;
    Ok(Commit::new().append_all(ended.append))
}

/// Why an order ends, for people: the step that failed, and what it said.
fn reason_of(error: &SagaError) -> String {
    match (error, error.step(), error.cause()) {
        (SagaError::Deadline, ..) => "the checkout was not done in time".to_owned(),
        (SagaError::Cancelled { reason }, ..) => reason.clone(),
        (_, Some(step), Some(cause)) => format!("{step}: {}", cause.message),
        _ => error.to_string(),
    }
}
