//! The one event and the one aggregate that everybody stores, folds and reads.

use anyhow::Result;
use cqrs_es::DomainEvent;
use cqrs_es::event_sink::EventSink;
use purlin::aggregate::SnapshotPolicy;
use purlin_bench::append;
use serde::{Deserialize, Serialize};

/// What happens to an order. On the wire as [`append::payload`] writes it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, disintegrate::Event)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum OrderEvent {
    ItemAdded {
        #[id]
        order_id: String,
        sku: String,
        quantity: i64,
        price: Price,
    },
    Submitted {
        #[id]
        order_id: String,
    },
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Price {
    pub(crate) amount: i64,
    pub(crate) currency: String,
}

/// The data of an item that was added.
#[derive(Deserialize)]
struct Item {
    order_id: String,
    sku: String,
    quantity: i64,
    price: Price,
}

/// The data of a submission.
#[derive(Deserialize)]
struct Only {
    order_id: String,
}

impl purlin::message::Event for OrderEvent {}

impl OrderEvent {
    /// The event whose data are [`append::payload`].
    pub(crate) fn item(n: u64) -> Self {
        Self::ItemAdded {
            order_id: append::key(n),
            sku: format!("tea-{n}"),
            quantity: 3,
            price: Price { amount: 1299, currency: "EUR".into() },
        }
    }

    /// The event as a store gives it: its kind and its data.
    pub(crate) fn read(kind: &str, data: &[u8]) -> Result<Self> {
        Ok(match kind.rsplit_once('.').map_or(kind, |(_, variant)| variant) {
            "item-added" => {
                let Item { order_id, sku, quantity, price } = serde_json::from_slice(data)?;
                Self::ItemAdded { order_id, sku, quantity, price }
            }
            _ => {
                let Only { order_id } = serde_json::from_slice(data)?;
                Self::Submitted { order_id }
            }
        })
    }

    /// The event as `serde_json` writes the enum: the tag stands around the data.
    pub(crate) fn tagged(n: u64) -> String {
        format!("{{\"item-added\":{}}}", append::payload(n))
    }
}

/// An order; a snapshot each `SNAPSHOT` events, never when that is 0.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Order<const SNAPSHOT: u64> {
    pub(crate) items: i64,
    pub(crate) total: i64,
    pub(crate) last: String,
    pub(crate) submitted: bool,
}

impl<const SNAPSHOT: u64> Order<SNAPSHOT> {
    /// The fold, which is everybody's.
    pub(crate) fn fold(&mut self, event: &OrderEvent) {
        match event {
            OrderEvent::ItemAdded { sku, quantity, price, .. } => {
                self.items += quantity;
                self.total += quantity * price.amount;
                self.last.clone_from(sku);
            }
            OrderEvent::Submitted { .. } => self.submitted = true,
        }
    }
}

impl<const SNAPSHOT: u64> purlin::aggregate::Aggregate for Order<SNAPSHOT> {
    const KIND: &'static str = "order";
    const SNAPSHOTS: SnapshotPolicy = match SNAPSHOT {
        0 => SnapshotPolicy::NEVER,
        every => SnapshotPolicy::every(every),
    };
    type Event = OrderEvent;

    fn apply(&mut self, event: &OrderEvent) {
        self.fold(event);
    }
}

impl DomainEvent for OrderEvent {
    fn event_type(&self) -> String {
        match self {
            Self::ItemAdded { .. } => "item-added".into(),
            Self::Submitted { .. } => "submitted".into(),
        }
    }

    fn event_version(&self) -> String {
        "1".into()
    }
}

/// Nothing that an order refuses.
#[derive(Debug)]
pub(crate) struct Never;

impl std::fmt::Display for Never {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("never")
    }
}

impl std::error::Error for Never {}

impl<const SNAPSHOT: u64> cqrs_es::Aggregate for Order<SNAPSHOT> {
    const TYPE: &'static str = "order";
    type Command = OrderEvent;
    type Event = OrderEvent;
    type Error = Never;
    type Services = ();

    async fn handle(
        &mut self,
        command: OrderEvent,
        (): &(),
        sink: &EventSink<Self>,
    ) -> std::result::Result<(), Never> {
        sink.write(command, self).await;
        Ok(())
    }

    fn apply(&mut self, event: OrderEvent) {
        self.fold(&event);
    }
}
