//! The stockroom: holds all lines of an order on their shelves, or none, in one commit.
//!
//! Everybody wants the same few shelves, so wishes are not decided one by one: one task, the [clerk](Clerk), decides
//! all that wait, in their order, and commits them together. Nothing depends on that but speed, since the versions
//! of the streams decide; but nobody loses a race, a shelf takes as many orders as a commit takes events, and who
//! does not wait for his answer any more leaves nothing half done.

mod clerk;
mod desk;
mod error;
mod pages;

use std::collections::BTreeMap;
use std::sync::Arc;

use purlin::aggregate::{LoadError, Repository, UpdateError};
use purlin::message::Uuid;
use purlin::store::Store;
use purlin::telemetry;
use tokio::sync::{Mutex, OwnedMutexGuard, mpsc, oneshot};

use super::shelf::{Shelf, ShelfError};
use crate::contracts::events::{Flow, Line};
pub use clerk::Clerk;
use clerk::Wish;
pub use error::{StockroomError, Trouble};
use pages::Pages;

/// How many wishes may wait.
const WAITING: usize = 10_000;

/// The stockroom; cheap to clone.
#[derive(Clone)]
pub struct Stockroom {
    shelves: Repository<Shelf>,
    pages: Arc<Pages>,
    /// Who has it changes shelves: the clerk, or somebody who fills one.
    turn: Arc<Mutex<()>>,
    wishes: mpsc::Sender<Wish>,
}

/// What is wanted for an order.
#[derive(Debug, Clone)]
enum Wanted {
    /// All its lines held.
    Reserve(Vec<Line>),
    /// Everything given back.
    Release,
    /// What is held gone with it.
    Leave,
}

impl Stockroom {
    /// The stockroom whose shelves are in `store`, and the clerk who does what is wanted of it.
    pub fn new(store: &Store) -> (Self, Clerk) {
        let (pages, turn) = (Arc::new(Pages::new(store)), Arc::new(Mutex::new(())));
        let (wishes, inbox) = mpsc::channel(WAITING);
        let clerk = Clerk::new(store, Arc::clone(&pages), Arc::clone(&turn), inbox);
        (Self { shelves: Repository::new(store), pages, turn, wishes }, clerk)
    }

    /// The shelves; who changes one has the [turn](Stockroom::turn) until he has committed, so that he loses no race.
    pub fn shelves(&self) -> &Repository<Shelf> {
        &self.shelves
    }

    /// Waits for the turn to change shelves by oneself.
    pub async fn turn(&self) -> OwnedMutexGuard<()> {
        Arc::clone(&self.turn).lock_owned().await
    }

    /// Gives a product its shelf; how many can be ordered of it.
    pub async fn open(&self, product_id: Uuid, quantity: i64) -> Result<i64, UpdateError<ShelfError>> {
        let _turn = self.turn().await;
        let shelf = self.shelves.update(product_id, |shelf| shelf.open(quantity)).await?;
        Ok(shelf.on_hand)
    }

    /// How many can be ordered of each product that has a shelf.
    pub async fn levels(&self, product_ids: &[Uuid]) -> Result<BTreeMap<Uuid, i64>, LoadError> {
        let pages = self.pages.find(product_ids).await?.into_iter();
        Ok(pages.filter(|(_, page)| page.version > 0).map(|(id, page)| (id, page.shelf.on_hand)).collect())
    }

    /// Holds all lines for an order; or, for good, none.
    pub async fn reserve(&self, flow: Flow, order_id: Uuid, lines: &[Line]) -> Result<(), StockroomError> {
        self.wish(flow, order_id, Wanted::Reserve(lines.to_vec())).await
    }

    /// Gives back what is held for an order, and refuses a reservation that comes later.
    pub async fn release(&self, flow: Flow, order_id: Uuid) -> Result<(), StockroomError> {
        self.wish(flow, order_id, Wanted::Release).await
    }

    /// Lets what is held for an order leave.
    pub async fn leave(&self, flow: Flow, order_id: Uuid) -> Result<(), StockroomError> {
        self.wish(flow, order_id, Wanted::Leave).await
    }

    /// Wishes, and waits until it is committed that it was granted or refused.
    async fn wish(&self, flow: Flow, order_id: Uuid, wanted: Wanted) -> Result<(), StockroomError> {
        let (answer, answered) = oneshot::channel();
        let wish = Wish { order_id, flow, wanted, trace: telemetry::current(), answer };
        self.wishes.try_send(wish).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => StockroomError::Overloaded,
            mpsc::error::TrySendError::Closed(_) => StockroomError::Stopped,
        })?;
        let answer = answered.await.map_err(|_| StockroomError::Stopped)?;
        answer.map_err(StockroomError::Trouble)?.map_err(StockroomError::Refused)
    }
}

