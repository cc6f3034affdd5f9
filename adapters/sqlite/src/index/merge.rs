//! Makes one run of several, a slice at a time, so that no commit waits long for it.

use std::collections::HashSet;
use std::sync::Arc;

use rusqlite::Connection;

use super::Index;
use super::run::{BUILDING, Builder, RETIRED, Run, Stored};
use crate::codec::{mismatch, signed};

/// So many runs of a level become one of the next.
const FAN_IN: usize = 8;

/// Blocks written or deleted in one slice.
const SLICE: usize = 128;

/// The upkeep of the runs: a merge under way, and runs whose blocks wait to be deleted.
#[derive(Default)]
pub(crate) struct Upkeep {
    merge: Option<Merge>,
    retired: Vec<Retired>,
}

/// A run that was merged into another, or was never finished, and the blocks of it that are still there.
struct Retired {
    id: i64,
    run: Option<Arc<Run>>,
    blocks: Vec<i64>,
}

struct Merge {
    id: i64,
    inputs: Vec<Cursor>,
    builder: Builder,
}

impl Retired {
    /// Whether no reader holds it any more.
    fn is_unused(&self) -> bool {
        self.run.as_ref().is_none_or(|run| Arc::strong_count(run) == 1)
    }

    fn merged(run: Arc<Run>) -> Self {
        Self { id: run.id, blocks: run.blocks().collect(), run: Some(run) }
    }
}

/// Where a merge stands in one of its inputs.
struct Cursor {
    run: Arc<Run>,
    next_block: usize,
    entries: Vec<Stored>,
    at: usize,
}

/// What a slice changed about the runs, to be made known once it is committed.
pub(crate) struct Merged {
    run: Arc<Run>,
}

impl Upkeep {
    /// Takes up where an earlier process stopped: what was retired, and what a merge left half written, is deleted
    /// slice by slice. Only reads. Returns the live runs, which cover the log from its beginning.
    ///
    /// Runs that this process knows already stay the ones that its readers hold: see [`Retired::is_unused`].
    pub(crate) fn recover(
        connection: &Connection,
        known: &[Arc<Run>],
    ) -> rusqlite::Result<(Self, Vec<Arc<Run>>)> {
        let (mut old, mut live): (Vec<Arc<Run>>, Vec<_>) =
            Run::load_all(connection)?.into_iter().partition(|run| run.level == RETIRED);
        for run in old.iter_mut().chain(&mut live) {
            if let Some(known) = known.iter().find(|known| known.is_same(run)) {
                *run = Arc::clone(known);
            }
        }
        let mut through = 0;
        if !live.iter().all(|run| std::mem::replace(&mut through, run.through) + 1 == run.first) {
            return Err(mismatch());
        }
        let known: HashSet<i64> = live.iter().chain(&old).flat_map(|run| run.blocks()).collect();
        let mut retired: Vec<_> = old.into_iter().map(Retired::merged).collect();
        let mut building = connection.prepare("SELECT run, through FROM _run WHERE level = ?1")?;
        let half: Vec<(i64, i64)> = building
            .query_map([BUILDING], |row| Ok((row.get(0)?, row.get(1)?)))?
            .collect::<Result<_, _>>()?;
        for (id, first) in half {
            let mut blocks = connection.prepare("SELECT block FROM _block WHERE block >= ?1")?;
            let blocks: Vec<i64> = blocks.query_map([first], |row| row.get(0))?.collect::<Result<_, _>>()?;
            let blocks = blocks.into_iter().filter(|block| !known.contains(block)).collect();
            retired.push(Retired { id, run: None, blocks });
        }
        Ok((Self { merge: None, retired }, live))
    }

    /// All runs that a reader may hold.
    pub(crate) fn known(&self, index: &Index) -> Vec<Arc<Run>> {
        let retired = self.retired.iter().filter_map(|retired| retired.run.as_ref());
        index.runs.iter().chain(retired).cloned().collect()
    }

    /// Whether there is anything to do.
    pub(crate) fn is_needed(&self, index: &Index) -> bool {
        self.merge.is_some() || self.retired.iter().any(Retired::is_unused) || ripe(&index.runs).is_some()
    }

    /// Does a slice of the work inside a transaction of the caller's, which holds nothing else: what goes wrong here
    /// must not keep anybody from committing.
    pub(crate) fn step(
        &mut self,
        connection: &Connection,
        index: &Index,
    ) -> rusqlite::Result<Option<Merged>> {
        if self.merge.is_none() {
            match ripe(&index.runs) {
                Some(inputs) => self.merge = Some(Merge::start(connection, inputs)?),
                None => return self.delete_retired(connection).map(|()| None),
            }
        }
        let merge = self.merge.as_mut().expect("begun right above");
        if !merge.slice(connection)? {
            return Ok(None);
        }
        let merge = self.merge.take().expect("still there");
        merge.finish(connection).map(Some)
    }

