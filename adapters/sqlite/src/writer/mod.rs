//! The one writer: takes all commits that wait, checks, applies and syncs them together, answers each.

mod batch;
mod heads;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, oneshot};

use purlin::message::{Clock, Timestamp};
use purlin::store::{Collection, Commit, CommitError, Committed, Position, StreamId};
use rusqlite::{Connection, OptionalExtension};

use crate::checkpoint::{Checkpointer, passive};
use crate::codec::{signed, unsigned};
use crate::collection::{self, Table};
use crate::engine::{Options, Shared};
use crate::error::unavailable;
use crate::index::merge::Upkeep;
use crate::index::run::Builder;
use crate::index::{Index, Tail};
use crate::lock::Lock;
use crate::schema;
use batch::{Applied, Batch, Trace, Waiting};
use heads::Heads;

/// Commits that are applied and synced together at the most.
const BATCH: usize = 2048;

/// Events and records after which a transaction takes no further commit. The cache of heads holds twice as many
/// streams, so that no head that a transaction staged can be forgotten before it is committed.
const ITEMS: usize = 4 * BATCH;

/// How long a store that cannot be read is left alone before it is opened again.
const RETRY: Duration = Duration::from_millis(200);

/// How long the upkeep of the index rests after it failed.
const UPKEEP_RESTS: Duration = Duration::from_secs(30);

/// Pages of WAL after which the writer itself moves what is left of it, so that it begins anew: the checkpoints
/// beside it never catch up with a writer that never rests.
const WAL_PAGES: i64 = 16 * 1024;

/// What the writer is asked to do.
pub(crate) enum Job {
    Commit(Commit, oneshot::Sender<Result<Committed, CommitError>>),
    Define(Collection, oneshot::Sender<Result<(), CommitError>>),
    Swap { from: String, to: String, answer: oneshot::Sender<Result<(), CommitError>> },
    Drop(String, oneshot::Sender<Result<(), CommitError>>),
    Close(oneshot::Sender<()>),
}

/// The state of the writing thread. All of it but the connection can be read from the file again.
pub(crate) struct Writer {
    connection: Connection,
    shared: Arc<Shared>,
    checkpointer: Checkpointer,
    clock: Clock,
    heads: Heads,
    upkeep: Upkeep,
    /// The last event's.
    position: u64,
    at: Timestamp,
    revision: u64,
    /// So many events in the tail of the index become a run.
    run: usize,
    /// As `run`, or more after a run could not be written.
    seal_at: usize,
    /// After it failed, the upkeep of the index rests until then.
    upkeep_after: Option<Instant>,
    /// There may be rows of collections that were removed.
    gone: bool,
    _lock: Lock,
}

/// A transaction that did not happen, or of which it is not known.
enum Failed {
    RolledBack(rusqlite::Error),
    Unknown(Box<Unknown>),
}

/// A transaction whose COMMIT failed: what is true if it happened all the same.
struct Unknown {
    trace: Option<Trace>,
    outcomes: Vec<Outcome>,
    error: rusqlite::Error,
}

type Outcome = Result<Committed, CommitError>;

impl Writer {
    /// Reads what the writer must know.
    pub(crate) fn open(
        connection: Connection,
        shared: Arc<Shared>,
        lock: Lock,
        options: &Options,
    ) -> rusqlite::Result<Self> {
        let checkpointer = Checkpointer::start(&shared.file)?;
        let mut writer = Self {
            connection,
            shared,
            checkpointer,
            clock: options.clock.clone(),
            heads: Heads::new(options.heads),
            upkeep: Upkeep::default(),
            position: 0,
            at: Timestamp::UNIX_EPOCH,
            revision: 0,
            run: options.run.max(1),
            seal_at: 0,
            upkeep_after: None,
            gone: true,
            _lock: lock,
        };
        writer.load()?;
        Ok(writer)
    }

