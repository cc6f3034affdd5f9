//! The inventory's part of a choreographed checkout: it reserves what was ordered, and gives back what was not paid.

use purlin::bus::{Bus, Failure, Group, Message};
use purlin::store::Commit;

use super::stockroom::{Stockroom, StockroomError};
use crate::contracts::events::{Flow, InFlow, OrderCreated};
use crate::contracts::service::Base;

/// What the inventory listens to.
pub fn group(bus: &Bus, base: &Base, stockroom: &Stockroom) -> Group {
    bus.group("inventory", &base.store)
        .clock(base.clock.clone())
        .metrics(&base.metrics)
        .on_with("order.created", stockroom, reserve)
        .on_with("payment.failed", stockroom, release)
        .on_with("payment.refunded", stockroom, release)
        .on_with("order.shipped", stockroom, leave)
}

// What these handlers do is done once because a reservation's own stream says that it was, in the commit that does
// it: that commit is shared with other orders, so it cannot be the one that moves the group's mark.

async fn reserve(stockroom: Stockroom, message: Message) -> Result<Commit, Failure> {
    let order: OrderCreated = message.data()?;
    if order.flow != Flow::Choreographed {
        return Ok(Commit::new());
    }
    match stockroom.reserve(order.flow, order.order_id, &order.lines).await {
        // A refusal was said by an event of its own.
        Ok(()) | Err(StockroomError::Refused(_)) => Ok(Commit::new()),
        Err(error) => Err(error.into()),
    }
}

async fn release(stockroom: Stockroom, message: Message) -> Result<Commit, Failure> {
    let InFlow { flow, order_id } = message.data()?;
    if flow == Some(Flow::Choreographed) {
        stockroom.release(Flow::Choreographed, order_id).await?;
    }
    Ok(Commit::new())
}

/// What was held leaves with the order, whichever way its checkout went.
async fn leave(stockroom: Stockroom, message: Message) -> Result<Commit, Failure> {
    let InFlow { flow, order_id } = message.data()?;
    stockroom.leave(flow.unwrap_or_default(), order_id).await?;
    Ok(Commit::new())
}
