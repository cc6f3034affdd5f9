//! Moves events to the archive: copies them, makes the copies durable, and has the writer take them out of the store.
//!
//! Whatever stops it, an event is at least in one place; one that is in both is one event, and the next call goes on
//! with it. It runs on a thread of its own; the writer removes a few events at a time between two groups of commits.

use std::collections::HashSet;

use purlin::store::{Archived, CommitError, Recorded, StreamId};
use rusqlite::types::{ToSqlOutput, ValueRef};
use rusqlite::{Connection, OptionalExtension, Row, ToSql, params_from_iter};
use tokio::sync::{mpsc, oneshot};

use super::{Counted, open_writable};
use crate::codec::{Seen, WITHOUT_DATA, columns, data_of, read_event, select, select_at, signed, whose};
use crate::engine::Shared;
use crate::error::{Closed, is_damage, unavailable};
use crate::index::{Index, Lookup};
use crate::synchronous::Synchronous;
use crate::writer::Job;
use crate::{files, schema};

/// Events that are copied in one transaction, at the most, and bytes of their data.
const CHUNK: usize = 1024;
const CHUNK_BYTES: u64 = 4 << 20;

/// Events that the writer takes out at once: commits wait for it.
const SLICE: usize = 128;

/// Versions of a stream that are looked up at once.
const VERSIONS: u64 = 4096;

/// Moves all but the last event of each stream, at most `limit`.
pub(crate) fn move_events(
    shared: &Shared,
    jobs: &mpsc::Sender<Job>,
    synchronous: Synchronous,
    streams: Vec<StreamId>,
    limit: usize,
) -> Result<Archived, CommitError> {
    let hot = schema::open_reader(&shared.file).map_err(unavailable)?;
    let mut mover = Mover {
        shared,
        jobs,
        synchronous,
        hot: &hot,
        archive: None,
        chunk: Vec::new(),
        chunk_bytes: 0,
        new: Counted::default(),
        limit: limit as u64,
        done: Archived::default(),
    };
    let mut seen = HashSet::new();
    for stream in streams {
        if mover.done.more {
            break;
        }
        if seen.insert(stream.clone()) {
            mover.stream(&stream)?;
        }
    }
    mover.finish_chunk()?;
    mover.tidy();
    Ok(mover.done)
}

struct Mover<'a> {
    shared: &'a Shared,
    jobs: &'a mpsc::Sender<Job>,
    synchronous: Synchronous,
    hot: &'a Connection,
    /// Opened with the first event that moves.
    archive: Option<Connection>,
    /// The positions of what is copied and not durable yet.
    chunk: Vec<u64>,
    chunk_bytes: u64,
    /// What of the chunk was not in the archive already.
    new: Counted,
    limit: u64,
    done: Archived,
}

