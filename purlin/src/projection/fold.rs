//! What events make of rows: what a user writes, and the same behind a pointer.

use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::bus::{chain, panic_text};
use crate::message::{DecodeError, Event};
use crate::store::{Collection, Recorded, Row};

use super::rows::{RowSet, Wanted};

/// What the events of a category make of the rows of a read model. Pure: no clock, no dice, no IO.
///
/// One category, one kind of row. What needs more of either implements [`Fold`], which every projection is.
pub trait Projection: Send + Sync + 'static {
    /// The view's name; its checkpoint is found by it.
    const NAME: &'static str;
    /// Raised when the rows must be built anew, because [`Projection::apply`] or the row has changed.
    const VERSION: u32 = 1;
    /// The streams whose events are folded.
    const CATEGORY: &'static str;
    /// Their event enum. Events of a kind that it calls retired are passed over.
    type Event: Event;
    /// A row. Its collection's name is the name of the live rows, in every version.
    type Row: Row;

    /// Which row an event is about: by default the one of its stream.
    fn key(&self, event: &Recorded) -> String {
        event.stream.key().to_owned()
    }

    /// The row after an event; none removes it.
    fn apply(&self, row: Option<Self::Row>, event: &Self::Event, recorded: &Recorded) -> Option<Self::Row>;
}

/// What the events of several categories make of rows of several kinds. Pure: no clock, no dice, no IO.
///
/// It asks for rows as if all were in memory. One that is not is read, and the event folded again from the beginning:
/// nothing of the first try is kept. So it hands on every error of a [`RowSet`] with `?`, and has no effects; a view can
/// therefore be built anew as often as one likes. Events of different keys may be folded at the same time.
///
/// Rows of all kinds are written in one commit, and rows that were built anew take the live names at one instant.
///
/// ```
/// use purlin::message::Event;
/// use purlin::projection::{Fold, RowSet, Unfit, read};
/// use purlin::store::{Collection, Recorded, Row};
/// use serde::{Deserialize, Serialize};
///
/// #[derive(Deserialize)]
/// #[serde(rename_all = "kebab-case")]
/// enum OrderEvent { Placed { customer: String, total: i64 } }
/// impl Event for OrderEvent {}
/// #[derive(Deserialize)]
/// #[serde(rename_all = "kebab-case")]
/// enum CustomerEvent { Named(String) }
/// impl Event for CustomerEvent {}
///
/// #[derive(Clone, Default, Serialize, Deserialize)]
/// struct Customer { name: String, orders: u32 }
/// impl Row for Customer { const COLLECTION: &'static str = "customers_view"; }
/// #[derive(Clone, Default, Serialize, Deserialize)]
/// struct Day { turnover: i64 }
/// impl Row for Day { const COLLECTION: &'static str = "days_view"; }
///
/// struct Sales;
/// impl Fold for Sales {
///     const NAME: &'static str = "sales";
///     const CATEGORIES: &'static [&'static str] = &["order", "customer"];
///
///     fn collections() -> Vec<Collection> { vec![Customer::collection(), Day::collection()] }
///
///     fn apply(&self, event: &Recorded, rows: &mut RowSet<'_>) -> Result<(), Unfit> {
///         match event.stream.category() {
///             "customer" => {
///                 let CustomerEvent::Named(name) = read(event)?;
///                 rows.change::<Customer>(event.stream.key(), |row| row.name = name)
///             }
///             _ => {
///                 let OrderEvent::Placed { customer, total } = read(event)?;
///                 rows.change::<Customer>(&customer, |row| row.orders += 1)?;
///                 rows.change::<Day>(&event.at.to_string()[..10], |row| row.turnover += total)
///             }
///         }
///     }
/// }
/// ```
pub trait Fold: Send + Sync + 'static {
    /// As [`Projection::NAME`].
    const NAME: &'static str;
    /// As [`Projection::VERSION`].
    const VERSION: u32 = 1;
    /// The streams whose events are folded.
    const CATEGORIES: &'static [&'static str];

    /// The collections that it writes: of each kind of row its [`Row::collection`]. One that a later version does not name any
    /// more is left as it is, for [`Store::drop_collection`](crate::store::Store::drop_collection).
    fn collections() -> Vec<Collection>;

    /// What must be folded in order: when an event cannot be folded, later ones of its key wait behind it, others flow.
    /// By default the stream.
    fn key(&self, event: &Recorded) -> String {
        event.stream.to_string()
    }

    /// Names rows that an event is sure to need, as far as its stream and envelope tell. They are then read beside each
    /// other before anything is folded, and events that want the same one are folded by one thread ([`View::threads`]);
    /// nothing but speed hangs on it.
    ///
    /// [`View::threads`]: super::View::threads
    fn wants(&self, _event: &Recorded, _wanted: &mut Wanted<'_>) {}

    /// Changes the rows as the event says.
    fn apply(&self, event: &Recorded, rows: &mut RowSet<'_>) -> Result<(), Unfit>;
}

impl<P: Projection> Fold for P {
    const NAME: &'static str = <P as Projection>::NAME;
    const VERSION: u32 = <P as Projection>::VERSION;
    const CATEGORIES: &'static [&'static str] = &[<P as Projection>::CATEGORY];

    fn collections() -> Vec<Collection> {
        vec![P::Row::collection()]
    }

    fn key(&self, event: &Recorded) -> String {
        Projection::key(self, event)
    }

    fn wants(&self, event: &Recorded, wanted: &mut Wanted<'_>) {
        wanted.row::<P::Row>(Projection::key(self, event));
    }

    fn apply(&self, event: &Recorded, rows: &mut RowSet<'_>) -> Result<(), Unfit> {
        let (key, content) = (Projection::key(self, event), read(event)?);
        let row = rows.take::<P::Row>(&key)?;
        match Projection::apply(self, row, &content, event) {
            Some(row) => rows.put(key, row),
            None => rows.delete::<P::Row>(key),
        }
    }
}

