//! The shipping's part of a choreographed checkout: it sends what is paid, and keeps what is cancelled.

use purlin::aggregate::Repository;
use purlin::bus::{Bus, Failure, Group, Message};
use purlin::message::{FaultKind, new_id};
use purlin::store::{Commit, Revision, Row, Store};
use serde::{Deserialize, Serialize};

use super::shipment::{Shipment, ShipmentError};
use crate::contracts::events::{Flow, InFlow, OrderCreated, ShipTo, Shipped};
use crate::contracts::service::Base;

const FLOW: Flow = Flow::Choreographed;

/// Where an order goes, remembered until its shipment is made, or it has ended.
#[derive(Debug, Serialize, Deserialize)]
pub struct Destination {
    ship_to: ShipTo,
}

impl Row for Destination {
    const COLLECTION: &'static str = "destinations";
}

/// What the handlers work with.
#[derive(Clone)]
struct Desk {
    store: Store,
    shipments: Repository<Shipment>,
}

/// What the shipping listens to.
pub fn group(bus: &Bus, base: &Base, shipments: &Repository<Shipment>) -> Group {
    let desk = Desk { store: base.store.clone(), shipments: shipments.clone() };
    bus.group("shipping", &base.store)
        .clock(base.clock.clone())
        .metrics(&base.metrics)
        .on_with("order.created", &desk, note)
        .on_with("payment.completed", &desk, create)
        .on_with("order.cancel_requested", &desk, cancel)
        .on_with("order.cancelled", &desk, forget)
}

async fn note(_: Desk, message: Message) -> Result<Commit, Failure> {
    let order: OrderCreated = message.data()?;
    if order.flow != FLOW {
        return Ok(Commit::new());
    }
    Ok(Commit::new().put(order.order_id.to_string(), &Destination { ship_to: order.ship_to }))
}

async fn create(desk: Desk, message: Message) -> Result<Commit, Failure> {
    let InFlow { flow, order_id } = message.data()?;
    if flow != Some(FLOW) {
        return Ok(Commit::new());
    }
    let key = order_id.to_string();
    let Some(destination) = desk.store.get::<Destination>(&key).await? else {
        if desk.shipments.load(order_id).await?.exists() {
            // It was made, or cancelled, before: nobody needs to know any more where it goes.
            return Ok(Commit::new());
        }
        let why = "the order's destination is not known, though its creation comes first";
        return Err(Failure::new(FaultKind::Unavailable, why));
    };
    let shipped = Shipped { flow: FLOW, order_id, shipment_id: new_id() };
    let decide = |shipment: &Shipment| match shipment.create(shipped, &destination.ship_to) {
        // It was refused or cancelled before, and that was said then.
        Err(ShipmentError::Cancelled | ShipmentError::Refused(_)) => Ok(None),
        Ok(decided) => Ok::<_, ShipmentError>(decided),
    };
    let change = desk.shipments.change(order_id, decide).await?;
    Ok(Commit::new().append_all(change.append).delete::<Destination>(key, Revision::Any))
}

/// An order that has ended goes nowhere.
async fn forget(_: Desk, message: Message) -> Result<Commit, Failure> {
    let InFlow { flow, order_id } = message.data()?;
    if flow != Some(FLOW) {
        return Ok(Commit::new());
    }
    Ok(Commit::new().delete::<Destination>(order_id.to_string(), Revision::Any))
}

async fn cancel(desk: Desk, message: Message) -> Result<Commit, Failure> {
    let InFlow { flow, order_id } = message.data()?;
    if flow != Some(FLOW) {
        return Ok(Commit::new());
    }
    let decide = |shipment: &Shipment| Ok::<_, ShipmentError>(shipment.cancel(FLOW, order_id));
    let change = desk.shipments.change(order_id, decide).await?;
    Ok(Commit::new().append_all(change.append))
}
