//! The rows that events are folded into, as a projection sees them.

use std::any::Any;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::store::{Collection, Commit, Revision, Row};

use super::Unfit;
use super::loaded::{Address, Lent, Loaded};

/// The rows of a view while one event is folded: as the events before it left them, and with the changes made so far.
///
/// The changes count when the event has been folded to its end; then all of them do.
pub struct RowSet<'a> {
    loaded: &'a mut Loaded,
    /// Where rows that are not here may be.
    common: Option<&'a Common>,
    changed: Vec<(Address, Option<Box<dyn AnyRow>>)>,
    missing: Vec<Address>,
    strayed: bool,
    taken: bool,
    /// Nothing will come of this but which rows are asked for.
    looks_ahead: bool,
}

/// What became of the rows while one event was folded.
#[derive(Default)]
pub(super) struct Changes {
    pub(super) changed: Vec<(Address, Option<Box<dyn AnyRow>>)>,
    /// Rows that were asked for and are not here: the event must be folded again when they are.
    pub(super) missing: Vec<Address>,
    /// It wants a row that is with others.
    pub(super) strayed: bool,
    /// Rows were moved out: an event that was not folded to its end has spoilt them.
    pub(super) taken: bool,
}

impl<'a> RowSet<'a> {
    pub(super) fn new(loaded: &'a mut Loaded, common: Option<&'a Common>) -> Self {
        let (changed, missing) = (Vec::new(), Vec::new());
        Self { loaded, common, changed, missing, strayed: false, taken: false, looks_ahead: false }
    }

    /// For an event whose turn has not come, to see which rows it asks for.
    pub(super) fn ahead(loaded: &'a mut Loaded, common: Option<&'a Common>) -> Self {
        Self { looks_ahead: true, ..Self::new(loaded, common) }
    }

    pub(super) fn end(self) -> Changes {
        let Self { changed, missing, strayed, taken, .. } = self;
        Changes { changed, missing, strayed, taken }
    }

    /// The row of a key.
    pub fn get<R: Row>(&mut self, key: &str) -> Result<Option<&R>, Unfit> {
        let kind = self.loaded.kind::<R>()?;
        if let Some(index) = self.change_of(kind, key) {
            return typed(self.changed[index].1.as_deref());
        }
        self.reach(kind, key)?;
        typed(self.loaded.get::<R>(kind, key)?)
    }

    /// Puts a row, whatever was there.
    pub fn put<R: Row>(&mut self, key: impl Into<String>, row: R) -> Result<(), Unfit> {
        self.set::<R>(key.into(), Some(Box::new(row)))
    }

    /// Removes a row; it need not be there.
    pub fn delete<R: Row>(&mut self, key: impl Into<String>) -> Result<(), Unfit> {
        self.set::<R>(key.into(), None)
    }

    /// Changes a row; one that is not there begins as its default.
    pub fn change<R: Row + Clone + Default>(
        &mut self,
        key: &str,
        change: impl FnOnce(&mut R),
    ) -> Result<(), Unfit> {
        let mut row = self.get::<R>(key)?.cloned().unwrap_or_default();
        change(&mut row);
        self.put(key, row)
    }

    /// Moves a row out, for a type that need not be cloned. Whoever takes one puts or deletes it.
    pub(super) fn take<R: Row>(&mut self, key: &str) -> Result<Option<R>, Unfit> {
        let kind = self.loaded.kind::<R>()?;
        self.reach(kind, key)?;
        if self.looks_ahead {
            return Err(Unfit::new("a row is moved out when the event's turn has come"));
        }
        let row = self.loaded.take::<R>(kind, key, &mut self.taken)?;
        row.map(|row| row.into_any().downcast::<R>().map(|row| *row).map_err(|_| other_type::<R>()))
            .transpose()
    }

    /// Sees to it that a row is here.
    fn reach(&mut self, kind: usize, key: &str) -> Result<(), Unfit> {
        if !self.loaded.lacks(kind, key) {
            return Ok(());
        }
        let address = (kind, key.to_owned());
        let lent = match (self.common, self.looks_ahead) {
            (None, _) => Lent::Missing,
            (Some(common), false) => common.lend(&address, self.loaded),
            (Some(common), true) => common.lend_ahead(&address, self.loaded),
        };
        match lent {
            Lent::Here => Ok(()),
            Lent::Missing => {
                self.missing.push(address);
                Err(Unfit::new("a row is to be read first"))
            }
            Lent::Elsewhere => self.stray(),
        }
    }

