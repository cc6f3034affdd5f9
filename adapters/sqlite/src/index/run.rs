//! A run: sorted entries in blocks, found by the first entry of each block.

use std::sync::Arc;

use rusqlite::{CachedStatement, Connection, Row};

use super::filter::Filter;
use super::key::Key;
use crate::checksum::Sum;
use crate::codec::{mismatch, signed, unsigned};

/// Entries of a block: with their checksum and SQLite's own bytes they fill a page of 4 KiB.
const BLOCK: usize = 166;

/// Bytes of an entry, and of a fence: of its key, its version and its position.
const ENTRY: usize = Key::BYTES + VERSION + 6;
const VERSION: usize = 5;

/// The last version that an entry has room for; a stream with so many events fills what SQLite can hold in a file.
pub(crate) const LAST_VERSION: u64 = (1 << (8 * VERSION)) - 1;

/// Bytes of a block's checksum, behind its entries.
const SUM: usize = 4;

/// An event's place in a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Entry {
    pub(crate) key: Key,
    pub(crate) version: u64,
    pub(crate) position: u64,
}

/// An entry as it is on the disk; in the order of entries.
pub(super) type Stored = [u8; ENTRY];

/// A sealed part of the index; its entries are on disk.
pub(crate) struct Run {
    pub(crate) id: i64,
    pub(crate) level: i64,
    /// The first position it covers.
    pub(crate) first: u64,
    /// The last position it covers.
    pub(crate) through: u64,
    /// The first entry of each block, with the block's id in place of the position.
    fences: Vec<Entry>,
    pub(crate) filter: Filter,
}

/// The level of a run whose blocks are to be deleted.
pub(crate) const RETIRED: i64 = -1;
/// The level of a run that a merge is writing; `through` is then its first block.
pub(crate) const BUILDING: i64 = -2;

impl Entry {
    pub(super) fn to_bytes(self) -> Stored {
        debug_assert!(self.version <= LAST_VERSION && self.position >> 48 == 0, "it has room");
        let mut bytes = [0; ENTRY];
        let (key, numbers) = bytes.split_at_mut(Key::BYTES);
        let (version, position) = numbers.split_at_mut(VERSION);
        key.copy_from_slice(&self.key.to_bytes());
        version.copy_from_slice(&self.version.to_be_bytes()[8 - VERSION..]);
        position.copy_from_slice(&self.position.to_be_bytes()[2..]);
        bytes
    }

    fn from_bytes(bytes: &Stored) -> Self {
        let number = |bytes: &[u8]| bytes.iter().fold(0, |number, byte| number << 8 | u64::from(*byte));
        let (key, numbers) = bytes.split_first_chunk().expect("a key is a part of an entry");
        let (version, position) = numbers.split_at(VERSION);
        Self { key: Key::from_bytes(*key), version: number(version), position: number(position) }
    }
}

fn decode(bytes: &[u8]) -> Vec<Entry> {
    bytes.as_chunks::<ENTRY>().0.iter().map(Entry::from_bytes).collect()
}

fn encode(entries: &[Entry]) -> Vec<u8> {
    entries.iter().flat_map(|entry| entry.to_bytes()).collect()
}

/// The entries of a block that begins as its fence says, and is as it was written.
fn check_block<'b>(bytes: &'b [u8], fence: &Entry) -> Option<&'b [Stored]> {
    let (entries, sum) = bytes.split_last_chunk::<SUM>()?;
    let (entries, rest) = entries.as_chunks::<ENTRY>();
    let first = Entry::from_bytes(entries.first()?);
    let fits = rest.is_empty() && (first.key, first.version) == (fence.key, fence.version);
    (fits && Sum::default().bytes(entries.as_flattened()).to_bytes() == *sum).then_some(entries)
}

