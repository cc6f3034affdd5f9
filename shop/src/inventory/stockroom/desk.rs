//! Wishes decided one after the other, to be committed together.

use std::collections::{HashMap, HashSet};

use futures_util::{StreamExt as _, stream};
use purlin::aggregate::{Aggregate, LoadError, Repository};
use purlin::message::{EncodeError, Envelope, TraceContext, Uuid};
use purlin::store::{Append, Commit, Expected, StreamId};

use super::super::reservation::{Reservation, Reserve, ReserveError, StockEvent, StockReserved};
use super::super::shelf::{Shelf, ShelfEvent};
use super::clerk::Wish;
use super::pages::{Page, Pages};
use super::{Trouble, Wanted};
use crate::contracts::events::{Flow, Line, Refused};

/// How many events a commit has before another wish is left to the next one.
const FULL: usize = 2000;

/// How many reservations are loaded side by side.
const AT_ONCE: usize = 16;

/// Shelves and reservations as they will be.
pub(super) struct Desk<'a> {
    known: &'a Pages,
    reservations: &'a Repository<Reservation>,
    pages: HashMap<Uuid, Page>,
    shelf_events: Pending<ShelfEvent>,
    orders: HashMap<Uuid, (Reservation, u64)>,
    stock_events: Pending<StockEvent>,
    events: usize,
    /// The trace of the wish that is being decided.
    trace: Option<TraceContext>,
}

/// Events to be appended, each with its trace, by the stream's key, with the version they stand on.
type Pending<E> = HashMap<Uuid, (u64, Vec<(E, Option<TraceContext>)>)>;

impl<'a> Desk<'a> {
    pub(super) fn new(known: &'a Pages, reservations: &'a Repository<Reservation>) -> Self {
        let (pages, orders) = (HashMap::new(), HashMap::new());
        let (shelf_events, stock_events) = (HashMap::new(), HashMap::new());
        Self { known, reservations, pages, shelf_events, orders, stock_events, events: 0, trace: None }
    }

    /// Whether what was decided is enough for a commit.
    pub(super) fn is_full(&self) -> bool {
        self.events >= FULL
    }

    /// Loads the reservations of these wishes side by side. One that cannot be read is met again, and told, when
    /// its wish is decided.
    pub(super) async fn prepare(&mut self, wishes: impl Iterator<Item = &Wish>) {
        let ids: HashSet<Uuid> = wishes.map(|wish| wish.order_id).collect();
        let load = async |id| (id, load_order(self.reservations, id).await);
        let loaded: Vec<_> = stream::iter(ids).map(load).buffer_unordered(AT_ONCE).collect().await;
        self.orders.extend(loaded.into_iter().filter_map(|(id, order)| Some((id, order.ok()?))));
    }

    /// Grants a wish or refuses it.
    pub(super) async fn decide(&mut self, wish: &Wish) -> Result<Result<(), ReserveError>, Trouble> {
        let (order_id, flow) = (wish.order_id, wish.flow);
        self.trace = wish.trace;
        if !self.orders.contains_key(&order_id) {
            self.orders.insert(order_id, load_order(self.reservations, order_id).await?);
        }
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
        self.load(lines).await?;
        let mut holds = Vec::with_capacity(lines.len());
        for line in lines {
            match self.pages[&line.product_id].shelf.hold(order_id, i64::from(line.quantity)) {
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
        self.load(&lines).await?;
        let mut cleared = HashMap::with_capacity(lines.len());
        for Line { product_id, .. } in lines {
            // A line that is reserved is held on its shelf: else one of the two was read too early.
            let event = clear(&self.pages[&product_id].shelf).ok_or(Trouble::Stale)?;
            cleared.insert(product_id, event);
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
        for (product_id, (version, events)) in &self.shelf_events {
            commit = commit.append_all(append::<Shelf>(*product_id, *version, events)?);
        }
        for (order_id, (version, events)) in &self.stock_events {
            commit = commit.append_all(append::<Reservation>(*order_id, *version, events)?);
        }
        Ok(commit)
    }

    /// The shelves as they are once it is committed.
    pub(super) fn into_pages(self) -> HashMap<Uuid, Page> {
        self.pages
    }

    /// Lays the shelves of these lines on the desk.
    async fn load(&mut self, lines: &[Line]) -> Result<(), LoadError> {
        let ids = lines.iter().map(|line| line.product_id);
        let missing: Vec<Uuid> = ids.filter(|id| !self.pages.contains_key(id)).collect();
        if !missing.is_empty() {
            self.pages.extend(self.known.find(&missing).await?);
        }
        Ok(())
    }

    fn change(&mut self, product_id: Uuid, event: ShelfEvent) {
        let Some(page) = self.pages.get_mut(&product_id) else { return };
        let (_, pending) = self.shelf_events.entry(product_id).or_insert((page.version, Vec::new()));
        page.apply(&event);
        pending.push((event, self.trace));
        self.events += 1;
    }

    fn note(&mut self, order_id: Uuid, event: StockEvent) {
        let Some((reservation, version)) = self.orders.get_mut(&order_id) else { return };
        reservation.apply(&event);
        let (_, pending) = self.stock_events.entry(order_id).or_insert((*version, Vec::new()));
        pending.push((event, self.trace));
        *version += 1;
        self.events += 1;
    }
}

async fn load_order(
    reservations: &Repository<Reservation>,
    order_id: Uuid,
) -> Result<(Reservation, u64), LoadError> {
    let reservation = reservations.load(order_id).await?;
    Ok((reservation.state().clone(), reservation.version()))
}

fn append<A: Aggregate>(
    key: Uuid,
    version: u64,
    events: &[(A::Event, Option<TraceContext>)],
) -> Result<Append, EncodeError> {
    let envelope = |(event, trace): &(A::Event, Option<TraceContext>)| {
        let mut envelope = Envelope::new(A::KIND, event)?;
        (envelope.public, envelope.meta.trace) = (A::is_public(event), *trace);
        Ok(envelope)
    };
    let events = events.iter().map(envelope).collect::<Result<_, _>>()?;
    let stream = StreamId::new(A::CATEGORY, key).expect("a kind and an id name a stream");
    Ok(Append { stream, expected: Expected::Version(version), events, at: None })
}