#[cfg(test)]
mod tests {
    use std::ops::Deref;

    use purlin::aggregate::Aggregate as _;
    use purlin::message::{Envelope, Fault as _, new_id};
    use purlin::store::{Commit, Expected, StreamId};
    use purlin_sqlite::{Options, Sqlite};
    use tokio::task::JoinSet;
    use tokio_util::sync::CancellationToken;

    use super::super::reservation::{Reservation, StockEvent, StockReserved};
    use super::*;

    const FLOW: Flow = Flow::Orchestrated;

    /// A stockroom whose clerk is at work.
    struct Room {
        room: Stockroom,
        store: Store,
        _clerk: JoinSet<()>,
    }

    impl Deref for Room {
        type Target = Stockroom;

        fn deref(&self) -> &Stockroom {
            &self.room
        }
    }

    impl Room {
        fn new(store: Store) -> Self {
            let ((room, clerk), mut tasks) = (Stockroom::new(&store), JoinSet::new());
            tasks.spawn(async { clerk.run(CancellationToken::new()).await.unwrap() });
            Self { room, store, _clerk: tasks }
        }
    }

    async fn stockroom(stock: &[i64]) -> (Room, Vec<Uuid>) {
        stockroom_in(Store::memory(), stock).await
    }

    async fn stockroom_in(store: Store, stock: &[i64]) -> (Room, Vec<Uuid>) {
        let room = Room::new(store);
        let mut products = Vec::new();
        for quantity in stock {
            let product_id = new_id();
            room.open(product_id, *quantity).await.unwrap();
            products.push(product_id);
        }
        (room, products)
    }

    fn line(product_id: Uuid, quantity: u32) -> Line {
        Line { product_id, quantity }
    }

    async fn on_hand(room: &Room, products: &[Uuid]) -> Vec<i64> {
        let known: Vec<i64> = room.levels(products).await.unwrap().into_values().collect();
        let (fresh, _) = Stockroom::new(&room.store);
        let stored: Vec<i64> = fresh.levels(products).await.unwrap().into_values().collect();
        assert_eq!(known, stored, "what is in mind is what is stored");
        known
    }

    #[tokio::test]
    async fn what_does_not_fit_together_is_told_and_stops_nobody() {
        let (room, products) = stockroom(&[5]).await;
        let broken = new_id();
        // A reservation of which no shelf knows.
        let event = StockEvent::Reserved(StockReserved {
            flow: FLOW,
            order_id: broken,
            lines: vec![line(products[0], 1)],
        });
        let stream = StreamId::new(Reservation::KIND, broken).unwrap();
        let event = Envelope::new(Reservation::KIND, &event).unwrap();
        room.store.commit(Commit::new().append(stream, Expected::NoStream, [event])).await.unwrap();
        let lines = [line(products[0], 2)];
        let (released, reserved) =
            tokio::join!(room.release(FLOW, broken), room.reserve(FLOW, new_id(), &lines));
        assert!(
            matches!(released, Err(StockroomError::Trouble(trouble)) if matches!(*trouble, Trouble::Stale))
        );
        reserved.unwrap();
        assert_eq!(on_hand(&room, &products).await, [3]);
    }

    #[tokio::test]
    async fn all_lines_are_held_or_none() {
        let (room, products) = stockroom(&[5, 2]).await;
        let lines = [line(products[0], 3), line(products[1], 3)];
        let refused = room.reserve(FLOW, new_id(), &lines).await.unwrap_err();
        assert_eq!(refused.code(), "product-unavailable");
        assert_eq!(on_hand(&room, &products).await, [5, 2]);
        room.reserve(FLOW, new_id(), &[line(products[0], 3), line(products[1], 2)]).await.unwrap();
        assert_eq!(on_hand(&room, &products).await, [2, 0]);
    }

    #[tokio::test]
    async fn reserving_and_releasing_twice_is_doing_it_once() {
        let (room, products) = stockroom(&[5]).await;
        let order = new_id();
        for _ in 0..2 {
            room.reserve(FLOW, order, &[line(products[0], 3)]).await.unwrap();
        }
        assert_eq!(on_hand(&room, &products).await, [2]);
        for _ in 0..2 {
            room.release(FLOW, order).await.unwrap();
        }
        assert_eq!(on_hand(&room, &products).await, [5]);
        let late = room.reserve(FLOW, order, &[line(products[0], 3)]).await.unwrap_err();
        assert_eq!(late.code(), "reservation-released");
    }

