//! Events of earlier programs, read by today's: in an aggregate, in a projection and from the bus.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::time::Duration;

use proptest::prelude::*;
use purlin::aggregate::{Aggregate, LoadError, Repository, UpdateError};
use purlin::bus::{Bus, Failure, Message};
use purlin::message::{DecodeError, Envelope, Event, Evolved, Fault, FaultKind};
use purlin::projection::{Projection, View, ViewError};
use purlin::store::{Commit, Expected, Recorded, Row, Store, StreamId};
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio_util::sync::CancellationToken;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum CartEvent {
    Put { sku: String, pieces: u32 },
    Emptied,
    Paid { cents: u64 },
}

impl Event for CartEvent {
    const EVOLUTION: &'static [Evolved] = &[
        Evolved::version("added", 2, |mut added| {
            added["count"] = json!(1);
            Ok(added)
        }),
        Evolved::renamed("added", "put"),
        Evolved::version("put", 3, |put| Ok(json!({ "sku": put["sku"], "pieces": put["count"] }))),
        Evolved::renamed("cleared", "emptied"),
        Evolved::version("paid", 2, |paid| {
            Ok(json!({ "cents": paid["euros"].as_u64().ok_or("paid without an amount")? * 100 }))
        }),
        Evolved::retired("touched"),
    ];
}

/// What the events sum up to.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
struct Cart {
    lines: Vec<(String, u32)>,
    paid: u64,
}

impl Cart {
    fn fold(&mut self, event: &CartEvent) {
        match event {
            CartEvent::Put { sku, pieces } => self.lines.push((sku.clone(), *pieces)),
            CartEvent::Emptied => self.lines.clear(),
            CartEvent::Paid { cents } => self.paid += cents,
        }
    }
}

impl Aggregate for Cart {
    const KIND: &'static str = "cart";
    // Carts were baskets once.
    const CATEGORY: &'static str = "basket";
    type Event = CartEvent;

    fn apply(&mut self, event: &CartEvent) {
        self.fold(event);
    }
}

impl Row for Cart {
    const COLLECTION: &'static str = "carts_view";
}

struct Carts;

impl Projection for Carts {
    const NAME: &'static str = "carts";
    const CATEGORY: &'static str = "basket";
    type Event = CartEvent;
    type Row = Cart;

    fn apply(&self, row: Option<Cart>, event: &CartEvent, _: &Recorded) -> Option<Cart> {
        let mut cart = row.unwrap_or_default();
        cart.fold(event);
        Some(cart)
    }
}

fn written(kind: &str, schema: u16, data: &serde_json::Value) -> Envelope {
    Envelope { schema, ..Envelope::raw(kind, data.to_string()) }
}

/// An event as some program wrote it, and what it means today; nothing, if it means nothing any more.
fn event() -> impl Strategy<Value = (Envelope, Option<CartEvent>)> {
    let put = |pieces| CartEvent::Put { sku: "tea".into(), pieces };
    (0..9, 1_u32..5).prop_map(move |(how, n)| match how {
        0 => (written("basket.added", 1, &json!({ "sku": "tea" })), Some(put(1))),
        1 => (written("basket.added", 2, &json!({ "sku": "tea", "count": n })), Some(put(n))),
        2 => (written("basket.put", 2, &json!({ "sku": "tea", "count": n })), Some(put(n))),
        3 => (written("basket.cleared", 1, &json!(null)), Some(CartEvent::Emptied)),
        4 => (written("basket.touched", 1, &json!({ "by": "nobody" })), None),
        5 => {
            let paid = CartEvent::Paid { cents: u64::from(n) * 100 };
            (written("basket.paid", 1, &json!({ "euros": n })), Some(paid))
        }
        6 => (Envelope::new("cart", &CartEvent::Emptied).unwrap(), Some(CartEvent::Emptied)),
        _ => (Envelope::new("cart", &put(n)).unwrap(), Some(put(n))),
    })
}

async fn append(store: &Store, events: impl IntoIterator<Item = Envelope>) {
    let stream = StreamId::new("basket", "1").unwrap();
    store.commit(Commit::new().append(stream, Expected::Any, events)).await.unwrap();
}

/// The row that a view makes of all that is in the store.
async fn row(store: &Store) -> Option<Cart> {
    let view = View::new(Carts, store);
    tokio::select! {
        end = view.run(CancellationToken::new()) => panic!("{end:?}"),
        seen = view.wait_for(store.head(), Duration::from_secs(60)) => seen.unwrap(),
    }
    view.get("1").await.unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn events_of_all_times_mean_in_an_aggregate_and_in_a_view_what_they_mean_today(
        events in prop::collection::vec(event(), 1..20),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
        runtime.unwrap().block_on(async {
            let (store, mut expected) = (Store::memory(), Cart::default());
            let carts = Repository::<Cart>::new(&store);
            let today: Vec<CartEvent> = events.iter().filter_map(|(_, today)| today.clone()).collect();
            today.iter().for_each(|event| expected.fold(event));
            append(&store, events.iter().map(|(envelope, _)| envelope.clone())).await;

            let cart = carts.load("1").await.unwrap();
            assert_eq!((cart.state(), cart.version()), (&expected, events.len() as u64));
            let history = carts.history("1", 1, today.len()).await.unwrap();
            assert_eq!(history.into_iter().map(|(_, event)| event).collect::<Vec<_>>(), today);
            let wanted = (!today.is_empty()).then_some(expected);
            assert_eq!(row(&store).await, wanted, "a retired event makes no row");

            let paid = carts.update("1", |_| Ok::<_, ()>(CartEvent::Paid { cents: 5 })).await.unwrap();
            let stored = store.read_stream(&paid.stream().unwrap(), paid.version(), 2).await.unwrap();
            let (kind, schema) = (&*stored[0].envelope.kind, stored[0].envelope.schema);
            assert_eq!((stored.len(), kind, schema), (1, "cart.paid", 2));
            assert_eq!(carts.load("1").await.unwrap().state(), paid.state());
        });
    }
}

