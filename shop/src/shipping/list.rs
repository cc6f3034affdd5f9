//! The read model of all shipments, for those who run the shop.

use purlin::message::{Timestamp, Uuid};
use purlin::projection::Projection;
use purlin::store::{Field, Recorded, Row};
use serde::{Deserialize, Serialize};

use super::shipment::ShipmentEvent;

/// The projection of shipments to [`Listed`]s.
pub struct Shipments;

/// A shipment as it is listed.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Listed {
    /// Of which order.
    pub order_id: Uuid,
    /// How it stands: `created`, `refused` or `cancelled`.
    pub state: String,
    /// Which shipment, once it was made.
    pub shipment_id: Option<Uuid>,
    /// Since when it stands so.
    pub at: Timestamp,
}

impl Row for Listed {
    const COLLECTION: &'static str = "shipments_view";
    const FIELDS: &'static [Field] = &[Field::text("state")];
}

impl Projection for Shipments {
    const NAME: &'static str = "shipments_view";
    const CATEGORY: &'static str = "shipment";
    type Event = ShipmentEvent;
    type Row = Listed;

    fn apply(&self, row: Option<Listed>, event: &ShipmentEvent, recorded: &Recorded) -> Option<Listed> {
        let known = row.and_then(|row| row.shipment_id);
        let (state, shipment_id) = match event {
            ShipmentEvent::Created { shipped, .. } => ("created", Some(shipped.shipment_id)),
            ShipmentEvent::Refused(_) => ("refused", known),
            ShipmentEvent::Cancelled(_) => ("cancelled", known),
        };
        let order_id = recorded.stream.key().parse().ok()?;
        Some(Listed { order_id, state: state.to_owned(), shipment_id, at: recorded.at })
    }
}