    #[tokio::test]
    async fn a_release_that_comes_first_refuses_the_reservation() {
        let (room, products) = stockroom(&[5]).await;
        let order = new_id();
        room.release(FLOW, order).await.unwrap();
        assert!(room.reserve(FLOW, order, &[line(products[0], 1)]).await.is_err());
        assert_eq!(on_hand(&room, &products).await, [5]);
    }

    #[tokio::test]
    async fn many_at_once_never_hold_more_than_there_is_and_need_few_commits() {
        let (room, products) = stockroom(&[10]).await;
        let before = room.store.head();
        let reserve = |order| {
            let (room, lines) = (room.room.clone(), [line(products[0], 3)]);
            async move { room.reserve(FLOW, order, &lines).await }
        };
        let outcomes = futures_util::future::join_all((0..20).map(|_| reserve(new_id()))).await;
        assert_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count(), 3);
        assert_eq!(on_hand(&room, &products).await, [1]);
        // Each order has one event of its own, and each of the three holds one of the shelf.
        assert_eq!(room.store.head().0 - before.0, 23);
    }

    #[tokio::test]
    async fn a_shelf_that_somebody_fills_meanwhile_is_looked_at_anew() {
        let (room, products) = stockroom(&[1]).await;
        room.reserve(FLOW, new_id(), &[line(products[0], 1)]).await.unwrap();
        // Past the turn, as another process would.
        room.shelves.update(products[0], |shelf| shelf.add(2)).await.unwrap();
        room.reserve(FLOW, new_id(), &[line(products[0], 2)]).await.unwrap();
        let turn = room.turn().await;
        room.shelves.update(products[0], |shelf| shelf.add(2)).await.unwrap();
        drop(turn);
        room.reserve(FLOW, new_id(), &[line(products[0], 2)]).await.unwrap();
        assert_eq!(on_hand(&room, &products).await, [0]);
    }

    #[tokio::test]
    async fn a_shelf_that_somebody_else_changes_is_shown_as_it_is() {
        let (room, products) = stockroom(&[1, 7]).await;
        assert_eq!(on_hand(&room, &products).await, [1, 7]);
        for _ in 0..3 {
            room.shelves.update(products[0], |shelf| shelf.add(2)).await.unwrap();
        }
        assert_eq!(on_hand(&room, &products).await, [7, 7]);
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn who_gives_up_when_it_is_committed_leaves_nothing_held_once_it_is_released() {
        let folder = std::env::temp_dir().join(format!("stockroom-{}", new_id()));
        std::fs::create_dir_all(&folder).unwrap();
        let store = Store::new(Sqlite::open(Options::new(folder.join("inventory.db"))).await.unwrap());
        let (room, products) = stockroom_in(store, &[5]).await;
        let mut changes = room.store.watch();
        for _ in 0..20 {
            let (order, lines) = (new_id(), [line(products[0], 3)]);
            changes.mark_unchanged();
            tokio::select! {
                biased;
                _ = changes.changed() => {}
                reserved = room.reserve(FLOW, order, &lines) => reserved.unwrap(),
            }
            room.release(FLOW, order).await.unwrap();
            assert_eq!(on_hand(&room, &products).await, [5]);
        }
        room.store.close().await;
        std::fs::remove_dir_all(&folder).unwrap();
    }

    #[tokio::test]
    async fn an_order_of_more_lines_than_a_commit_should_have_is_decided_and_stops_nobody() {
        let (room, products) = stockroom(&[5]).await;
        let lines: Vec<Line> = (0..2100).map(|_| line(new_id(), 1)).collect();
        let refused = room.reserve(FLOW, new_id(), &lines).await.unwrap_err();
        assert_eq!(refused.code(), "product-unavailable");
        room.reserve(FLOW, new_id(), &[line(products[0], 1)]).await.unwrap();
    }

    #[tokio::test]
    async fn a_stockroom_that_was_stopped_says_so() {
        let (room, clerk) = Stockroom::new(&Store::memory());
        let stopped = CancellationToken::new();
        stopped.cancel();
        clerk.run(stopped).await.unwrap();
        let error = room.release(FLOW, new_id()).await.unwrap_err();
        assert!(matches!(error, StockroomError::Stopped), "{error}");
    }
}