/// The content of an event, as a variant of its enum. One of a retired kind is passed over by handing this error on.
pub fn read<E: Event>(event: &Recorded) -> Result<E, Unfit> {
    Ok(event.envelope.decode()?)
}

/// Why an event does not fit a projection.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct Unfit {
    pub(super) reason: String,
    /// It is of a retired kind: it changes nothing, and that is right.
    pub(super) retired: bool,
}

impl Unfit {
    /// In the projection's own words.
    pub fn new(reason: impl Into<String>) -> Self {
        Self { reason: reason.into(), retired: false }
    }
}

impl From<DecodeError> for Unfit {
    fn from(error: DecodeError) -> Self {
        Self { reason: chain(&error), retired: matches!(error, DecodeError::Retired { .. }) }
    }
}

/// What a view needs to know of its projection.
pub(super) struct Definition {
    pub(super) name: &'static str,
    pub(super) version: u32,
    pub(super) categories: &'static [&'static str],
    /// Under their live names.
    pub(super) collections: Vec<Collection>,
    folder: Box<dyn Folder>,
}

impl Definition {
    pub(super) fn of<F: Fold>(fold: F) -> Self {
        let mut collections: Vec<Collection> = Vec::new();
        for collection in F::collections() {
            // One that is named twice is one.
            if collections.iter().all(|known| known.name != collection.name) {
                collections.push(collection);
            }
        }
        Self {
            name: F::NAME,
            version: F::VERSION,
            categories: F::CATEGORIES,
            collections,
            folder: Box::new(fold),
        }
    }

    pub(super) fn wants_category(&self, category: &str) -> bool {
        self.categories.contains(&category)
    }

    /// What the event is folded in order by.
    pub(super) fn key(&self, event: &Recorded) -> Result<String, Unfit> {
        unwinding(|| self.folder.key(event))
    }

    pub(super) fn wants(&self, event: &Recorded, wanted: &mut Wanted<'_>) {
        // What panics here will panic again when the event is folded.
        let _ = unwinding(|| self.folder.wants(event, wanted));
    }

    pub(super) fn apply(&self, event: &Recorded, rows: &mut RowSet<'_>) -> Result<(), Unfit> {
        unwinding(|| self.folder.apply(event, rows))?
    }
}

/// A [`Fold`] behind a pointer.
trait Folder: Send + Sync {
    fn key(&self, event: &Recorded) -> String;
    fn wants(&self, event: &Recorded, wanted: &mut Wanted<'_>);
    fn apply(&self, event: &Recorded, rows: &mut RowSet<'_>) -> Result<(), Unfit>;
}

impl<F: Fold> Folder for F {
    fn key(&self, event: &Recorded) -> String {
        Fold::key(self, event)
    }

    fn wants(&self, event: &Recorded, wanted: &mut Wanted<'_>) {
        Fold::wants(self, event, wanted);
    }

    fn apply(&self, event: &Recorded, rows: &mut RowSet<'_>) -> Result<(), Unfit> {
        Fold::apply(self, event, rows)
    }
}

/// What `work` gives, or what it said when it panicked.
fn unwinding<T>(work: impl FnOnce() -> T) -> Result<T, Unfit> {
    catch_unwind(AssertUnwindSafe(work))
        .map_err(|panic| Unfit::new(format!("the projection panicked: {}", panic_text(&*panic))))
}