    /// Forgets all that is in memory and reads it from the file.
    fn load(&mut self) -> rusqlite::Result<()> {
        let connection = &self.connection;
        let (upkeep, runs) = Upkeep::recover(connection)?;
        let through = runs.last().map_or(0, |run| run.through);
        let mut tail = Tail::default();
        let mut select = connection
            .prepare("SELECT stream, version, position FROM _event WHERE position > ?1 ORDER BY position")?;
        let mut rows = select.query([signed(through)])?;
        while let Some(row) = rows.next()? {
            let stream = StreamId::parse(row.get_ref(0)?.as_str()?).map_err(|error| {
                rusqlite::Error::FromSqlConversionFailure(0, rusqlite::types::Type::Text, Box::new(error))
            })?;
            tail.push(stream, unsigned(row.get(1)?), unsigned(row.get(2)?));
        }
        let last = "SELECT position, at FROM _event ORDER BY position DESC LIMIT 1";
        let last: Option<(i64, i64)> =
            connection.query_row(last, [], |row| Ok((row.get(0)?, row.get(1)?))).optional()?;
        let (position, at) = last.unwrap_or_default();
        let tables = collection::load_all(connection)?;
        self.revision = self.revision.max(schema::revision(connection)?);
        self.position = unsigned(position);
        self.at = self.at.max(Timestamp::from_microsecond(at).unwrap_or_default());
        self.upkeep = upkeep;
        self.heads.clear();
        self.seal_at = self.run;
        let named = tables.into_iter().map(|table| (table.definition.name.to_string(), Arc::new(table)));
        *self.shared.tables.write().expect("no panic holds the tables") = named.collect();
        *self.shared.index.write().expect("no panic holds the index") = Index { runs, tail };
        self.shared.head.send_replace(Position(self.position));
        Ok(())
    }

    /// Serves until the queue closes.
    pub(crate) fn serve(mut self, mut queue: mpsc::Receiver<Job>) {
        let mut jobs = Vec::with_capacity(BATCH);
        loop {
            if queue.is_empty() && self.upkeep_is_needed() {
                self.keep_up();
                continue;
            }
            if queue.is_empty() && self.gone {
                self.shrink_gone();
                continue;
            }
            if queue.blocking_recv_many(&mut jobs, BATCH) == 0 {
                return;
            }
            let mut waiting = Vec::with_capacity(jobs.len());
            let mut items = 0;
            for job in jobs.drain(..) {
                match job {
                    Job::Commit(commit, answer) => {
                        items += commit.event_count() + commit.writes.len();
                        waiting.push((commit, answer));
                        if items >= ITEMS {
                            self.commit(std::mem::take(&mut waiting));
                            items = 0;
                        }
                    }
                    Job::Close(answer) => {
                        self.commit(waiting);
                        // Everything that follows is refused: the queue is dropped with this.
                        drop(queue);
                        drop(self);
                        let _ = answer.send(());
                        return;
                    }
                    other => {
                        self.commit(std::mem::take(&mut waiting));
                        self.change_collections(other);
                    }
                }
            }
            self.commit(waiting);
            self.after_commits();
        }
    }

    /// Commits all together; if that fails, each alone, so that one cannot spoil the others.
    fn commit(&mut self, waiting: Vec<Waiting>) {
        if waiting.is_empty() {
            return;
        }
        match self.transact(&waiting) {
            Ok(outcomes) => answer(waiting, outcomes),
            // Nothing was applied, and that is sure: whoever waits need not wait for the store to be well again.
            Err(Failed::RolledBack(error)) if waiting.len() == 1 || concerns_all(&error) => {
                answer_all(waiting, error);
                self.start_over();
            }
            Err(Failed::RolledBack(error)) => {
                tracing::warn!(%error, commits = waiting.len(), "a transaction failed; each commit is tried alone");
                self.start_over();
                waiting.into_iter().for_each(|alone| self.commit(vec![alone]));
            }
            Err(Failed::Unknown(unknown)) => {
                let Unknown { trace, outcomes, error } = *unknown;
                let happened = self.settle(trace.as_ref(), &error);
                if happened {
                    answer(waiting, outcomes);
                } else {
                    answer_all(waiting, error);
                }
            }
        }
    }

    fn transact(&mut self, waiting: &[Waiting]) -> Result<Vec<Outcome>, Failed> {
        self.at = self.at.max(self.clock.now());
        let (connection, shared) = (&self.connection, Arc::clone(&self.shared));
        let index = shared.index.read().expect("no panic holds the index");
        let tables = shared.tables.read().expect("no panic holds the tables");
        execute(connection, "BEGIN IMMEDIATE").map_err(Failed::RolledBack)?;
        let state = (self.position, self.revision, self.at);
        let mut batch =
            Batch::new(connection, &index, &tables, &mut self.heads, state).map_err(Failed::RolledBack)?;
        let mut outcomes = Vec::with_capacity(waiting.len());
        for (commit, _) in waiting {
            outcomes.push(batch.apply(commit).map_err(Failed::RolledBack)?);
        }
        let Applied { position, revision, appended, trace } = batch.finish().map_err(Failed::RolledBack)?;
        drop((index, tables));
        // Whatever comes of it: a revision that was given out once is not given out again.
        self.revision = revision;
        if let Err(error) = execute(connection, "COMMIT") {
            return Err(Failed::Unknown(Box::new(Unknown { trace, outcomes, error })));
        }
        self.position = position;
        if !appended.is_empty() {
            let mut index = shared.index.write().expect("no panic holds the index");
            for (stream, version, position) in appended {
                index.tail.push(stream, version, position);
            }
        }
        shared.head.send_replace(Position(position));
        Ok(outcomes)
    }