impl Mover<'_> {
    /// Moves a stream.
    fn stream(&mut self, stream: &StreamId) -> Result<(), CommitError> {
        let last = self.shared.last_version(self.hot, stream).map_err(unavailable)?;
        let mut from = self.first_hot(stream, last).map_err(unavailable)?;
        while from < last && !self.done.more {
            let to = last.min(from + VERSIONS);
            for position in self.positions(stream, from, to).map_err(unavailable)? {
                if let Some(damaged) = self.event(stream, last, position)? {
                    // It stays where it is, and so does what comes behind it.
                    self.done.damaged.push(damaged);
                    return Ok(());
                }
                if self.done.more {
                    break;
                }
            }
            from = to;
        }
        Ok(())
    }

    /// The first version that is still in the store's file: what left it left it in order. `last` if there is none
    /// before.
    fn first_hot(&self, stream: &StreamId, last: u64) -> rusqlite::Result<u64> {
        let (mut from, mut to) = (1, last.max(1));
        while from < to {
            let middle = from + (to - from) / 2;
            let mut is_hot = false;
            for position in self.positions(stream, middle, middle + 1)? {
                let older = self.shared.older;
                let sql = select(older.shape(position), WITHOUT_DATA, "WHERE position = ?1");
                let is_of_it = |row: &Row<'_>| {
                    // A damaged one is told when it is to move.
                    Ok(Seen::read(row, older).map_or(true, |seen| seen.header.stream == stream.as_str()))
                };
                let found = self.hot.prepare_cached(&sql)?.query_row([signed(position)], is_of_it);
                is_hot |= found.optional()?.unwrap_or(false);
            }
            if is_hot { to = middle } else { from = middle + 1 }
        }
        Ok(from)
    }

    fn positions(&self, stream: &StreamId, from: u64, to: u64) -> rusqlite::Result<Vec<u64>> {
        let key = self.shared.keys.of(stream.as_str());
        let lookup: Lookup = self.index(|index| index.lookup(key, from, to));
        lookup.positions(self.hot, from, to)
    }

    fn index<T>(&self, look: impl FnOnce(&Index) -> T) -> T {
        look(&self.shared.index.read().expect("no panic holds the index"))
    }

    /// Copies an event, if it is to move and still here; or says which one is damaged.
    fn event(&mut self, stream: &StreamId, last: u64, position: u64) -> Result<Option<String>, CommitError> {
        // The first row has all columns that any has, and so has the archive.
        let mut select =
            self.hot.prepare_cached(select_at(self.shared.older.shape(1))).map_err(unavailable)?;
        let mut rows = select.query([signed(position)]).map_err(unavailable)?;
        let row = match rows.next() {
            Ok(Some(row)) => row,
            Ok(None) => return Ok(None),
            Err(error) if is_damage(&error) => {
                return Ok(Some(format!("the event at {position} of the stream `{stream}`")));
            }
            Err(error) => return Err(unavailable(error)),
        };
        let (read, bytes) = match self.read(row) {
            Ok(read) => read,
            Err(error) if is_damage(&error) => return Ok(Some(whose(position, row, self.shared.older))),
            Err(error) => return Err(unavailable(error)),
        };
        if read.stream != *stream || read.version >= last {
            return Ok(None);
        }
        if self.done.events + self.chunk.len() as u64 >= self.limit {
            self.done.more = true;
            return Ok(None);
        }
        self.copy(row).map_err(unavailable)?;
        self.chunk.push(position);
        self.chunk_bytes += bytes;
        if self.chunk.len() >= CHUNK || self.chunk_bytes >= CHUNK_BYTES {
            drop(rows);
            self.finish_chunk()?;
        }
        Ok(None)
    }

    /// Reads all of an event, with its checksums; and how many bytes its data have.
    fn read(&self, row: &Row<'_>) -> rusqlite::Result<(Recorded, u64)> {
        let bytes = data_of(row)?.map_or(0, |data| data.len() as u64);
        Ok((read_event(row, self.shared.older)?, bytes))
    }

    fn copy(&mut self, row: &Row<'_>) -> rusqlite::Result<()> {
        if self.archive.is_none() {
            let opened = open_writable(&self.shared.archive, self.synchronous);
            self.archive = Some(opened.map_err(super::Refused::into_error)?);
        }
        let archive = self.archive.as_ref().expect("opened right above");
        if self.chunk.is_empty() {
            archive.execute_batch("BEGIN IMMEDIATE")?;
        }
        let position: i64 = row.get(0)?;
        let is_there = archive
            .prepare_cached("SELECT 1 FROM _event WHERE position = ?1")?
            .query_row([position], |_| Ok(()))
            .optional()?;
        let names = columns(self.shared.older.shape(1));
        let count = names.split(',').count();
        let values = (0..count).map(|n| row.get_ref(n).map(Raw)).collect::<rusqlite::Result<Vec<_>>>()?;
        let marks = vec!["?"; count].join(", ");
        // What a copy of another life of the log may have brought is not what is here.
        let sql = format!("INSERT OR REPLACE INTO _event({names}) VALUES({marks})");
        let bytes = data_of(row)?.map_or(0, |data| data.len() as u64);
        archive.prepare_cached(&sql)?.execute(params_from_iter(values))?;
        if is_there.is_none() {
            self.new.events += 1;
            self.new.bytes += bytes;
        }
        Ok(())
    }

    /// Makes the copies durable, and has the writer take their events out.
    fn finish_chunk(&mut self) -> Result<(), CommitError> {
        let (Some(archive), false) = (&self.archive, self.chunk.is_empty()) else { return Ok(()) };
        let committed = self.new.added_to(archive).and_then(|()| archive.execute_batch("COMMIT"));
        committed.map_err(unavailable)?;
        if self.synchronous == Synchronous::Full {
            // SQLite does not mind when it fails to make the name of a new log durable.
            files::sync_folder(self.shared.archive.file()).map_err(unavailable)?;
        }
        self.new = Counted::default();
        self.chunk.sort_unstable();
        let chunk = std::mem::take(&mut self.chunk);
        for slice in chunk.chunks(SLICE) {
            let (answer, answered) = oneshot::channel();
            let job = Job::Forget(slice.to_vec(), answer);
            self.jobs.blocking_send(job).map_err(|_| unavailable(Closed))?;
            answered.blocking_recv().map_err(|_| unavailable(Closed))??;
            self.done.events += slice.len() as u64;
        }
        self.done.bytes += std::mem::take(&mut self.chunk_bytes);
        Ok(())
    }

    /// Moves what is in the archive's log into its file, so that the file can be carried away by itself.
    fn tidy(&self) {
        if let Some(archive) = &self.archive
            && let Err(error) = crate::checkpoint::truncate(archive)
        {
            tracing::warn!(%error, "the archive's log could not be moved into its file; it is once the store closes");
        }
    }
}

/// A column as it lies in the row.
struct Raw<'a>(ValueRef<'a>);

impl ToSql for Raw<'_> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(self.0))
    }
}
