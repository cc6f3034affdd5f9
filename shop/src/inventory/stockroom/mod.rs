//! The stockroom: holds all lines of an order on their shelves, or none, in one commit.
//!
//! Everybody wants the same few shelves, so wishes are not decided one by one: whoever has the turn decides all
//! that wait, in their order, and commits them together. Nothing depends on that but speed, since the versions of
//! the streams decide; but nobody loses a race, and a shelf takes as many orders as a commit takes events.

mod desk;
mod error;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use purlin::aggregate::{LoadError, Repository, UpdateError};
use purlin::message::Uuid;
use purlin::store::{CommitError, Store};
use tokio::sync::{Mutex as Turn, OwnedMutexGuard, oneshot};

use super::reservation::{Reservation, ReserveError};
use super::shelf::{Shelf, ShelfError};
use crate::contracts::events::{Flow, Line};
use desk::{Desk, Page};
pub use error::{StockroomError, Trouble};

/// How many wishes may wait.
const WAITING: usize = 10_000;

/// How often wishes are decided anew because somebody else changed a shelf.
const ATTEMPTS: usize = 20;

/// How many shelves are kept in mind.
const PAGES: usize = 10_000;

/// The stockroom; cheap to clone.
#[derive(Clone)]
pub struct Stockroom {
    store: Store,
    shelves: Repository<Shelf>,
    reservations: Repository<Reservation>,
    /// What is wanted and not decided.
    wishes: Arc<Mutex<VecDeque<Wish>>>,
    /// Who has it may change shelves.
    turn: Arc<Turn<()>>,
    /// Shelves as they were last committed.
    pages: Arc<Mutex<HashMap<Uuid, Page>>>,
}

/// Something that somebody waits for.
struct Wish {
    order_id: Uuid,
    flow: Flow,
    wanted: Wanted,
    answer: oneshot::Sender<Answer>,
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

type Answer = Result<Result<(), ReserveError>, Arc<Trouble>>;

impl Stockroom {
    /// The stockroom whose shelves are in `store`.
    pub fn new(store: &Store) -> Self {
        Self {
            store: store.clone(),
            shelves: Repository::new(store),
            reservations: Repository::new(store),
            wishes: Arc::default(),
            turn: Arc::default(),
            pages: Arc::default(),
        }
    }

    /// The shelves; who changes one has the [turn](Stockroom::turn) until he has committed.
    pub fn shelves(&self) -> &Repository<Shelf> {
        &self.shelves
    }

    /// Waits for the turn to change a shelf by oneself.
    pub async fn turn(&self, product_id: Uuid) -> Taken {
        let turn = Arc::clone(&self.turn).lock_owned().await;
        Taken { _turn: turn, room: self.clone(), product_id }
    }

    /// Gives a product its shelf; how many can be ordered of it.
    pub async fn open(&self, product_id: Uuid, quantity: i64) -> Result<i64, UpdateError<ShelfError>> {
        let _turn = self.turn(product_id).await;
        let shelf = self.shelves.update(product_id, |shelf| shelf.open(quantity)).await?;
        Ok(shelf.on_hand)
    }

    /// How many can be ordered of each product that has a shelf.
    pub async fn levels(&self, product_ids: &[Uuid]) -> Result<BTreeMap<Uuid, i64>, LoadError> {
        let mut levels = BTreeMap::new();
        for product_id in product_ids {
            let known = self.pages().get(product_id).map(|page| page.shelf.on_hand);
            let on_hand = match known {
                Some(on_hand) => Some(on_hand),
                None => {
                    let shelf = self.shelves.load(product_id).await?;
                    shelf.exists().then_some(shelf.on_hand)
                }
            };
            levels.extend(on_hand.map(|on_hand| (*product_id, on_hand)));
        }
        Ok(levels)
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
        loop {
            let (answer, mut answered) = oneshot::channel();
            self.queue(Wish { order_id, flow, wanted: wanted.clone(), answer })?;
            let answer = tokio::select! {
                biased;
                answer = &mut answered => answer,
                turn = self.turn.lock() => {
                    // Those before us may have decided ours as well.
                    if let Ok(answer) = answered.try_recv() {
                        Ok(answer)
                    } else {
                        self.decide_all().await;
                        drop(turn);
                        answered.await
                    }
                }
            };
            // Who had the turn was stopped before he could answer: ask again, what is decided stays decided.
            let Ok(answer) = answer else { continue };
            return answer.map_err(StockroomError::Trouble)?.map_err(StockroomError::Refused);
        }
    }