    /// After a transaction that was rolled back: what is in memory may speak of it.
    #[cold]
    fn start_over(&mut self) {
        let rolled_back =
            if self.connection.is_autocommit() { Ok(()) } else { execute(&self.connection, "ROLLBACK") };
        if let Err(error) = rolled_back.and_then(|()| self.load()) {
            tracing::error!(%error, "the store cannot be read after a failed transaction; it is opened again");
            self.reopen();
        }
    }

    /// After a failed COMMIT: whether it happened all the same is read from the file.
    ///
    /// What was read is made true for ever by a transaction of its own: frames that a failed sync left in the WAL
    /// would else be found, and believed, after the next crash.
    #[cold]
    fn settle(&mut self, trace: Option<&Trace>, error: &rusqlite::Error) -> bool {
        tracing::error!(%error, "a COMMIT failed; the store is opened again to see whether it happened");
        loop {
            self.reopen();
            match self.see(trace) {
                Ok(happened) => return happened,
                Err(error) => tracing::error!(%error, "it cannot be seen yet; it is tried again"),
            }
            std::thread::park_timeout(RETRY);
        }
    }

    fn see(&self, trace: Option<&Trace>) -> rusqlite::Result<bool> {
        execute(&self.connection, "BEGIN IMMEDIATE")?;
        let happened = trace.map_or(Ok(true), |trace| trace.is_in(&self.connection))?;
        schema::count_settled(&self.connection)?;
        execute(&self.connection, "COMMIT")?;
        Ok(happened)
    }

    /// Opens the file again and again until that works: nothing else could be said truthfully to those who wait.
    #[cold]
    fn reopen(&mut self) {
        loop {
            match schema::open_writer(&self.shared.file) {
                Ok(connection) => self.connection = connection,
                Err(error) => tracing::error!(%error, "the store cannot be opened"),
            }
            match self.load() {
                Ok(()) => return,
                Err(error) => tracing::error!(%error, "the store cannot be read"),
            }
            std::thread::park_timeout(RETRY);
        }
    }

    /// What must be done now and then, when nobody waits for it.
    fn after_commits(&mut self) {
        self.checkpointer.notice();
        if self.checkpointer.take_wal_pages() > WAL_PAGES
            && let Err(error) = passive(&self.connection)
        {
            tracing::warn!(%error, "a checkpoint failed; the next one tries again");
        }
        let tail = self.shared.index.read().expect("no panic holds the index").tail.len();
        if tail >= self.seal_at {
            self.seal(tail);
        }
        if self.upkeep_is_needed() {
            self.keep_up();
        }
    }

    /// Makes a run of the tail.
    fn seal(&mut self, tail: usize) {
        let shared = Arc::clone(&self.shared);
        let connection = &self.connection;
        let sealed = (|| {
            let entries = shared.index.read().expect("no panic holds the index").tail.sorted();
            execute(connection, "BEGIN IMMEDIATE")?;
            let mut builder = Builder::new(entries.len());
            for entry in entries {
                builder.push(connection, entry)?;
            }
            let run = builder.finish(connection, None, 0, self.position)?;
            execute(connection, "COMMIT")?;
            Ok::<_, rusqlite::Error>(run)
        })();
        match sealed {
            Ok(run) => {
                let mut index = shared.index.write().expect("no panic holds the index");
                index.runs.push(run);
                let sealed = std::mem::take(&mut index.tail);
                drop(index);
                // Tens of thousands of names: nobody need wait until they are freed.
                drop(sealed);
                self.seal_at = self.run;
            }
            Err(error) => {
                tracing::warn!(%error, "a run of the index could not be written; it is tried again later");
                self.start_over();
                self.seal_at = tail + self.run / 10;
            }
        }
    }

    fn upkeep_is_needed(&self) -> bool {
        self.upkeep_after.is_none_or(|after| after <= Instant::now())
            && self.upkeep.is_needed(&self.shared.index.read().expect("no panic holds the index"))
    }

    /// A slice of the index's upkeep, in a transaction of its own.
    fn keep_up(&mut self) {
        let shared = Arc::clone(&self.shared);
        let stepped = (|| {
            let index = shared.index.read().expect("no panic holds the index");
            execute(&self.connection, "BEGIN IMMEDIATE")?;
            let merged = self.upkeep.step(&self.connection, &index)?;
            execute(&self.connection, "COMMIT")?;
            Ok::<_, rusqlite::Error>(merged)
        })();
        match stepped {
            Ok(None) => {}
            Ok(Some(merged)) => {
                self.upkeep.apply(merged, &mut shared.index.write().expect("no panic holds the index"));
            }
            Err(error) => {
                tracing::warn!(%error, "the index could not be merged; it is tried again later");
                self.start_over();
                self.upkeep_after = Some(Instant::now() + UPKEEP_RESTS);
            }
        }
        self.checkpointer.notice();
    }

