//! The stockroom: holds all lines of an order on their shelves, or none, in one commit.

use std::collections::BTreeMap;
use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use purlin::aggregate::{LoadError, Repository, UpdateError};
use purlin::message::{Fault, FaultKind, Uuid};
use purlin::store::{Commit, CommitError, Store};
use tokio::sync::{Mutex, OwnedMutexGuard};

use super::reservation::{Reservation, Reserve, ReserveError, StockEvent, StockReserved};
use super::shelf::{Shelf, ShelfError};
use crate::contracts::events::{Flow, Line, Refused};

/// How often a change is decided anew because somebody else was faster.
const ATTEMPTS: usize = 50;

/// How many queues shelves are spread over.
const QUEUES: usize = 256;

/// The stockroom; cheap to clone.
#[derive(Clone)]
pub struct Stockroom {
    store: Store,
    shelves: Repository<Shelf>,
    reservations: Repository<Reservation>,
    /// Those who want the same shelf queue for it here, since all but one would have to decide anew otherwise.
    /// Nothing depends on it but speed: the shelves' versions decide.
    queues: Arc<[Arc<Mutex<()>>]>,
}

impl Stockroom {
    /// The stockroom whose shelves are in `store`.
    pub fn new(store: &Store) -> Self {
        Self {
            store: store.clone(),
            shelves: Repository::new(store),
            reservations: Repository::new(store),
            queues: (0..QUEUES).map(|_| Arc::default()).collect(),
        }
    }

    /// The shelves.
    pub fn shelves(&self) -> &Repository<Shelf> {
        &self.shelves
    }

    /// Gives a product its shelf; how many can be ordered of it.
    pub async fn open(&self, product_id: Uuid, quantity: i64) -> Result<i64, UpdateError<ShelfError>> {
        let shelf = self.shelves.update(product_id, |shelf| shelf.open(quantity)).await?;
        Ok(shelf.on_hand)
    }

    /// How many can be ordered of each product that has a shelf.
    pub async fn levels(&self, product_ids: &[Uuid]) -> Result<BTreeMap<Uuid, i64>, LoadError> {
        let mut levels = BTreeMap::new();
        for product_id in product_ids {
            let shelf = self.shelves.load(product_id).await?;
            if shelf.exists() {
                levels.insert(*product_id, shelf.on_hand);
            }
        }
        Ok(levels)
    }

    /// Holds all lines for an order and commits it, or commits that it was refused.
    pub async fn reserve(&self, flow: Flow, order_id: Uuid, lines: &[Line]) -> Result<(), StockroomError> {
        let _turn = self.queue(lines).await;
        self.decide(|| async {
            let (commit, decided) = self.reservation(flow, order_id, lines).await?;
            Ok((commit, decided))
        })
        .await?
        .map_err(StockroomError::Refused)
    }

    /// The commit that holds all lines for an order, or says that they cannot be held; and which of the two.
    pub async fn reservation(
        &self,
        flow: Flow,
        order_id: Uuid,
        lines: &[Line],
    ) -> Result<(Commit, Result<(), ReserveError>), StockroomError> {
        let reservation = self.reservations.load(order_id).await?;
        match reservation.reserve() {
            Ok(Reserve::Held) => return Ok((Commit::new(), Ok(()))),
            Err(refused) => return Ok((Commit::new(), Err(refused))),
            Ok(Reserve::Hold) => {}
        }
        let (commit, event, decided) = match self.hold(order_id, lines).await? {
            Ok(held) => {
                let reserved = StockReserved { flow, order_id, lines: lines.to_vec() };
                (held, StockEvent::Reserved(reserved), Ok(()))
            }
            Err(reason) => {
                let why = Refused { flow: Some(flow), order_id, reason: reason.clone() };
                (Commit::new(), StockEvent::Refused(why), Err(ReserveError::TooFew(reason)))
            }
        };
        // The event must stand on the reservation that was looked at, or it is decided anew.
        let version = reservation.version();
        let change = self.reservations.change(order_id, |_| allowed(event.clone())).await?;
        if change.root.version() != version {
            return Err(StockroomError::Contended);
        }
        Ok((commit.append_all(change.append), decided))
    }

    /// Holds every line on its shelf; or the reason why one cannot be held.
    async fn hold(&self, order_id: Uuid, lines: &[Line]) -> Result<Result<Commit, String>, StockroomError> {
        let mut commit = Commit::new();
        for line in lines {
            let quantity = i64::from(line.quantity);
            match self.shelves.change(line.product_id, |shelf| shelf.hold(order_id, quantity)).await {
                Ok(change) => commit = commit.append_all(change.append),
                Err(UpdateError::Refused(refused)) => {
                    return Ok(Err(format!("product {}: {refused}", line.product_id)));
                }
                Err(error) => return Err(StockroomError::Shelf(Box::new(error))),
            }
        }
        Ok(Ok(commit))
    }

    /// Gives back what is held for an order and commits it.
    pub async fn release(&self, flow: Flow, order_id: Uuid) -> Result<(), StockroomError> {
        self.decide(|| async { Ok((self.releasing(flow, order_id).await?, ())) }).await
    }

    /// The commit that gives back what is held for an order, and refuses a reservation that comes later.
    pub async fn releasing(&self, flow: Flow, order_id: Uuid) -> Result<Commit, StockroomError> {
        self.clearing(order_id, |r| r.release(flow, order_id), |shelf| shelf.free(order_id)).await
    }

