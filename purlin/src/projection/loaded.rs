//! The rows in memory: as they are stored, and as the events that are not committed yet have made them.

use std::collections::{BTreeMap, HashMap};

use bytes::Bytes;

use crate::bus::chain;
use crate::message::storing;
use crate::store::{Collection, Commit, Record, Requirement, Revision, Row, WriteKind};

use super::Unfit;
use super::rows::{AnyRow, Changes};

/// A row: the index of its kind among the view's collections, and its key.
pub(super) type Address = (usize, String);

/// How many rows are kept from one commit to the next.
const KEPT: usize = 50_000;
/// And how many bytes they may have, as they are stored.
const KEPT_BYTES: usize = 32 << 20;

/// The rows that were read or written since the last time that they were let go of.
///
/// A view is the only writer of its rows (its checkpoint sees to that), so that what it has once read stays true.
#[derive(Debug, Default)]
pub(super) struct Loaded {
    kinds: Vec<Kind>,
    dirty: Vec<Address>,
    count: usize,
    bytes: usize,
    /// All rows that there are, are here.
    whole: bool,
    /// With which share of a batch a row is.
    lent: HashMap<Address, usize>,
    /// Which share of a batch these are the rows of.
    share: usize,
}

/// Where a row is that a share of a batch asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lent {
    /// With the share, from now on.
    Here,
    /// It must be read first.
    Missing,
    /// With another share.
    Elsewhere,
}

#[derive(Debug)]
struct Kind {
    live: String,
    collection: Collection,
    cells: BTreeMap<String, Cell>,
}

struct Cell {
    /// As it is in the store; none: not there.
    stored: Option<Bytes>,
    revision: Revision,
    now: Now,
    dirty: bool,
    /// What has been given to a commit whose outcome is not known yet.
    pending: Option<Bytes>,
}

enum Now {
    AsStored,
    Row(Option<Box<dyn AnyRow>>),
    Taken,
}

impl Loaded {
    /// No rows of these collections, given with the name that each is live under.
    pub(super) fn new(collections: impl IntoIterator<Item = (String, Collection)>, whole: bool) -> Self {
        let kind = |(live, collection)| Kind { live, collection, cells: BTreeMap::new() };
        let kinds = collections.into_iter().map(kind).collect();
        Self { kinds, whole, ..Self::default() }
    }

    /// The index of a kind of row.
    pub(super) fn kind<R: Row>(&self) -> Result<usize, Unfit> {
        let found = self.kinds.iter().position(|kind| kind.live == R::COLLECTION);
        found.ok_or_else(|| {
            Unfit::new(format!("`{}` is not among the collections that the projection names", R::COLLECTION))
        })
    }

    /// The collection of a kind, as it is to be read.
    pub(super) fn collection(&self, kind: usize) -> &Collection {
        &self.kinds[kind].collection
    }

    /// The collections of all kinds.
    pub(super) fn collections(&self) -> impl Iterator<Item = &Collection> {
        self.kinds.iter().map(|kind| &kind.collection)
    }

    /// Whether a row would have to be read.
    pub(super) fn lacks(&self, kind: usize, key: &str) -> bool {
        !self.whole && !self.kinds[kind].cells.contains_key(key)
    }

    /// A row was read.
    pub(super) fn insert(&mut self, (kind, key): Address, record: Option<Record>) {
        let revision = record.as_ref().map_or(Revision::Absent, |record| Revision::Exact(record.revision));
        let stored = record.map(|record| record.value);
        self.place(kind, key, Cell { revision, ..Cell::unread(stored) });
    }

    /// How many bytes a row has on the average, as it is stored; none as long as there is none.
    pub(super) fn mean_bytes(&self) -> Option<usize> {
        self.bytes.checked_div(self.count)
    }

    fn place(&mut self, kind: usize, key: String, cell: Cell) {
        self.bytes += cell.bytes();
        match self.kinds[kind].cells.insert(key, cell) {
            Some(before) => self.bytes -= before.bytes(),
            None => self.count += 1,
        }
    }