    fn stray(&mut self) -> Result<(), Unfit> {
        self.strayed = true;
        Err(Unfit::new("a row is with others"))
    }

    fn set<R: Row>(&mut self, key: String, row: Option<Box<dyn AnyRow>>) -> Result<(), Unfit> {
        let kind = self.loaded.kind::<R>()?;
        // It need not be known to be written, but nobody else must write it meanwhile.
        if let Some(common) = self.common
            && !self.looks_ahead
            && self.loaded.lacks(kind, &key)
            && common.lend(&(kind, key.clone()), self.loaded) == Lent::Elsewhere
        {
            return self.stray();
        }
        match self.change_of(kind, &key) {
            Some(index) => self.changed[index].1 = row,
            None => self.changed.push(((kind, key), row)),
        }
        Ok(())
    }

    /// An event changes a few rows: looking through them is the fastest.
    fn change_of(&self, kind: usize, key: &str) -> Option<usize> {
        self.changed.iter().position(|((of, changed), _)| *of == kind && changed == key)
    }
}

impl std::fmt::Debug for RowSet<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let changed: Vec<_> = self.changed.iter().map(|(address, _)| address).collect();
        f.debug_struct("RowSet").field("changed", &changed).finish_non_exhaustive()
    }
}

fn typed<R: Row>(row: Option<&dyn AnyRow>) -> Result<Option<&R>, Unfit> {
    row.map(|row| row.as_any().downcast_ref::<R>().ok_or_else(other_type::<R>)).transpose()
}

fn other_type<R: Row>() -> Unfit {
    Unfit::new(format!("the rows of `{}` have been used as another type", R::COLLECTION))
}

/// Which rows an event is sure to need ([`Fold::wants`](super::Fold::wants)).
#[derive(Debug)]
pub struct Wanted<'a> {
    pub(super) loaded: &'a Loaded,
    pub(super) rows: Vec<Address>,
    /// Rows that need not be read are wanted too.
    pub(super) here_too: bool,
}

impl Wanted<'_> {
    /// The row of a key.
    pub fn row<R: Row>(&mut self, key: impl Into<String>) {
        let key = key.into();
        match self.loaded.kind::<R>() {
            Ok(kind) if self.here_too || self.loaded.lacks(kind, &key) => self.rows.push((kind, key)),
            _ => {}
        }
    }
}

/// The rows of which several who fold at the same time take theirs.
#[derive(Debug)]
pub(super) struct Common {
    all: Mutex<Loaded>,
    in_vain: AtomicBool,
}

impl Common {
    pub(super) fn new(all: Loaded) -> Self {
        Self { all: Mutex::new(all), in_vain: AtomicBool::new(false) }
    }

    pub(super) fn into_rows(self) -> Loaded {
        self.all.into_inner().expect("no panic holds the rows")
    }

    fn lend(&self, address: &Address, to: &mut Loaded) -> Lent {
        self.all.lock().expect("no panic holds the rows").lend(address, to)
    }

    fn lend_ahead(&self, address: &Address, to: &mut Loaded) -> Lent {
        self.all.lock().expect("no panic holds the rows").lend_ahead(address, to)
    }

    /// Somebody wants what another one has.
    pub(super) fn give_up(&self) {
        self.in_vain.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_in_vain(&self) -> bool {
        self.in_vain.load(Ordering::Relaxed)
    }
}

/// A row behind a pointer.
pub(super) trait AnyRow: Send + Sync {
    fn put(&self, commit: Commit, collection: &Collection, key: &str, expected: Revision) -> Commit;
    fn as_any(&self) -> &dyn Any;
    fn into_any(self: Box<Self>) -> Box<dyn Any>;
}

impl<R: Row> AnyRow for R {
    fn put(&self, commit: Commit, collection: &Collection, key: &str, expected: Revision) -> Commit {
        commit.put_in(collection, key, self, expected, None)
    }

    fn as_any(&self) -> &dyn Any {
        self
    }

    fn into_any(self: Box<Self>) -> Box<dyn Any> {
        self
    }
}