    /// The commit that lets what is held for an order leave.
    pub async fn leaving(&self, flow: Flow, order_id: Uuid) -> Result<Commit, StockroomError> {
        self.clearing(order_id, |r| r.leave(flow, order_id), |shelf| shelf.leave(order_id)).await
    }

    async fn clearing(
        &self,
        order_id: Uuid,
        reservation: impl Fn(&Reservation) -> Option<StockEvent>,
        shelf: impl Fn(&Shelf) -> Option<super::shelf::ShelfEvent>,
    ) -> Result<Commit, StockroomError> {
        let before = self.reservations.load(order_id).await?;
        let change = self.reservations.change(order_id, |state| allowed(reservation(state))).await?;
        if change.root.version() != before.version() {
            return Err(StockroomError::Contended);
        }
        let mut commit = Commit::new();
        if !change.append.events.is_empty() {
            for line in before.lines() {
                let cleared = self.shelves.change(line.product_id, |state| none_refused(shelf(state))).await;
                let cleared = cleared.map_err(|error| StockroomError::Shelf(Box::new(error)))?;
                commit = commit.append_all(cleared.append);
            }
        }
        Ok(commit.append_all(change.append))
    }

    /// Decides and commits; when somebody else was faster, again.
    async fn decide<T, Fut>(&self, decide: impl Fn() -> Fut) -> Result<T, StockroomError>
    where
        Fut: Future<Output = Result<(Commit, T), StockroomError>>,
    {
        for _ in 0..ATTEMPTS {
            let (commit, decided) = match decide().await {
                Ok(decided) => decided,
                Err(StockroomError::Contended) => continue,
                Err(error) => return Err(error),
            };
            if commit.is_empty() {
                return Ok(decided);
            }
            match self.store.commit(commit).await {
                Ok(_) => return Ok(decided),
                Err(CommitError::Conflict(_)) => {}
                Err(error) => return Err(StockroomError::Commit(error)),
            }
        }
        Err(StockroomError::Contended)
    }

    /// Waits for a turn at the shelves of all lines; in one order for everybody, so that nobody waits for ever.
    pub async fn queue(&self, lines: &[Line]) -> Vec<OwnedMutexGuard<()>> {
        let mut queues: Vec<usize> = lines.iter().map(|line| queue_of(line.product_id)).collect();
        queues.sort_unstable();
        queues.dedup();
        let mut turns = Vec::with_capacity(queues.len());
        for queue in queues {
            turns.push(Arc::clone(&self.queues[queue]).lock_owned().await);
        }
        turns
    }
}

fn queue_of(product_id: Uuid) -> usize {
    let mut hasher = DefaultHasher::new();
    product_id.hash(&mut hasher);
    (hasher.finish() % QUEUES as u64) as usize
}

fn allowed<T>(decided: T) -> Result<T, ReserveError> {
    Ok(decided)
}

fn none_refused<T>(decided: T) -> Result<T, ShelfError> {
    Ok(decided)
}

/// Nothing was changed in the stockroom.
#[derive(Debug, thiserror::Error)]
pub enum StockroomError {
    /// The lines cannot be held.
    #[error(transparent)]
    Refused(ReserveError),
    /// A reservation could not be read.
    #[error("the reservation could not be read")]
    Load(#[from] LoadError),
    /// A reservation could not be changed.
    #[error("the reservation could not be changed")]
    Reservation(#[source] Box<UpdateError<ReserveError>>),
    /// A shelf could not be changed.
    #[error("a shelf could not be changed")]
    Shelf(#[source] Box<UpdateError<ShelfError>>),
    /// The store did not take it.
    #[error("what was decided could not be committed")]
    Commit(#[source] CommitError),
    /// Others were faster, time and again.
    #[error("too many others want the same products")]
    Contended,
}

impl From<UpdateError<ReserveError>> for StockroomError {
    fn from(error: UpdateError<ReserveError>) -> Self {
        Self::Reservation(Box::new(error))
    }
}

impl Fault for StockroomError {
    fn kind(&self) -> FaultKind {
        match self {
            Self::Refused(error) => error.kind(),
            Self::Load(error) => error.kind(),
            Self::Reservation(error) => error.kind(),
            Self::Shelf(error) => error.kind(),
            Self::Commit(error) => error.kind(),
            Self::Contended => FaultKind::Overloaded,
        }
    }

    fn code(&self) -> &str {
        match self {
            Self::Refused(error) => error.code(),
            Self::Shelf(error) => error.code(),
            other => other.kind().as_str(),
        }
    }
}

#[cfg(test)]
mod tests {
    use purlin::message::new_id;

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
        room.levels(products).await.unwrap().into_values().collect()
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
    async fn many_at_once_never_hold_more_than_there_is() {
        let (room, products) = stockroom(&[10]).await;
        let reserve = |order| {
            let (room, lines) = (room.clone(), [line(products[0], 3)]);
            async move { room.reserve(FLOW, order, &lines).await }
        };
        let outcomes = futures_util::future::join_all((0..20).map(|_| reserve(new_id()))).await;
        assert_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count(), 3);
        assert_eq!(on_hand(&room, &products).await, [1]);
    }
}
