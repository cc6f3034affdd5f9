//! Wishes decided one after the other, to be committed together.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use purlin::aggregate::{Aggregate, LoadError, Repository};
use purlin::message::{EncodeError, Envelope, Uuid};
use purlin::store::{Append, Commit, Expected, StreamId};

use super::super::reservation::{Reservation, Reserve, ReserveError, StockEvent, StockReserved};
use super::super::shelf::{Shelf, ShelfEvent};
use super::{Trouble, Wanted, Wish};
use crate::contracts::events::{Flow, Line, Refused};

/// How many events one commit takes.
pub(super) const MOST_EVENTS: usize = 2000;

/// How many events a shelf is kept in mind for; loading it anew then takes a snapshot.
const KEPT: u64 = 1000;

/// A shelf at a version.
#[derive(Debug, Clone)]
pub(super) struct Page {
    pub(super) shelf: Shelf,
    version: u64,
    loaded_at: u64,
}

/// Shelves and reservations as they will be.
pub(super) struct Desk<'a> {
    shelves: &'a Repository<Shelf>,
    reservations: &'a Repository<Reservation>,
    /// Shelves as they are.
    known: &'a Mutex<HashMap<Uuid, Page>>,
    /// Shelves as they will be.
    pages: HashMap<Uuid, Page>,
    shelf_events: Pending<ShelfEvent>,
    orders: HashMap<Uuid, (Reservation, u64)>,
    stock_events: Pending<StockEvent>,
}

/// Events to be appended, by the stream's key, with the version they stand on.
type Pending<E> = Vec<(Uuid, u64, Vec<E>)>;

impl<'a> Desk<'a> {
    pub(super) fn new(
        shelves: &'a Repository<Shelf>,
        reservations: &'a Repository<Reservation>,
        known: &'a Mutex<HashMap<Uuid, Page>>,
    ) -> Self {
        let (pages, orders) = (HashMap::new(), HashMap::new());
        let (shelf_events, stock_events) = (Vec::new(), Vec::new());
        Self { shelves, reservations, known, pages, shelf_events, orders, stock_events }
    }

    /// Grants a wish or refuses it.
    pub(super) async fn decide(&mut self, wish: &Wish) -> Result<Result<(), ReserveError>, Trouble> {
        let (order_id, flow) = (wish.order_id, wish.flow);
        self.load_order(order_id).await?;
        match &wish.wanted {
            Wanted::Reserve(lines) => self.reserve(flow, order_id, lines).await,
            Wanted::Release => {
                let freed = self.orders[&order_id].0.release(flow, order_id);
                self.clear(order_id, freed, |shelf| shelf.free(order_id)).await
            }
            Wanted::Leave => {
                let left = self.orders[&order_id].0.leave(flow, order_id);
                self.clear(order_id, left, |shelf| shelf.leave(order_id)).await
            }
        }
    }

    async fn reserve(
        &mut self,
        flow: Flow,
        order_id: Uuid,
        lines: &[Line],
    ) -> Result<Result<(), ReserveError>, Trouble> {
        match self.orders[&order_id].0.reserve() {
            Ok(Reserve::Held) => return Ok(Ok(())),
            Err(refused) => return Ok(Err(refused)),
            Ok(Reserve::Hold) => {}
        }
        let mut holds = Vec::with_capacity(lines.len());
        for line in lines {
            let page = self.page(line.product_id).await?;
            match page.shelf.hold(order_id, i64::from(line.quantity)) {
                Ok(hold) => holds.extend(hold.map(|hold| (line.product_id, hold))),
                Err(refused) => {
                    let reason = format!("product {}: {refused}", line.product_id);
                    let why = Refused { flow: Some(flow), order_id, reason: reason.clone() };
                    self.note(order_id, StockEvent::Refused(why));
                    return Ok(Err(ReserveError::TooFew(reason)));
                }
            }
        }
        for (product_id, hold) in holds {
            self.change(product_id, hold);
        }
        let reserved = StockReserved { flow, order_id, lines: lines.to_vec() };
        self.note(order_id, StockEvent::Reserved(reserved));
        Ok(Ok(()))
    }