impl Run {
    /// The entries of a stream with versions in `from..to`.
    pub(crate) fn entries(
        &self,
        connection: &Connection,
        key: Key,
        from: u64,
        to: u64,
    ) -> rusqlite::Result<Vec<Entry>> {
        let before = |entry: &Entry| (entry.key, entry.version) < (key, from);
        let within = |entry: &Entry| (entry.key, entry.version) < (key, to);
        let first = self.fences.partition_point(before).saturating_sub(1);
        let last = self.fences.partition_point(within);
        let (mut found, mut blocks) = (Vec::new(), Blocks::of(connection)?);
        for fence in &self.fences[first..last.max(first)] {
            blocks.read(fence, |entries| {
                let entries = entries.iter().map(Entry::from_bytes);
                found.extend(entries.filter(|entry| !before(entry) && within(entry)));
            })?;
        }
        Ok(found)
    }

    /// The last entry of a stream.
    pub(super) fn last(&self, blocks: &mut Blocks<'_>, key: Key) -> rusqlite::Result<Option<Entry>> {
        let Some(fence) = self.behind(key).checked_sub(1).map(|n| &self.fences[n]) else { return Ok(None) };
        let stored = key.to_bytes();
        blocks.read(fence, |entries| {
            let behind = entries.partition_point(|entry| entry[..Key::BYTES] <= stored[..]);
            let last = behind.checked_sub(1).map(|n| &entries[n]);
            last.filter(|last| last[..Key::BYTES] == stored[..]).map(Entry::from_bytes)
        })
    }

    /// How many blocks begin with this key or an earlier one. Keys are spread evenly: that many stand about where the
    /// key's place among all is, and the search begins there.
    fn behind(&self, key: Key) -> usize {
        let fences = &self.fences;
        let guess = (u128::from(key.high()) * fences.len() as u128) >> 64;
        let guess = usize::try_from(guess).expect("less than there are");
        let (mut low, mut high, mut step) = (guess, guess, 4);
        while low > 0 && fences[low - 1].key > key {
            low = low.saturating_sub(step);
            step *= 2;
        }
        step = 4;
        while high < fences.len() && fences[high].key <= key {
            high = (high + step).min(fences.len());
            step *= 2;
        }
        low + fences[low..high].partition_point(|fence| fence.key <= key)
    }

    /// The entries of its n-th block; empty behind the last.
    pub(super) fn nth_block(&self, connection: &Connection, n: usize) -> rusqlite::Result<Vec<Stored>> {
        let fence = self.fences.get(n);
        fence.map_or(Ok(Vec::new()), |fence| Blocks::of(connection)?.read(fence, <[Stored]>::to_vec))
    }

    /// The ids of its blocks.
    pub(super) fn blocks(&self) -> impl ExactSizeIterator<Item = i64> + '_ {
        self.fences.iter().map(|fence| signed(fence.position))
    }

    /// How many entries it has at most.
    pub(super) fn size(&self) -> usize {
        self.fences.len() * BLOCK
    }

    /// All runs of a store, the oldest first; retired ones among them.
    pub(crate) fn load_all(connection: &Connection) -> rusqlite::Result<Vec<Arc<Self>>> {
        let mut select = connection.prepare(
            "SELECT run, level, first, through, fences, filter, sum FROM _run WHERE level <> ?1 \
             ORDER BY through, run",
        )?;
        select.query_map([BUILDING], |row| Self::read(row).map(Arc::new))?.collect()
    }

    fn read(row: &Row<'_>) -> rusqlite::Result<Self> {
        let run = Self {
            id: row.get(0)?,
            level: row.get(1)?,
            first: unsigned(row.get(2)?),
            through: unsigned(row.get(3)?),
            fences: decode(row.get_ref(4)?.as_blob()?),
            filter: Filter::from_bytes(row.get_ref(5)?.as_blob()?).ok_or_else(mismatch)?,
        };
        if row.get::<_, i64>(6)? == run.sum(run.level) { Ok(run) } else { Err(mismatch()) }
    }

    /// Whether all of its blocks are what was written.
    pub(crate) fn check(&self, connection: &Connection) -> rusqlite::Result<()> {
        let mut blocks = Blocks::of(connection)?;
        self.fences.iter().try_for_each(|fence| blocks.read(fence, |_| ()))
    }

    /// The checksum of its description.
    fn sum(&self, level: i64) -> i64 {
        let sum = Sum::default().numbers([level.cast_unsigned(), self.first, self.through]);
        sum.bytes(&encode(&self.fences)).bytes(&self.filter.to_bytes()).stored()
    }

    /// Whether another is this one, whatever its level: blocks of two runs are never the same.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        (self.id, self.first, self.through) == (other.id, other.first, other.through)
            && self.fences == other.fences
    }

    /// Marks it as one whose blocks are to be deleted.
    pub(crate) fn retire(&self, connection: &Connection) -> rusqlite::Result<()> {
        let mut retire = connection.prepare_cached("UPDATE _run SET level = ?1, sum = ?2 WHERE run = ?3")?;
        retire.execute((RETIRED, self.sum(RETIRED), self.id)).map(drop)
    }
}

