//! Following the log, from any position to now and on.

use std::collections::VecDeque;

use super::{Following, LogFilter, LogPage, Position, ReadError, Recorded, Store};

/// How many events [`Subscription::next`] takes at once.
const PAGE: usize = 256;

/// The wanted events of the log in their order: those that are there, then, without a seam, those that come.
///
/// Far behind, it reads what it wants page by page; close to the end, all subscriptions of a store share one read of
/// what is new. Every method may be dropped while it waits, and nothing is lost by that. Waiting has no end of its own:
/// who waits gives up when his own shutdown comes.
///
/// ```
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// use purlin::message::Envelope;
/// use purlin::store::{Commit, Expected, LogFilter, Position, Store, StreamId};
///
/// let store = Store::memory();
/// let mut orders = store.subscribe(Position::START, LogFilter::category("order")).unwrap();
/// let placed = Envelope::raw("order.placed", "{}");
/// let order = StreamId::new("order", "4711").unwrap();
/// store.commit(Commit::new().append(order, Expected::NoStream, [placed])).await.unwrap();
/// assert_eq!(&*orders.next().await.unwrap().envelope.kind, "order.placed");
/// # });
/// ```
pub struct Subscription {
    log: Following,
    filter: LogFilter,
    /// Up to where the log was read.
    read: Position,
    /// What was read and not given yet.
    ready: VecDeque<Recorded>,
}

impl Store {
    /// Follows the log from behind a position on.
    pub fn subscribe(&self, after: Position, filter: LogFilter) -> Result<Subscription, ReadError> {
        filter.check()?;
        Ok(Subscription { log: Following::of(self), filter, read: after, ready: VecDeque::new() })
    }
}

impl Subscription {
    /// The next wanted event, once there is one.
    pub async fn next(&mut self) -> Result<Recorded, ReadError> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                return Ok(event);
            }
            self.ready = self.read(PAGE).await?.events.into();
        }
    }

    /// What is wanted of the next part of the log, once there is one: at most `limit` events, perhaps none at all, when
    /// nothing of that part is wanted. A checkpoint may then move to [`LogPage::through`].
    pub async fn page(&mut self, limit: usize) -> Result<LogPage, ReadError> {
        if self.ready.is_empty() {
            return self.read(limit.max(1)).await;
        }
        let events: Vec<Recorded> = self.ready.drain(..limit.max(1).min(self.ready.len())).collect();
        let through = match (self.ready.is_empty(), events.last()) {
            (false, Some(last)) => last.position,
            _ => self.read,
        };
        Ok(LogPage { events, through })
    }

    /// Up to where every wanted event has been given.
    pub fn position(&self) -> Position {
        self.ready.front().map_or(self.read, |event| Position(event.position.0 - 1))
    }

    async fn read(&mut self, limit: usize) -> Result<LogPage, ReadError> {
        let page = match self.log.next(self.read, &self.filter, limit).await? {
            Some(page) => page,
            // Why nothing more is told, whoever reads may learn.
            None => self.log.store.follow(self.read, &self.filter, limit).await?,
        };
        if page.through <= self.read {
            let untold = "the store is closed, or tells no more of what is committed";
            return Err(ReadError::Unavailable(untold.into()));
        }
        self.read = page.through;
        Ok(page)
    }
}

impl std::fmt::Debug for Subscription {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Subscription")
            .field("filter", &self.filter)
            .field("position", &self.position())
            .finish()
    }
}