    /// A slice of what collections leave that were removed.
    fn shrink_gone(&mut self) {
        let shrunk = (|| {
            execute(&self.connection, "BEGIN IMMEDIATE")?;
            let more = collection::shrink_gone(&self.connection)?;
            execute(&self.connection, "COMMIT")?;
            Ok::<_, rusqlite::Error>(more)
        })();
        self.gone = shrunk.unwrap_or_else(|error| {
            tracing::warn!(%error, "what a removed collection left could not be cleared; it is tried again later");
            self.start_over();
            false
        });
        self.checkpointer.notice();
    }

    /// Makes, renames or drops a collection.
    fn change_collections(&mut self, job: Job) {
        self.gone = true;
        let (answer, changed) = match job {
            Job::Define(definition, answer) => (answer, self.define(&definition)),
            Job::Swap { from, to, answer } => (answer, self.swap(&from, &to)),
            Job::Drop(name, answer) => {
                let dropped = self.in_transaction(|connection, tables| match tables.contains_key(&name) {
                    true => collection::drop_table(connection, &name),
                    false => Ok(()),
                });
                (answer, dropped.map_err(unavailable))
            }
            Job::Commit(..) | Job::Close(_) => return,
        };
        let _ = answer.send(changed);
    }

    fn define(&mut self, definition: &Collection) -> Result<(), CommitError> {
        let defined = self.in_transaction(|connection, tables| {
            collection::define(connection, tables.get(definition.name.as_ref()).map(Arc::as_ref), definition)
        });
        defined.map_err(unavailable)
    }

    fn swap(&mut self, from: &str, to: &str) -> Result<(), CommitError> {
        let swapped = self.in_transaction(|connection, tables| {
            let Some(table) = tables.get(from) else { return Ok(false) };
            collection::rename(connection, table, to).map(|()| true)
        });
        match swapped.map_err(unavailable)? {
            true => Ok(()),
            false => {
                Err(CommitError::Invalid(format!("the collection `{from}` is not defined in this store")))
            }
        }
    }

    /// Changes tables, and reads them again.
    fn in_transaction<T>(
        &mut self,
        change: impl FnOnce(&Connection, &HashMap<String, Arc<Table>>) -> rusqlite::Result<T>,
    ) -> rusqlite::Result<T> {
        let shared = Arc::clone(&self.shared);
        // Only this thread changes the tables: readers wait no longer than it takes to exchange the map.
        let tables = shared.tables.read().expect("no panic holds the tables").clone();
        let changed = (|| {
            execute(&self.connection, "BEGIN IMMEDIATE")?;
            let changed = change(&self.connection, &tables)?;
            let after = collection::load_all(&self.connection)?;
            execute(&self.connection, "COMMIT")?;
            let named = after.into_iter().map(|table| (table.definition.name.to_string(), Arc::new(table)));
            *shared.tables.write().expect("no panic holds the tables") = named.collect();
            Ok(changed)
        })();
        if changed.is_err() {
            self.start_over();
        }
        changed
    }
}

fn execute(connection: &Connection, sql: &str) -> rusqlite::Result<()> {
    connection.prepare_cached(sql)?.execute([]).map(drop)
}

fn answer(waiting: Vec<Waiting>, outcomes: Vec<Outcome>) {
    let answered = waiting.into_iter().zip(outcomes).map(|((commit, answer), outcome)| {
        // Whoever asked may have gone; the commit has happened all the same.
        let _ = answer.send(outcome);
        commit
    });
    // Freed once everybody has his answer.
    drop(answered.collect::<Vec<_>>());
}

fn answer_all(waiting: Vec<Waiting>, error: rusqlite::Error) {
    let error = Arc::new(error);
    let outcomes = waiting.iter().map(|_| Err(unavailable(Arc::clone(&error)))).collect();
    answer(waiting, outcomes);
}

/// Whether every commit would meet the same error.
fn concerns_all(error: &rusqlite::Error) -> bool {
    use rusqlite::ErrorCode::{
        DatabaseBusy, DatabaseCorrupt, DatabaseLocked, DiskFull, OutOfMemory, ReadOnly, SystemIoFailure,
    };
    error.sqlite_error_code().is_some_and(|code| {
        matches!(
            code,
            DatabaseBusy
                | DatabaseCorrupt
                | DatabaseLocked
                | DiskFull
                | OutOfMemory
                | ReadOnly
                | SystemIoFailure
        )
    })
}