    /// None of these rows, for a share of a batch to take what it asks for.
    pub(super) fn for_share(&self, share: usize) -> Self {
        let kind = |Kind { live, collection, .. }: &Kind| (live.clone(), collection.clone());
        Self { share, ..Self::new(self.kinds.iter().map(kind), false) }
    }

    /// Moves a row to a share, unless another one has it. One that is not here is the share's as soon as it was read.
    pub(super) fn lend(&mut self, address: &Address, to: &mut Self) -> Lent {
        let lent = self.lend_ahead(address, to);
        if lent == Lent::Missing {
            self.lent.insert(address.clone(), to.share);
        }
        lent
    }

    /// As [`Loaded::lend`] for a share that may not want it after all when the event's turn comes: one that is not here
    /// is kept for nobody. (One that is here is moved: without it, it would not be seen what else the event asks for.)
    pub(super) fn lend_ahead(&mut self, address: &Address, to: &mut Self) -> Lent {
        if self.lent.get(address).is_some_and(|share| *share != to.share) {
            return Lent::Elsewhere;
        }
        let (kind, key) = address;
        match self.kinds[*kind].cells.remove_entry(key) {
            Some((key, cell)) => {
                self.count -= 1;
                self.bytes -= cell.bytes();
                to.place(*kind, key, cell);
            }
            None if self.whole => to.place(*kind, key.clone(), Cell::unread(None)),
            None => return Lent::Missing,
        }
        self.lent.insert(address.clone(), to.share);
        Lent::Here
    }

    /// The rows of a share come back. All shares' do, one after the other.
    pub(super) fn take_back(&mut self, share: Self) {
        self.lent.clear();
        for (kind, rows) in share.kinds.into_iter().enumerate() {
            for (key, cell) in rows.cells {
                self.place(kind, key, cell);
            }
        }
        self.dirty.extend(share.dirty);
    }

    /// Forgets all rows, if shares that were never given back have some.
    pub(super) fn recover(&mut self) {
        if !self.lent.is_empty() {
            self.lent.clear();
            self.forget();
        }
    }

    /// Reads all rows anew when they are wanted.
    pub(super) fn forget(&mut self) {
        for kind in &mut self.kinds {
            kind.cells.clear();
        }
        self.dirty.clear();
        (self.count, self.bytes, self.whole) = (0, 0, false);
    }

    pub(super) fn get<R: Row>(&mut self, kind: usize, key: &str) -> Result<Option<&dyn AnyRow>, Unfit> {
        let Some(cell) = self.kinds[kind].cells.get_mut(key) else { return Ok(None) };
        if let Now::AsStored = cell.now {
            cell.now = Now::Row(cell.decode::<R>()?);
        }
        match &cell.now {
            Now::Row(row) => Ok(row.as_deref()),
            Now::AsStored | Now::Taken => Ok(None),
        }
    }

    /// Moves a row out; sets `taken` when only a fresh start would bring it back.
    pub(super) fn take<R: Row>(
        &mut self,
        kind: usize,
        key: &str,
        taken: &mut bool,
    ) -> Result<Option<Box<dyn AnyRow>>, Unfit> {
        let Some(cell) = self.kinds[kind].cells.get_mut(key) else { return Ok(None) };
        match &mut cell.now {
            Now::AsStored => cell.decode::<R>(),
            Now::Row(None) | Now::Taken => Ok(None),
            Now::Row(row) => {
                let row = row.take();
                (cell.now, *taken) = (Now::Taken, true);
                if !std::mem::replace(&mut cell.dirty, true) {
                    self.dirty.push((kind, key.to_owned()));
                }
                Ok(row)
            }
        }
    }

