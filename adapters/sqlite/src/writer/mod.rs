//! The one writer: takes all commits that wait, checks, applies and syncs them together, answers each.

mod answers;
mod archive;
mod batch;
mod collections;
mod erasure;
mod heads;
mod ready;
mod recovery;
mod upkeep;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use tokio::sync::{mpsc, oneshot};

use purlin::message::{Clock, Timestamp};
use purlin::store::personal::KEYS;
use purlin::store::{CommitError, Committed, Position};
use rusqlite::{Connection, Row};

use crate::archive::Cold;
use crate::checkpoint::Checkpointer;
use crate::codec::{Seen, WITHOUT_DATA, select, signed};
use crate::collection;
use crate::engine::{Options, Shared};
use crate::index::merge::Upkeep;
use crate::lock::Lock;
use crate::schema;
use crate::synchronous::Synchronous;
use answers::Answers;
use batch::{Applied, Batch};
use erasure::Secrets;
use heads::Heads;
pub(crate) use ready::Ready;
use recovery::{Failed, Unknown, concerns_all};

/// Commits that are applied and synced together at the most.
const BATCH: usize = 2048;

/// Events and records after which a transaction takes no further commit. The cache of heads holds twice as many
/// streams, so that no head that a transaction staged can be forgotten before it is committed.
const ITEMS: usize = 4 * BATCH;

/// Bytes after which a transaction takes no further commit.
const BYTES: usize = 8 << 20;

/// What the writer is asked to do.
#[expect(
    clippy::large_enum_variant,
    reason = "nearly all jobs are commits, and a box each would cost them an allocation"
)]
pub(crate) enum Job {
    Commit(Queued),
    /// Takes events out of the store's file that are durable in its archive.
    Forget(Vec<u64>, oneshot::Sender<Result<(), CommitError>>),
    /// The index may be damaged.
    Mend,
    Close(oneshot::Sender<Closing>),
}

/// How a store closes.
pub(crate) enum Closing {
    /// All that was taken is finished, and the file is closed.
    Done,
    /// The disk does not let the writer find out what became of a COMMIT. It goes on trying as long as the process
    /// lives, and the next opening finds what is true.
    Unwell,
}

/// A commit that waits, and whom to answer.
pub(crate) struct Queued {
    pub(crate) ready: Ready,
    pub(crate) answer: oneshot::Sender<Answer>,
}

/// What a caller gets: the outcome, and what he sent.
pub(crate) struct Answer {
    pub(crate) outcome: Outcome,
    _sent: Ready,
}

/// What a caller is told.
pub(crate) type Outcome = Result<Committed, CommitError>;

/// The state of the writing thread. All of it but the connection can be read from the file again.
pub(crate) struct Writer {
    connection: Connection,
    cold: Cold,
    shared: Arc<Shared>,
    queue: mpsc::Receiver<Job>,
    /// What was taken out of the queue and not begun.
    taken: VecDeque<Job>,
    answers: Answers,
    checkpointer: Checkpointer,
    clock: Clock,
    heads: Heads,
    upkeep: Upkeep,
    /// The last event's.
    position: u64,
    last: Timestamp,
    at: Timestamp,
    revision: u64,
    /// So many events in the tail of the index become a run.
    run: usize,
    /// As `run`, or more after a run could not be written.
    seal_at: usize,
    /// Events and records that were committed since a slice of the upkeep.
    since_upkeep: usize,
    /// After it failed, the upkeep of the index rests until then.
    upkeep_after: Option<Instant>,
    /// There may be rows of collections that were removed.
    gone: bool,
    synchronous: Synchronous,
    /// After it failed, or met a reader that would not end, the cutting of a long WAL rests until then.
    cut_after: Option<Instant>,
    /// The log may still have a key that was destroyed: it is to be cut, but not before this.
    erase_after: Option<Instant>,
    _lock: Lock,
}

/// A panic in the writer may have come after a COMMIT: whoever waits must not be told that nothing happened. The
/// process ends as if it was killed, and its next life finds what is true.
pub(crate) struct EndOnPanic;

impl Drop for EndOnPanic {
    fn drop(&mut self) {
        if std::thread::panicking() {
            tracing::error!(
                "the store's writer met a bug; the process ends so that nobody is told what is not true"
            );
            std::process::abort();
        }
    }
}

impl Queued {
    /// Whether it has to be alone in its transaction.
    fn changes_collections(&self) -> bool {
        !self.ready.commit.changes.is_empty()
    }

