//! Views have no effects, and what has effects does not notice a rebuild.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use purlin::bus::{Bus, Failure, Message};
use purlin::message::{Envelope, Event};
use purlin::projection::{Projection, View};
use purlin::store::{Commit, Expected, Recorded, Row, Store, StreamId};
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum OrderEvent {
    Placed,
    Thanked,
}

impl Event for OrderEvent {}

#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
struct OrderRow {
    events: u32,
}

impl Row for OrderRow {
    const COLLECTION: &'static str = "effects_orders";
}

struct Orders<const V: u32>;

impl<const V: u32> Projection for Orders<V> {
    const NAME: &'static str = "effects_orders";
    const VERSION: u32 = V;
    const CATEGORY: &'static str = "order";
    type Event = OrderEvent;
    type Row = OrderRow;

    fn apply(&self, row: Option<OrderRow>, _: &OrderEvent, _: &Recorded) -> Option<OrderRow> {
        Some(OrderRow { events: row.unwrap_or_default().events + V })
    }
}

const ORDERS: u64 = 40;

/// A mailer sends a mail for each order, and notes in the order that it has.
#[tokio::test]
async fn a_rebuild_fires_no_effect_again() {
    let (orders, bus) = (Store::memory(), Store::memory());
    let mails = Arc::new(AtomicUsize::new(0));
    let sent = Arc::clone(&mails);
    let send = move |message: Message| {
        sent.fetch_add(1, Ordering::SeqCst);
        let thanked = Envelope::new("order", &OrderEvent::Thanked).expect("an enum");
        let stream = StreamId::new("order", message.key()).expect("a name");
        async move { Ok::<_, Failure>(Commit::new().append(stream, Expected::Any, [thanked])) }
    };
    let mailer = Bus::embedded(bus.clone()).group("mailer", &orders).on("order.placed", send);
    for n in 0..ORDERS {
        let placed = Envelope::new("order", &OrderEvent::Placed).expect("an enum").public();
        let stream = StreamId::new("order", n).expect("a name");
        orders.commit(Commit::new().append(stream, Expected::NoStream, [placed])).await.expect("an append");
    }
    let rebuilds = async {
        let mut watch = orders.watch();
        watch.wait_for(|head| head.0 == 2 * ORDERS).await.expect("every order is thanked for");
        let before = (orders.head(), bus.head());
        // By an operator, and by a new version.
        let view = View::new(Orders::<1>, &orders);
        let rebuilt = async {
            view.wait_for(before.0, Duration::from_secs(30)).await.expect("it follows");
            view.rebuild().await.expect("it is there");
            let mut watch = orders.watch();
            while view.status().await.expect("a status").rebuild.is_some() {
                watch.changed().await.expect("the store is open");
            }
        };
        tokio::select! {
            end = view.run(CancellationToken::new()) => panic!("{end:?}"),
            () = rebuilt => {}
        }
        let newer = View::new(Orders::<2>, &orders);
        tokio::select! {
            end = newer.run(CancellationToken::new()) => panic!("{end:?}"),
            seen = newer.wait_for(before.0, Duration::from_secs(30)) => seen.expect("it is built anew"),
        }
        for n in 0..ORDERS {
            let row = newer.get(&n.to_string()).await.expect("readable");
            assert_eq!(row, Some(OrderRow { events: 4 }), "both events, twice each");
        }
        // Whatever it had set off would come before this.
        let stream = StreamId::new("order", "last").expect("a name");
        let placed = Envelope::new("order", &OrderEvent::Placed).expect("an enum").public();
        orders.commit(Commit::new().append(stream, Expected::NoStream, [placed])).await.expect("an append");
        watch.wait_for(|head| head.0 >= before.0.0 + 2).await.expect("it is thanked for too");
        assert_eq!(
            (orders.head().0, bus.head().0),
            (before.0.0 + 2, before.1.0 + 1),
            "rebuilds append nothing"
        );
        assert_eq!(mails.load(Ordering::SeqCst) as u64, ORDERS + 1, "a mail for each order");
    };
    tokio::select! {
        end = Bus::embedded(bus.clone()).relay("orders", &orders) => panic!("{end:?}"),
        end = mailer.run(CancellationToken::new()) => panic!("{end:?}"),
        () = rebuilds => {}
    }
}