    /// An event was folded to its end.
    pub(super) fn merge(&mut self, changes: Changes) {
        for (address, row) in changes.changed {
            let (kind, key) = address.clone();
            let before = self.kinds[kind].cells.len();
            let cell = self.kinds[kind].cells.entry(key).or_insert_with(|| Cell::unread(None));
            cell.now = Now::Row(row);
            if !std::mem::replace(&mut cell.dirty, true) {
                self.dirty.push(address);
            }
            self.count += self.kinds[kind].cells.len() - before;
        }
    }

    /// Back to what is stored.
    pub(super) fn restart(&mut self) {
        for (kind, key) in std::mem::take(&mut self.dirty) {
            let cells = &mut self.kinds[kind].cells;
            let Some(cell) = cells.get_mut(&key) else { continue };
            (cell.now, cell.dirty, cell.pending) = (Now::AsStored, false, None);
            // What was put without having been read is not known.
            if cell.revision == Revision::Any && cell.stored.is_none() && !self.whole {
                cells.remove(&key);
                self.count -= 1;
            }
        }
    }

    /// The writes that make the store as the rows are now. If `expecting`, all that was read must still be so, whether it
    /// is written or not: what was made of it hangs on it.
    pub(super) fn commit(&mut self, expecting: bool) -> Commit {
        self.dirty.sort_unstable();
        let mut commit = Commit::new();
        for Kind { collection, cells, .. } in self.kinds.iter().filter(|_| expecting) {
            let read = cells.iter().filter(|(_, cell)| !cell.dirty && cell.revision != Revision::Any);
            commit.requirements.extend(read.map(|(key, cell)| Requirement {
                collection: collection.name.clone(),
                key: key.clone(),
                expected: cell.revision,
            }));
        }
        for (kind, key) in &self.dirty {
            let Kind { collection, cells, .. } = &mut self.kinds[*kind];
            let Some(cell) = cells.get_mut(key) else { continue };
            let expected = if expecting { cell.revision } else { Revision::Any };
            match &cell.now {
                Now::Row(Some(row)) => {
                    let before = commit.writes.len();
                    commit = row.put(commit, collection, key, expected);
                    let written = commit.writes.get(before).map(|write| &write.kind);
                    cell.pending = match written {
                        Some(WriteKind::Put { value, .. }) => Some(value.clone()),
                        _ => None,
                    };
                }
                Now::Row(None) | Now::AsStored | Now::Taken => {
                    commit = commit.delete_in(collection, key.as_str(), expected);
                }
            }
        }
        commit
    }

    /// The commit was applied.
    pub(super) fn applied(&mut self) {
        for (kind, key) in std::mem::take(&mut self.dirty) {
            let Some(cell) = self.kinds[kind].cells.get_mut(&key) else { continue };
            self.bytes -= cell.bytes();
            cell.stored = cell.pending.take();
            self.bytes += cell.bytes();
            cell.revision = Revision::Any;
            cell.dirty = false;
        }
        if self.count > KEPT || self.bytes > KEPT_BYTES {
            self.forget();
        }
    }
}

impl Cell {
    /// A row that nothing is known of but, perhaps, what is stored.
    fn unread(stored: Option<Bytes>) -> Self {
        Self { stored, revision: Revision::Any, now: Now::AsStored, dirty: false, pending: None }
    }

    fn bytes(&self) -> usize {
        self.stored.as_ref().map_or(0, Bytes::len)
    }

    fn decode<R: Row>(&self) -> Result<Option<Box<dyn AnyRow>>, Unfit> {
        let Some(value) = &self.stored else { return Ok(None) };
        match storing(|| serde_json::from_slice::<R>(value)) {
            Ok(row) => Ok(Some(Box::new(row))),
            Err(error) => Err(Unfit::new(format!("its row in `{}`: {}", R::COLLECTION, chain(&error)))),
        }
    }
}

impl std::fmt::Debug for Cell {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cell")
            .field("stored", &self.stored)
            .field("dirty", &self.dirty)
            .finish_non_exhaustive()
    }
}