    /// Answers the caller. If he has gone, the commit has happened all the same, if it has.
    fn tell(self, outcome: Outcome) {
        let Self { ready, answer } = self;
        let _ = answer.send(Answer { outcome, _sent: ready });
    }
}

impl Writer {
    /// Reads what the writer must know.
    pub(crate) fn open(
        connection: Connection,
        shared: Arc<Shared>,
        lock: Lock,
        queue: mpsc::Receiver<Job>,
        options: &Options,
    ) -> rusqlite::Result<Self> {
        let checkpointer = Checkpointer::start(&shared.file, options.synchronous)?;
        let mut writer = Self {
            connection,
            cold: Cold::new(Arc::clone(&shared.archive)),
            shared,
            queue,
            taken: VecDeque::new(),
            answers: Answers::start(),
            checkpointer,
            clock: options.clock.clone(),
            heads: Heads::new(options.heads),
            upkeep: Upkeep::default(),
            position: 0,
            last: Timestamp::UNIX_EPOCH,
            at: Timestamp::UNIX_EPOCH,
            revision: 0,
            run: options.run.max(1),
            seal_at: 0,
            since_upkeep: 0,
            upkeep_after: None,
            gone: true,
            synchronous: options.synchronous,
            cut_after: None,
            erase_after: None,
            _lock: lock,
        };
        writer.load()?;
        let tables = writer.shared.tables.read().expect("no panic holds the tables");
        // An earlier life may have ended before the log was cut.
        let keys = tables.contains_key(KEYS);
        drop(tables);
        writer.erase_after = keys.then(Instant::now);
        Ok(writer)
    }

    /// Forgets all that is in memory and reads it from the file.
    fn load(&mut self) -> rusqlite::Result<()> {
        let (upkeep, index) = self.load_index()?;
        let connection = &self.connection;
        let head = index.head_position();
        let older = self.shared.older;
        let which = "WHERE position > ?1 ORDER BY position DESC LIMIT 1";
        let last = select(older.shape(head), WITHOUT_DATA, which);
        let at = |row: &Row<'_>| Ok(Seen::read(row, older)?.at);
        // What a damaged event says of the time is no reason to refuse the others.
        let at = connection.query_row(&last, [signed(head.saturating_sub(1))], at).unwrap_or_default();
        let tables = collection::load_all(connection)?;
        self.revision = self.revision.max(schema::revision(connection)?);
        self.position = head;
        self.last = Timestamp::from_microsecond(at).unwrap_or_default();
        self.at = self.at.max(self.last);
        self.upkeep = upkeep;
        self.heads.clear();
        self.seal_at = self.run;
        self.shared.replace_tables(tables);
        let mut known = self.shared.index.write().expect("no panic holds the index");
        if known.take_suspicion() {
            index.suspect();
        }
        *known = index;
        drop(known);
        self.shared.head.send_replace(Position(head));
        Ok(())
    }

    /// Serves until the queue closes.
    pub(crate) fn serve(mut self) {
        loop {
            if self.queue.is_empty() && !self.queue.is_closed() && self.keep_up() {
                continue;
            }
            if !self.take() {
                return self.finish();
            }
            while let Some(job) = self.taken.pop_front() {
                match job {
                    Job::Commit(first) => {
                        let group = self.group(first);
                        self.commit(group);
                    }
                    Job::Close(answer) => {
                        self.finish();
                        // Everything that follows is refused: the queue is dropped with this.
                        drop(self);
                        let _ = answer.send(Closing::Done);
                        return;
                    }
                    Job::Forget(positions, answer) => {
                        let _ = answer.send(self.forget(&positions));
                    }
                    Job::Mend => self.mend_index(),
                }
            }
            self.after_commits();
        }
    }

    /// Waits for jobs and takes those that are there; false once there will be none.
    fn take(&mut self) -> bool {
        let mut jobs = Vec::from(std::mem::take(&mut self.taken));
        jobs.reserve(BATCH);
        let any = self.queue.blocking_recv_many(&mut jobs, BATCH) > 0;
        self.taken = VecDeque::from(jobs);
        any
    }

    /// A commit, and those behind it that go into its transaction.
    fn group(&mut self, first: Queued) -> Vec<Queued> {
        // What comes behind a change meets other collections.
        let is_alone = first.changes_collections();
        let (mut items, mut bytes) = (first.ready.items, first.ready.bytes);
        let mut group = Vec::with_capacity(if is_alone { 1 } else { 1 + self.taken.len() });
        group.push(first);
        while !is_alone && items < ITEMS && bytes < BYTES {
            match self.taken.pop_front() {
                Some(Job::Commit(queued)) if !queued.changes_collections() => {
                    items += queued.ready.items;
                    bytes += queued.ready.bytes;
                    group.push(queued);
                }
                Some(other) => {
                    self.taken.push_front(other);
                    break;
                }
                None => break,
            }
        }
        group
    }