#[tokio::test]
async fn what_a_newer_program_wrote_stops_who_would_misread_it_and_says_where_it_stands() {
    let store = Store::memory();
    append(&store, [Envelope::new("cart", &CartEvent::Emptied).unwrap()]).await;
    append(&store, [written("cart.put", 4, &json!({ "sku": "tea", "pieces": 1, "gift": true }))]).await;
    let newer = "an event of kind `cart.put` was written in version 4 by a newer program, 3 is known";
    let error = Repository::<Cart>::new(&store).load("1").await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "the event at 2, version 2 of `basket-1`, a `cart.put` written in its version 4, cannot be read"
    );
    assert_eq!(error.kind(), FaultKind::Bug);
    let LoadError::Unreadable(unreadable) = error else { panic!("{error:?}") };
    assert_eq!(unreadable.source.to_string(), newer);

    let Err(ViewError::Misfit { misfit, .. }) =
        View::new(Carts, &store).park_at_most(0).run(CancellationToken::new()).await
    else {
        panic!("the view must stop")
    };
    assert_eq!(
        misfit.to_string(),
        format!("the event at 2, version 2 of `basket-1`, a `cart.put`, does not fit: {newer}")
    );
}

#[tokio::test]
async fn an_upcaster_that_does_not_take_an_event_is_an_error_that_says_so() {
    let store = Store::memory();
    append(&store, [written("basket.paid", 1, &json!({ "dollars": 5 }))]).await;
    let error = Repository::<Cart>::new(&store).load("1").await.unwrap_err();
    let LoadError::Unreadable(unreadable) = error else { panic!("{error:?}") };
    let DecodeError::Upcast { from: 1, to: 2, source, .. } = *unreadable.source else {
        panic!("{unreadable:?}")
    };
    assert_eq!(source.to_string(), "paid without an amount");
}

#[tokio::test(start_paused = true)]
async fn a_handler_meets_what_was_published_long_ago_as_it_is_today() {
    let (carts, shipping, bus) = (Store::memory(), Store::memory(), Bus::embedded(Store::memory()));
    let handler = async |message: Message| {
        let event: CartEvent = message.decode()?;
        let stream = StreamId::new("seen", message.key()).unwrap();
        Ok::<_, Failure>(Commit::new().append(
            stream,
            Expected::Any,
            [Envelope::new("seen", &event).unwrap()],
        ))
    };
    let group = bus.group("shipping", &shipping).on("basket.added", handler).on("cart.put", handler);
    let put = CartEvent::Put { sku: "tea".into(), pieces: 7 };
    let old = written("basket.added", 1, &json!({ "sku": "tea" }));
    append(&carts, [old.public(), Envelope::new("cart", &put).unwrap().public()]).await;
    let mut seen = shipping.watch();
    tokio::select! {
        end = bus.relay("carts", &carts) => panic!("{end:?}"),
        end = group.run(CancellationToken::new()) => panic!("{end:?}"),
        two = seen.wait_for(|head| head.0 == 2) => assert!(two.is_ok()),
        () = tokio::time::sleep(Duration::from_secs(60)) => panic!("both should have been handled by now"),
    }
    let seen = shipping.read_stream(&StreamId::new("seen", "1").unwrap(), 1, 10).await.unwrap();
    let seen: Vec<_> = seen.iter().map(|event| event.read::<CartEvent>().unwrap().unwrap()).collect();
    assert_eq!(seen, [CartEvent::Put { sku: "tea".into(), pieces: 1 }, put]);
}

#[derive(Debug, Serialize, Deserialize)]
enum Misspelt {
    Placed,
}

impl Event for Misspelt {
    const EVOLUTION: &'static [Evolved] = &[Evolved::version("Plaecd", 2, Ok)];
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct Order;

impl Aggregate for Order {
    const KIND: &'static str = "order";
    type Event = Misspelt;

    fn apply(&mut self, _: &Misspelt) {}
}

#[tokio::test]
async fn a_misspelt_kind_is_told_before_anything_is_read_or_written() {
    let orders = Repository::<Order>::new(&Store::memory());
    let error = orders.update("1", |_| Ok::<_, ()>(Misspelt::Placed)).await.unwrap_err();
    let UpdateError::Load(LoadError::Evolution(unknown)) = error else { panic!("{error:?}") };
    assert_eq!(
        unknown.to_string(),
        r#"the evolution of an event names `Plaecd`, which is none of its variants: ["Placed"]"#
    );
}