    /// Takes what is held for an order off its shelves, if the order's reservation changes at all.
    async fn clear(
        &mut self,
        order_id: Uuid,
        event: Option<StockEvent>,
        clear: impl Fn(&Shelf) -> Option<ShelfEvent>,
    ) -> Result<Result<(), ReserveError>, Trouble> {
        let Some(event) = event else { return Ok(Ok(())) };
        let lines = self.orders[&order_id].0.lines().to_vec();
        let mut cleared = Vec::with_capacity(lines.len());
        for line in &lines {
            let page = self.page(line.product_id).await?;
            cleared.extend(clear(&page.shelf).map(|event| (line.product_id, event)));
        }
        for (product_id, event) in cleared {
            self.change(product_id, event);
        }
        self.note(order_id, event);
        Ok(Ok(()))
    }

    /// Everything that was decided, as one commit.
    pub(super) fn commit(&self) -> Result<Commit, EncodeError> {
        let mut commit = Commit::new();
        for (product_id, version, events) in &self.shelf_events {
            commit = commit.append_all(append::<Shelf>(*product_id, *version, events)?);
        }
        for (order_id, version, events) in &self.stock_events {
            commit = commit.append_all(append::<Reservation>(*order_id, *version, events)?);
        }
        Ok(commit)
    }

    /// After the commit was applied: the shelves are so now, and as many as may be are kept in mind.
    pub(super) fn remember(self, most: usize) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() + self.pages.len() > most {
            known.clear();
        }
        for (product_id, page) in self.pages {
            if page.version > 0 && page.version - page.loaded_at < KEPT {
                known.insert(product_id, page);
            } else {
                known.remove(&product_id);
            }
        }
    }

    async fn load_order(&mut self, order_id: Uuid) -> Result<(), LoadError> {
        if !self.orders.contains_key(&order_id) {
            let reservation = self.reservations.load(order_id).await?;
            self.orders.insert(order_id, (reservation.state().clone(), reservation.version()));
        }
        Ok(())
    }

    async fn page(&mut self, product_id: Uuid) -> Result<&Page, LoadError> {
        if !self.pages.contains_key(&product_id) {
            let known = self.known.lock().unwrap_or_else(PoisonError::into_inner).get(&product_id).cloned();
            let page = match known {
                Some(page) => page,
                None => {
                    let shelf = self.shelves.load(product_id).await?;
                    let version = shelf.version();
                    Page { shelf: shelf.state().clone(), version, loaded_at: version }
                }
            };
            self.pages.insert(product_id, page);
        }
        Ok(&self.pages[&product_id])
    }

    fn change(&mut self, product_id: Uuid, event: ShelfEvent) {
        let Some(page) = self.pages.get_mut(&product_id) else { return };
        page.shelf.apply(&event);
        push(&mut self.shelf_events, product_id, page.version, event);
        page.version += 1;
    }

    fn note(&mut self, order_id: Uuid, event: StockEvent) {
        let Some((reservation, version)) = self.orders.get_mut(&order_id) else { return };
        reservation.apply(&event);
        push(&mut self.stock_events, order_id, *version, event);
        *version += 1;
    }
}

fn push<E>(pending: &mut Pending<E>, key: Uuid, version: u64, event: E) {
    match pending.iter_mut().find(|(known, ..)| *known == key) {
        Some((_, _, events)) => events.push(event),
        None => pending.push((key, version, vec![event])),
    }
}

fn append<A: Aggregate>(key: Uuid, version: u64, events: &[A::Event]) -> Result<Append, EncodeError> {
    let envelope = |event: &A::Event| {
        Envelope::new(A::KIND, event).map(|envelope| Envelope { public: A::is_public(event), ..envelope })
    };
    let events = events.iter().map(envelope).collect::<Result<_, _>>()?;
    let stream = StreamId::new(A::KIND, key).expect("a kind and an id name a stream");
    Ok(Append { stream, expected: Expected::Version(version), events })
}