    /// Commits all together; if that fails, each alone, so that one cannot spoil the others.
    fn commit(&mut self, waiting: Vec<Queued>) {
        self.shared.took(waiting.iter().map(|queued| queued.ready.bytes).sum());
        self.since_upkeep += waiting.iter().map(|queued| queued.ready.items).sum::<usize>();
        self.commit_taken(waiting);
    }

    fn commit_taken(&mut self, waiting: Vec<Queued>) {
        // Dropped before those who wait, who would else hear that nothing happened.
        let _end = EndOnPanic;
        match self.transact(&waiting) {
            Ok(outcomes) => self.give(waiting, outcomes),
            // Nothing was applied, and that is sure: whoever waits need not wait for the store to be well again.
            Err(Failed::RolledBack(error)) if waiting.len() == 1 || concerns_all(&error) => {
                self.answers.refuse(waiting, error);
                self.start_over();
            }
            Err(Failed::RolledBack(error)) => {
                tracing::warn!(%error, commits = waiting.len(), "a transaction failed; each commit is tried alone");
                self.start_over();
                waiting.into_iter().for_each(|alone| self.commit_taken(vec![alone]));
            }
            Err(Failed::Unknown(unknown)) => match self.settle(*unknown) {
                Ok(outcomes) => self.give(waiting, outcomes),
                Err(error) => self.answers.refuse(waiting, error),
            },
        }
    }

    /// Answers each with what became of his commit.
    fn give(&mut self, waiting: Vec<Queued>, outcomes: Vec<Outcome>) {
        for (queued, outcome) in waiting.iter().zip(&outcomes) {
            let commit = &queued.ready.commit;
            if outcome.is_ok() && !commit.changes.is_empty() {
                self.gone = true;
                collections::carry_over(commit, self.shared.damage());
            }
        }
        self.answers.give(waiting, outcomes);
    }

    fn transact(&mut self, waiting: &[Queued]) -> Result<Vec<Outcome>, Failed<Vec<Outcome>>> {
        self.at = self.at.max(self.clock.now()).max(self.last);
        let secrets = Secrets::of(waiting.iter().map(|queued| &queued.ready.commit));
        if secrets != Secrets::Untouched {
            self.overwrite(true).map_err(Failed::RolledBack)?;
        }
        let (connection, shared) = (&self.connection, Arc::clone(&self.shared));
        let index = shared.index.read().expect("no panic holds the index");
        let tables = shared.tables.read().expect("no panic holds the tables");
        execute(connection, "BEGIN IMMEDIATE").map_err(Failed::RolledBack)?;
        let state = (self.position, self.revision, self.at, self.last);
        let mut batch = Batch::new(connection, &shared, (&index, &tables), &mut self.heads, state)
            .map_err(Failed::RolledBack)?;
        let mut outcomes = Vec::with_capacity(waiting.len());
        batch.prepare(waiting);
        for queued in waiting {
            outcomes.push(batch.apply(&queued.ready).map_err(Failed::RolledBack)?);
        }
        let Applied { position, last, revision, appended, tables: changed, trace } =
            batch.finish().map_err(Failed::RolledBack)?;
        drop((index, tables));
        // Whatever comes of it: a revision that was given out once is not given out again.
        self.revision = revision;
        if let Err(error) = execute(connection, "COMMIT") {
            return Err(Failed::Unknown(Box::new(Unknown { trace, outcome: outcomes, error })));
        }
        (self.position, self.last) = (position, last);
        if let Some(tables) = changed {
            shared.replace_tables(tables);
        }
        if !appended.is_empty() {
            let mut index = shared.index.write().expect("no panic holds the index");
            for (key, version, position) in appended {
                index.tail.push(key, version, position);
            }
        }
        shared.head.send_replace(Position(position));
        if secrets == Secrets::Destroyed {
            self.erase();
        }
        if secrets != Secrets::Untouched
            && let Err(error) = self.overwrite(false)
        {
            tracing::warn!(%error, "SQLite goes on to overwrite whatever it deletes");
        }
        Ok(outcomes)
    }
}

fn execute(connection: &Connection, sql: &str) -> rusqlite::Result<()> {
    connection.prepare_cached(sql)?.execute([]).map(drop)
}