    fn queue(&self, wish: Wish) -> Result<(), StockroomError> {
        let mut wishes = self.wishes.lock().unwrap_or_else(PoisonError::into_inner);
        if wishes.len() >= WAITING {
            return Err(StockroomError::Overloaded);
        }
        wishes.push_back(wish);
        Ok(())
    }

    /// Decides everything that waits, as much at a time as fits a commit. Only who has the turn may call it.
    async fn decide_all(&self) {
        loop {
            let wishes = {
                let mut waiting = self.wishes.lock().unwrap_or_else(PoisonError::into_inner);
                let mut events = 0;
                let mut fits = |wish: &Wish| {
                    events += wish.events();
                    events <= desk::MOST_EVENTS
                };
                let many = waiting.iter().take_while(|wish| fits(wish)).count();
                waiting.drain(..many).collect::<Vec<_>>()
            };
            if wishes.is_empty() {
                return;
            }
            self.decide(wishes).await;
        }
    }

    async fn decide(&self, wishes: Vec<Wish>) {
        for _ in 0..ATTEMPTS {
            let mut desk = Desk::new(&self.shelves, &self.reservations, &self.pages);
            let mut decided = Vec::with_capacity(wishes.len());
            for wish in &wishes {
                decided.push(desk.decide(wish).await.map_err(Arc::new));
            }
            let committed = match desk.commit() {
                Ok(commit) if commit.is_empty() => Ok(()),
                Ok(commit) => self.store.commit(commit).await.map(|_| ()),
                Err(error) => Err(CommitError::Invalid(error.to_string())),
            };
            match committed {
                Ok(()) => {
                    desk.remember(PAGES);
                    for (wish, decided) in wishes.into_iter().zip(decided) {
                        // Who does not wait any more will ask again if he must know.
                        let _ = wish.answer.send(decided);
                    }
                    return;
                }
                Err(CommitError::Conflict(_)) => self.pages().clear(),
                Err(error) => {
                    self.pages().clear();
                    let trouble = Arc::new(Trouble::Commit(error));
                    for wish in wishes {
                        let _ = wish.answer.send(Err(Arc::clone(&trouble)));
                    }
                    return;
                }
            }
        }
        let trouble = Arc::new(Trouble::Contended);
        for wish in wishes {
            let _ = wish.answer.send(Err(Arc::clone(&trouble)));
        }
    }

    fn pages(&self) -> MutexGuard<'_, HashMap<Uuid, Page>> {
        self.pages.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Wish {
    /// How many events it comes to at most.
    fn events(&self) -> usize {
        match &self.wanted {
            Wanted::Reserve(lines) => lines.len() + 1,
            // An order has as many lines as it was reserved with.
            Wanted::Release | Wanted::Leave => 101,
        }
    }
}

/// The turn, taken to change one shelf; what was in mind of it is forgotten before somebody else has the turn.
pub struct Taken {
    _turn: OwnedMutexGuard<()>,
    room: Stockroom,
    product_id: Uuid,
}

impl Drop for Taken {
    fn drop(&mut self) {
        self.room.pages().remove(&self.product_id);
    }
}

#[cfg(test)]
mod tests {
    use purlin::message::{Fault as _, new_id};

    use super::*;

    const FLOW: Flow = Flow::Orchestrated;

    async fn stockroom(stock: &[i64]) -> (Stockroom, Vec<Uuid>) {
        let room = Stockroom::new(&Store::memory());
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

    async fn on_hand(room: &Stockroom, products: &[Uuid]) -> Vec<i64> {
        let known: Vec<i64> = room.levels(products).await.unwrap().into_values().collect();
        let stored =
            Stockroom::new(&room.store).levels(products).await.unwrap().into_values().collect::<Vec<_>>();
        assert_eq!(known, stored, "what is in mind is what is stored");
        known
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
            let (room, lines) = (room.clone(), [line(products[0], 3)]);
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
        room.reserve(FLOW, new_id(), &[line(products[0], 1)]).await.unwrap_err();
        let taken = room.turn(products[0]).await;
        room.shelves.update(products[0], |shelf| shelf.add(2)).await.unwrap();
        drop(taken);
        room.reserve(FLOW, new_id(), &[line(products[0], 4)]).await.unwrap();
        assert_eq!(on_hand(&room, &products).await, [0]);
    }
}
