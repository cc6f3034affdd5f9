//! The inventory's part of a choreographed checkout: it reserves what was ordered, and gives back what was not paid.

use purlin::bus::{Bus, Failure, Group, Message};
use purlin::store::Commit;

use super::stockroom::Stockroom;
use crate::contracts::events::{Flow, InFlow, OrderCreated};
use crate::contracts::service::Base;

/// What the inventory listens to.
pub fn group(bus: &Bus, base: &Base, stockroom: &Stockroom) -> Group {
    bus.group("inventory", &base.store)
        .clock(base.clock.clone())
        .on_with("order.created", stockroom, reserve)
        .on_with("payment.failed", stockroom, release)
        .on_with("payment.refunded", stockroom, release)
        .on_with("order.shipped", stockroom, leave)
}

async fn reserve(stockroom: Stockroom, message: Message) -> Result<Commit, Failure> {
    let order: OrderCreated = message.data()?;
    if order.flow != Flow::Choreographed {
        return Ok(Commit::new());
    }
    // A refusal is an event like any other: it is in the commit.
    let (commit, _decided) = stockroom.reservation(order.flow, order.order_id, &order.lines).await?;
    Ok(commit)
}

async fn release(stockroom: Stockroom, message: Message) -> Result<Commit, Failure> {
    let InFlow { flow, order_id } = message.data()?;
    if flow != Some(Flow::Choreographed) {
        return Ok(Commit::new());
    }
    Ok(stockroom.releasing(Flow::Choreographed, order_id).await?)
}

/// What was held leaves with the order, whichever way its checkout went.
async fn leave(stockroom: Stockroom, message: Message) -> Result<Commit, Failure> {
    let InFlow { flow, order_id } = message.data()?;
    Ok(stockroom.leaving(flow.unwrap_or_default(), order_id).await?)
}