    /// Puts a merged run in place of what it was made of; to be called once its slice is committed.
    pub(crate) fn apply(&mut self, merged: Merged, index: &mut Index) {
        let Merged { run } = merged;
        let level = run.level - 1;
        let first = index.runs.iter().position(|old| old.level == level).unwrap_or(0);
        let inputs = index.runs.splice(first..first + FAN_IN, [run]);
        let inputs = inputs.collect();
        self.retire(inputs);
    }

    /// All live runs were made anew: what was made of them does not go on.
    pub(crate) fn replaced(&mut self, runs: Vec<Arc<Run>>) {
        self.merge = None;
        self.retire(runs);
    }

    /// Has the blocks of these runs deleted once no reader holds them.
    fn retire(&mut self, runs: Vec<Arc<Run>>) {
        self.retired.extend(runs.into_iter().map(Retired::merged));
    }

    /// Deletes some blocks of a run that no reader holds any more.
    fn delete_retired(&mut self, connection: &Connection) -> rusqlite::Result<()> {
        let Some(at) = self.retired.iter().position(Retired::is_unused) else { return Ok(()) };
        let Retired { id, blocks, .. } = &mut self.retired[at];
        let mut delete = connection.prepare_cached("DELETE FROM _block WHERE block = ?1")?;
        for block in blocks.drain(blocks.len().saturating_sub(SLICE)..) {
            delete.execute([block])?;
        }
        if !blocks.is_empty() {
            return Ok(());
        }
        connection.execute("DELETE FROM _run WHERE run = ?1", [*id])?;
        self.retired.remove(at);
        Ok(())
    }
}

/// The oldest runs of the lowest level that has enough of them.
fn ripe(runs: &[Arc<Run>]) -> Option<Vec<Arc<Run>>> {
    let level = runs.last()?.level;
    (level..=runs.first()?.level).find_map(|level| {
        let of_level: Vec<_> = runs.iter().filter(|run| run.level == level).take(FAN_IN).cloned().collect();
        (of_level.len() == FAN_IN).then_some(of_level)
    })
}

impl Merge {
    fn start(connection: &Connection, inputs: Vec<Arc<Run>>) -> rusqlite::Result<Self> {
        let size = inputs.iter().map(|run| run.size()).sum();
        // Marks where its blocks begin, so that they are found if it never ends.
        let mut insert = connection.prepare_cached(
            "INSERT INTO _run(level, first, through, fences, filter, sum)
             SELECT ?1, 0, coalesce(max(block), 0) + 1, x'', x'', 0 FROM _block",
        )?;
        let id = insert.insert([BUILDING])?;
        let cursor = |run| Cursor { run, next_block: 0, entries: Vec::new(), at: 0 };
        let mut inputs: Vec<Cursor> = inputs.into_iter().map(cursor).collect();
        inputs.iter_mut().try_for_each(|input| input.fill(connection))?;
        Ok(Self { id, inputs, builder: Builder::new(size) })
    }

    /// Writes some blocks; true when there is no entry left.
    fn slice(&mut self, connection: &Connection) -> rusqlite::Result<bool> {
        let until = self.builder.blocks() + SLICE;
        while self.builder.blocks() < until {
            let inputs = self.inputs.iter().enumerate();
            let least = inputs.filter_map(|(n, input)| input.peek().map(|least| (least, n))).min();
            let Some(((_, entry), n)) = least else { return Ok(true) };
            self.builder.push(connection, entry)?;
            self.inputs[n].at += 1;
            self.inputs[n].fill(connection)?;
        }
        Ok(false)
    }

    fn finish(self, connection: &Connection) -> rusqlite::Result<Merged> {
        let newest = &self.inputs.last().expect("a merge has inputs").run;
        let covers = (self.inputs[0].run.first, newest.through);
        let run = self.builder.finish(connection, Some(self.id), newest.level + 1, covers)?;
        for input in &self.inputs {
            input.run.retire(connection)?;
        }
        debug_assert!(signed(run.through) > 0, "a run covers something");
        Ok(Merged { run })
    }
}

impl Cursor {
    /// Its least entry that is left, behind its beginning as a number, by which nearly all are told apart.
    fn peek(&self) -> Option<(u64, &Stored)> {
        let entry = self.entries.get(self.at)?;
        entry.first_chunk().map(|first| (u64::from_be_bytes(*first), entry))
    }

    /// Reads the next block, when there is nothing left of the one before.
    fn fill(&mut self, connection: &Connection) -> rusqlite::Result<()> {
        if self.at == self.entries.len() {
            self.entries = self.run.nth_block(connection, self.next_block)?;
            (self.next_block, self.at) = (self.next_block + 1, 0);
        }
        Ok(())
    }
}
