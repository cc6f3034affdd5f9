//! What is reserved for an order, over all its products.

use purlin::aggregate::{Aggregate, SnapshotPolicy};
use purlin::message::{Event, Fault, FaultKind, Uuid};
use serde::{Deserialize, Serialize};

use crate::contracts::events::{Done, Flow, Line, Refused};

/// The reservation of one order.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reservation {
    /// Nobody asked yet.
    #[default]
    None,
    /// All lines are held.
    Reserved(Vec<Line>),
    /// There was too little: nothing is held.
    Refused(String),
    /// Nothing is held, and nothing will be: a reservation that comes later is refused.
    Released,
    /// What was held has left.
    Left,
}

/// What happens to reservations; the stock's part of a checkout.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StockEvent {
    /// All lines are held.
    Reserved(StockReserved),
    /// There was too little of something.
    Refused(Refused),
    /// Nothing is held any more.
    Released(Done),
    /// What was held has left.
    Left(Done),
}

/// `stock.reserved`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StockReserved {
    /// The order's flow.
    pub flow: Flow,
    /// Which order.
    pub order_id: Uuid,
    /// What is held.
    pub lines: Vec<Line>,
}

impl Event for StockEvent {}

impl Aggregate for Reservation {
    const KIND: &'static str = "stock";
    // It has few events: reading them costs less than looking for a snapshot first.
    const SNAPSHOTS: SnapshotPolicy = SnapshotPolicy::NEVER;
    type Event = StockEvent;

    fn apply(&mut self, event: &StockEvent) {
        *self = match event {
            StockEvent::Reserved(reserved) => Self::Reserved(reserved.lines.clone()),
            StockEvent::Refused(why) => Self::Refused(why.reason.clone()),
            StockEvent::Released(_) => Self::Released,
            StockEvent::Left(_) => Self::Left,
        };
    }

    fn is_public(event: &StockEvent) -> bool {
        !matches!(event, StockEvent::Left(_))
    }
}

/// What is to be done with the shelves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reserve {
    /// Hold all lines.
    Hold,
    /// Nothing: all lines are held already.
    Held,
}

impl Reservation {
    /// Whether an order's lines are to be held.
    pub fn reserve(&self) -> Result<Reserve, ReserveError> {
        match self {
            Self::None => Ok(Reserve::Hold),
            Self::Reserved(_) | Self::Left => Ok(Reserve::Held),
            Self::Refused(reason) => Err(ReserveError::TooFew(reason.clone())),
            Self::Released => Err(ReserveError::Released),
        }
    }

    /// Gives everything back; what never was reserved will not be. Nothing happens when nothing can be held.
    pub fn release(&self, flow: Flow, order_id: Uuid) -> Option<StockEvent> {
        match self {
            Self::None | Self::Reserved(_) => Some(StockEvent::Released(Done { flow, order_id })),
            Self::Refused(_) | Self::Released | Self::Left => None,
        }
    }

    /// Lets what is held leave.
    pub fn leave(&self, flow: Flow, order_id: Uuid) -> Option<StockEvent> {
        matches!(self, Self::Reserved(_)).then_some(StockEvent::Left(Done { flow, order_id }))
    }

    /// What is held.
    pub fn lines(&self) -> &[Line] {
        if let Self::Reserved(lines) = self { lines } else { &[] }
    }
}

/// Nothing was reserved.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReserveError {
    /// There is too little of something.
    #[error("{0}")]
    TooFew(String),
    /// The order was given up before.
    #[error("the reservation was released already")]
    Released,
}

impl Fault for ReserveError {
    fn kind(&self) -> FaultKind {
        FaultKind::Conflict
    }

    fn code(&self) -> &str {
        match self {
            Self::TooFew(_) => "product-unavailable",
            Self::Released => "reservation-released",
        }
    }
}

#[cfg(test)]
mod tests {
    use purlin::message::new_id;

    use super::*;

    #[test]
    fn a_reservation_that_comes_after_its_release_is_refused() {
        let mut reservation = Reservation::default();
        let released = reservation.release(Flow::Choreographed, new_id()).unwrap();
        reservation.apply(&released);
        assert_eq!(reservation.reserve(), Err(ReserveError::Released));
    }

    #[test]
    fn reserving_and_releasing_twice_is_doing_it_once() {
        let order_id = new_id();
        let flow = Flow::Choreographed;
        let mut reservation = Reservation::default();
        reservation.apply(&StockEvent::Reserved(StockReserved { flow, order_id, lines: vec![] }));
        assert_eq!(reservation.reserve(), Ok(Reserve::Held));
        reservation.apply(&reservation.release(flow, order_id).unwrap());
        assert_eq!(reservation.release(flow, order_id), None);
        assert_eq!(reservation.leave(flow, order_id), None);
    }
}
