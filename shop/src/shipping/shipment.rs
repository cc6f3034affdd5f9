//! The shipment of an order.

use purlin::aggregate::{Aggregate, SnapshotPolicy};
use purlin::message::{Event, Fault, FaultKind, Uuid};
use serde::{Deserialize, Serialize};

use crate::contracts::events::{Done, Flow, Refused, ShipTo, Shipped};

/// The shipment of one order.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Shipment {
    /// Nobody asked yet.
    #[default]
    None,
    /// It is made.
    Created(Uuid),
    /// It cannot be delivered.
    Refused(String),
    /// There is none, and there will be none: one that comes later is refused.
    Cancelled,
}

/// What happens to shipments.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ShipmentEvent {
    /// It is made.
    Created {
        /// Which one, for which order.
        #[serde(flatten)]
        shipped: Shipped,
        /// Where it goes.
        ship_to: ShipTo,
    },
    /// It cannot be delivered.
    Refused(Refused),
    /// There is none any more.
    Cancelled(Done),
}

impl Event for ShipmentEvent {}

impl Aggregate for Shipment {
    const KIND: &'static str = "shipment";
    // It has few events: reading them costs less than looking for a snapshot first.
    const SNAPSHOTS: SnapshotPolicy = SnapshotPolicy::NEVER;
    type Event = ShipmentEvent;

    fn apply(&mut self, event: &ShipmentEvent) {
        *self = match event {
            ShipmentEvent::Created { shipped, .. } => Self::Created(shipped.shipment_id),
            ShipmentEvent::Refused(why) => Self::Refused(why.reason.clone()),
            ShipmentEvent::Cancelled(_) => Self::Cancelled,
        };
    }

    fn is_public(_: &ShipmentEvent) -> bool {
        true
    }
}

impl Shipment {
    /// Makes the shipment, or says that it cannot be delivered; again: nothing.
    pub fn create(&self, shipped: Shipped, ship_to: &ShipTo) -> Result<Option<ShipmentEvent>, ShipmentError> {
        match self {
            Self::None if is_served(ship_to) => {
                Ok(Some(ShipmentEvent::Created { shipped, ship_to: ship_to.clone() }))
            }
            Self::None => {
                let reason = format!("nothing is delivered to the country \"{}\"", ship_to.country.trim());
                let Shipped { flow, order_id, .. } = shipped;
                Ok(Some(ShipmentEvent::Refused(Refused { flow: Some(flow), order_id, reason })))
            }
            Self::Created(_) => Ok(None),
            Self::Refused(reason) => Err(ShipmentError::Refused(reason.clone())),
            Self::Cancelled => Err(ShipmentError::Cancelled),
        }
    }

    /// Cancels it; what was never made will not be. Nothing happens when there can be none.
    pub fn cancel(&self, flow: Flow, order_id: Uuid) -> Option<ShipmentEvent> {
        match self {
            Self::None | Self::Created(_) => Some(ShipmentEvent::Cancelled(Done { flow, order_id })),
            Self::Refused(_) | Self::Cancelled => None,
        }
    }
}

fn is_served(ship_to: &ShipTo) -> bool {
    !ship_to.country.trim().eq_ignore_ascii_case("XX")
}

/// There is no shipment.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ShipmentError {
    /// It cannot be delivered.
    #[error("{0}")]
    Refused(String),
    /// The order was given up before.
    #[error("the shipment was cancelled already")]
    Cancelled,
}

impl Fault for ShipmentError {
    fn kind(&self) -> FaultKind {
        FaultKind::Conflict
    }

    fn code(&self) -> &str {
        match self {
            Self::Refused(_) => "shipment-refused",
            Self::Cancelled => "shipment-cancelled",
        }
    }
}

#[cfg(test)]
mod tests {
    use purlin::message::new_id;

    use super::*;

    fn shipped() -> Shipped {
        Shipped { flow: Flow::Orchestrated, order_id: new_id(), shipment_id: new_id() }
    }

    fn to(country: &str) -> ShipTo {
        ShipTo { country: country.into(), ..ShipTo::default() }
    }

    #[test]
    fn nothing_is_delivered_to_xx() {
        let mut shipment = Shipment::default();
        shipment.apply(&shipment.create(shipped(), &to("XX")).unwrap().unwrap());
        assert!(matches!(shipment.create(shipped(), &to("XX")), Err(ShipmentError::Refused(_))));
        assert_eq!(shipment.cancel(Flow::Orchestrated, new_id()), None);
    }

    #[test]
    fn a_shipment_that_comes_after_its_cancellation_is_refused() {
        let mut shipment = Shipment::default();
        shipment.apply(&shipment.cancel(Flow::Orchestrated, new_id()).unwrap());
        assert_eq!(shipment.create(shipped(), &to("DE")), Err(ShipmentError::Cancelled));
    }

    #[test]
    fn making_it_twice_is_making_it_once() {
        let mut shipment = Shipment::default();
        shipment.apply(&shipment.create(shipped(), &to("DE")).unwrap().unwrap());
        assert_eq!(shipment.create(shipped(), &to("DE")), Ok(None));
    }
}