/// The blocks of all runs.
pub(super) struct Blocks<'c>(CachedStatement<'c>);

impl<'c> Blocks<'c> {
    pub(super) fn of(connection: &'c Connection) -> rusqlite::Result<Self> {
        connection.prepare_cached("SELECT entries FROM _block WHERE block = ?1").map(Self)
    }

    /// Reads the block of a fence.
    fn read<T>(&mut self, fence: &Entry, read: impl FnOnce(&[Stored]) -> T) -> rusqlite::Result<T> {
        self.0.query_row([signed(fence.position)], |row| {
            check_block(row.get_ref(0)?.as_blob()?, fence).map(read).ok_or_else(mismatch)
        })
    }
}

/// Writes a run, entry by entry in sorted order.
pub(crate) struct Builder {
    fences: Vec<Entry>,
    filter: Filter,
    pending: Vec<u8>,
}

impl Builder {
    /// For at most so many entries.
    pub(crate) fn new(len: usize) -> Self {
        Self {
            fences: Vec::with_capacity(len / BLOCK + 1),
            filter: Filter::new(len),
            pending: Vec::with_capacity(BLOCK * ENTRY + SUM),
        }
    }

    /// Takes the next entry.
    pub(crate) fn push(&mut self, connection: &Connection, entry: &Stored) -> rusqlite::Result<()> {
        self.filter.add(Entry::from_bytes(entry).key.high());
        self.pending.extend_from_slice(entry);
        if self.pending.len() == BLOCK * ENTRY { self.write(connection) } else { Ok(()) }
    }

    fn write(&mut self, connection: &Connection) -> rusqlite::Result<()> {
        let Some(first) = self.pending.first_chunk().map(Entry::from_bytes) else { return Ok(()) };
        let mut insert = connection.prepare_cached("INSERT INTO _block(entries) VALUES(?1)")?;
        let sum = Sum::default().bytes(&self.pending).to_bytes();
        self.pending.extend(sum);
        let block = insert.insert([&self.pending])?;
        self.fences.push(Entry { position: unsigned(block), ..first });
        self.pending.clear();
        Ok(())
    }

    /// How many blocks are written.
    pub(super) fn blocks(&self) -> usize {
        self.fences.len()
    }

    /// Writes the rest and what describes the run, which covers these positions.
    pub(crate) fn finish(
        mut self,
        connection: &Connection,
        id: Option<i64>,
        level: i64,
        (first, through): (u64, u64),
    ) -> rusqlite::Result<Arc<Run>> {
        self.write(connection)?;
        let mut insert = connection.prepare_cached(
            "INSERT OR REPLACE INTO _run(run, level, first, through, fences, filter, sum)
             VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7)",
        )?;
        let mut run = Run { id: 0, level, first, through, fences: self.fences, filter: self.filter };
        let (fences, filter) = (encode(&run.fences), run.filter.to_bytes());
        run.id =
            insert.insert((id, level, signed(first), signed(through), fences, filter, run.sum(level)))?;
        Ok(Arc::new(run))
    }
}
