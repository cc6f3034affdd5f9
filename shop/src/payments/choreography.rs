//! The payments' part of a choreographed checkout: it takes the money for what is reserved, and gives it back for
//! what is not sent.

use purlin::aggregate::Repository;
use purlin::bus::{Bus, Failure, Group, Message};
use purlin::message::{Clock, FaultKind, Timestamp};
use purlin::store::{Commit, Revision, Row, Store};
use serde::{Deserialize, Serialize};

use super::errand::{Errand, Kind};
use super::payment::{Asked, Payment, PaymentError, State};
use crate::contracts::events::{Flow, InFlow, OrderCreated};
use crate::contracts::money::Money;
use crate::contracts::service::Base;

const FLOW: Flow = Flow::Choreographed;

/// What an order's payment will be, remembered until it is asked for, or the order has ended.
#[derive(Debug, Serialize, Deserialize)]
pub struct Terms {
    amount: Money,
    token: String,
}

impl Row for Terms {
    const COLLECTION: &'static str = "payment_terms";
}

/// What the handlers work with.
#[derive(Clone)]
struct Desk {
    store: Store,
    clock: Clock,
    payments: Repository<Payment>,
    /// Until then money may have been taken of which these payments know nothing.
    unknown_until: Option<Timestamp>,
}

impl Desk {
    /// Whether what was asked for with this message may have been paid already, though nothing is known of it.
    fn may_be_paid(&self, message: &Message) -> bool {
        self.unknown_until.is_some_and(|until| message.event.at <= until)
    }
}

/// What the payments listen to. Those that took the place of lost ones hear all of it again, and take nothing for what was
/// asked for until then: nobody knows what of it was paid.
pub fn group(
    bus: &Bus,
    base: &Base,
    payments: &Repository<Payment>,
    unknown_until: Option<Timestamp>,
) -> Group {
    let (store, clock, payments) = (base.store.clone(), base.clock.clone(), payments.clone());
    let desk = Desk { store, clock, payments, unknown_until };
    bus.group("payments", &base.store)
        .clock(base.clock.clone())
        .metrics(&base.metrics)
        .on_with("order.created", &desk, note)
        .on_with("stock.reserved", &desk, request)
        .on_with("payment.requested", &desk, charge)
        .on_with("shipment.refused", &desk, give_back)
        .on_with("shipment.cancelled", &desk, give_back)
        .on_with("order.cancelled", &desk, forget)
}

async fn note(_: Desk, message: Message) -> Result<Commit, Failure> {
    let order: OrderCreated = message.data()?;
    if order.flow != FLOW {
        return Ok(Commit::new());
    }
    let terms = Terms { amount: order.total, token: order.payment.token };
    Ok(Commit::new().put(order.order_id.to_string(), &terms))
}

async fn request(desk: Desk, message: Message) -> Result<Commit, Failure> {
    let InFlow { flow, order_id } = message.data()?;
    if flow != Some(FLOW) {
        return Ok(Commit::new());
    }
    let key = order_id.to_string();
    if desk.may_be_paid(&message) {
        return Ok(Commit::new().delete::<Terms>(key, Revision::Any));
    }
    let Some(terms) = desk.store.get::<Terms>(&key).await? else {
        if desk.payments.load(order_id).await?.exists() {
            // The payment was asked for, or given up, before: nobody needs to know any more how it is paid.
            return Ok(Commit::new());
        }
        let why = "the order's payment is not known, though its creation comes first";
        return Err(Failure::new(FaultKind::Unavailable, why));
    };
    let asked = Asked { amount: terms.amount, token: terms.token };
    let decide = |payment: &Payment| match payment.request(FLOW, order_id, &asked) {
        // The order was given up before: it stays unpaid, and what was reserved is given back without us.
        Err(PaymentError::Withdrawn) => Ok(None),
        decided => decided,
    };
    let change = desk.payments.change(order_id, decide).await?;
    Ok(Commit::new().append_all(change.append).delete::<Terms>(key, Revision::Any))
}

/// An order that ended before its stock was reserved is not paid.
async fn forget(_: Desk, message: Message) -> Result<Commit, Failure> {
    let InFlow { flow, order_id } = message.data()?;
    if flow != Some(FLOW) {
        return Ok(Commit::new());
    }
    Ok(Commit::new().delete::<Terms>(order_id.to_string(), Revision::Any))
}

/// The card network is asked by an errand: it may take its time, and nothing waits behind it.
async fn charge(desk: Desk, message: Message) -> Result<Commit, Failure> {
    let InFlow { flow, order_id } = message.data()?;
    if flow != Some(FLOW) || desk.may_be_paid(&message) {
        return Ok(Commit::new());
    }
    if desk.payments.load(order_id).await?.state != State::Requested {
        return Ok(Commit::new());
    }
    Ok(Errand::new(order_id, Kind::Charge).begin(Commit::new(), desk.clock.now()))
}

async fn give_back(desk: Desk, message: Message) -> Result<Commit, Failure> {
    let InFlow { flow, order_id } = message.data()?;
    if flow != Some(FLOW) {
        return Ok(Commit::new());
    }
    let decide = |payment: &Payment| Ok::<_, PaymentError>(payment.withdraw(FLOW, order_id));
    let change = desk.payments.change(order_id, decide).await?;
    let withdrawn = change.root.state().state == State::Withdrawn;
    let commit = Commit::new().append_all(change.append);
    Ok(if withdrawn { Errand::new(order_id, Kind::Refund).begin(commit, desk.clock.now()) } else { commit })
}
