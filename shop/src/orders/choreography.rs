//! The orders' part of a choreographed checkout: they hear how it goes, and what it makes of the order.

use purlin::aggregate::Repository;
use purlin::bus::{Bus, Failure, Group, Message};
use purlin::message::Uuid;
use purlin::store::{Commit, Store};

use super::deadline;
use super::order::{Order, OrderError, OrderEvent};
use super::progress;
use crate::contracts::events::{Flow, InFlow, Refused};
use crate::contracts::service::Base;

const FLOW: Flow = Flow::Choreographed;

/// What the handlers work with.
#[derive(Clone)]
struct Desk {
    store: Store,
    orders: Repository<Order>,
}

/// What the orders listen to.
pub fn group(bus: &Bus, base: &Base, orders: &Repository<Order>) -> Group {
    let desk = Desk { store: base.store.clone(), orders: orders.clone() };
    let group = bus.group("orders", &base.store).clock(base.clock.clone()).metrics(&base.metrics);
    let group =
        ["order.created", "order.cancel_requested", "order.cancelled", "order.shipped", "stock.reserved"]
            .into_iter()
            .chain(["payment.requested", "payment.delayed", "payment.completed", "payment.refunded"])
            .chain(["shipment.cancelled"])
            .fold(group, |group, subject| group.on_with(subject, &desk, note));
    group
        .on_with("stock.refused", &desk, end_at_once)
        .on_with("payment.failed", &desk, fail)
        .on_with("shipment.refused", &desk, fail)
        .on_with("shipment.created", &desk, confirm)
        .on_with("order.confirmed", &desk, ship)
        .on_with("stock.released", &desk, end)
}

/// What is heard is noted for who asks how the checkout goes.
async fn note(desk: Desk, message: Message) -> Result<Commit, Failure> {
    let Some(_) = order_of(&message)? else { return Ok(Commit::new()) };
    Ok(progress::note(&desk.store, Commit::new(), &message).await?)
}

/// Nothing was taken yet, so there is nothing to give back.
async fn end_at_once(desk: Desk, message: Message) -> Result<Commit, Failure> {
    let Some(order_id) = order_of(&message)? else { return Ok(Commit::new()) };
    let why: Refused = message.data()?;
    let decide = |order: &Order| {
        let failed = order.fail_checkout(order_id, &why.reason);
        let ended = order.end(order_id, &why.reason);
        failed.into_iter().chain(ended).collect::<Vec<_>>()
    };
    let commit = desk.decide(order_id, |order| Ok(decide(order))).await?;
    Ok(progress::note(&desk.store, deadline::over(commit, order_id), &message).await?)
}

/// What was taken before is being given back, by those who took it.
async fn fail(desk: Desk, message: Message) -> Result<Commit, Failure> {
    let Some(order_id) = order_of(&message)? else { return Ok(Commit::new()) };
    let why: Refused = message.data()?;
    let decide = |order: &Order| Ok(order.fail_checkout(order_id, &why.reason).into_iter().collect());
    let commit = desk.decide(order_id, decide).await?;
    Ok(progress::note(&desk.store, commit, &message).await?)
}

async fn confirm(desk: Desk, message: Message) -> Result<Commit, Failure> {
    let Some(order_id) = order_of(&message)? else { return Ok(Commit::new()) };
    let commit = desk.decide(order_id, |order| order.confirm(order_id).map(Vec::from_iter)).await?;
    Ok(progress::note(&desk.store, commit, &message).await?)
}

async fn ship(desk: Desk, message: Message) -> Result<Commit, Failure> {
    let Some(order_id) = order_of(&message)? else { return Ok(Commit::new()) };
    let commit = desk.decide(order_id, |order| order.ship(order_id).map(Vec::from_iter)).await?;
    // A deadline is for a checkout that does not end. One that is to be cancelled keeps it until it has.
    let commit = if commit.is_empty() { commit } else { deadline::over(commit, order_id) };
    Ok(progress::note(&desk.store, commit, &message).await?)
}

/// Everything is given back.
async fn end(desk: Desk, message: Message) -> Result<Commit, Failure> {
    let Some(order_id) = order_of(&message)? else { return Ok(Commit::new()) };
    let otherwise = "what was ordered was given back";
    let decide = |order: &Order| Ok(order.end(order_id, otherwise).into_iter().collect());
    let commit = desk.decide(order_id, decide).await?;
    Ok(progress::note(&desk.store, deadline::over(commit, order_id), &message).await?)
}

impl Desk {
    /// The commit of a decision; none is made on an order that is being cancelled.
    async fn decide(
        &self,
        order_id: Uuid,
        decide: impl Fn(&Order) -> Result<Vec<OrderEvent>, OrderError>,
    ) -> Result<Commit, Failure> {
        let change = self.orders.change(order_id, |order| match decide(order) {
            Err(OrderError::Ending) => Ok(Vec::new()),
            decided => decided,
        });
        Ok(Commit::new().append_all(change.await?.append))
    }
}

/// Which order a message is about, if it is a choreographed one.
fn order_of(message: &Message) -> Result<Option<Uuid>, Failure> {
    let InFlow { flow, order_id } = message.data()?;
    Ok((flow == Some(FLOW)).then_some(order_id))
}
