//! The one writer of a process: takes all commits that wait, checks and writes them together, answers each.

mod asking;
mod change;
mod decision;
mod doubt;
mod flight;
mod group;
mod heads;
mod lean;
mod lone;
mod settle;
mod waiting;
mod write;

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use purlin::message::Clock;
use purlin::store::{Commit, CommitError, Committed, WriteKind};
use tokio::sync::{mpsc, oneshot, watch};

use crate::error::{Away, concerns_all, is_lost, is_of_a_standby, is_of_the_values, said, unavailable};
use crate::link::{Link, Session, State};
use crate::names::log_lock;
use crate::options::Options;
use crate::schema::FORMAT;
use crate::shared::Shared;
use change::{RETRY, is_held_up};
use doubt::Doubt;
use flight::Flight;
use group::Failed;
use heads::Heads;
use lean::Lean;
use settle::Lost;
use waiting::Waiting;

/// What the writer is asked to do.
#[expect(
    clippy::large_enum_variant,
    reason = "nearly all jobs are commits, and a box each would cost them an allocation"
)]
pub(crate) enum Job {
    Commit(Queued),
    Close(oneshot::Sender<()>),
}

/// A commit that waits, and whom to answer.
pub(crate) struct Queued {
    pub(crate) commit: Commit,
    /// About how much memory it holds.
    pub(crate) bytes: usize,
    pub(crate) since: Instant,
    pub(crate) answer: oneshot::Sender<Outcome>,
}

impl Queued {
    /// Whether it has to be alone.
    fn changes_collections(&self) -> bool {
        !self.commit.changes.is_empty()
    }
}

/// What a caller is told.
pub(crate) type Outcome = Result<Committed, CommitError>;

/// About how much memory a commit holds.
pub(crate) fn weigh(commit: &Commit) -> usize {
    const ITEM: usize = 256;
    let events = commit.appends.iter().flat_map(|append| &append.events);
    let events: usize = events.map(|event| ITEM + event.data.len()).sum();
    let records = commit.writes.iter().map(|write| match &write.kind {
        WriteKind::Put { value, .. } => ITEM + write.key.len() + value.len(),
        WriteKind::Delete => ITEM + write.key.len(),
    });
    events + records.sum::<usize>() + (commit.requirements.len() + commit.changes.len()) * ITEM
}

/// The writer. Whatever it keeps in mind, the server is asked under the log's lock whether it is still so.
pub(crate) struct Writer {
    shared: Arc<Shared>,
    link: Link,
    waiting: Waiting,
    notify: watch::Sender<()>,
    clock: Clock,
    sql: Rc<Statements>,
    heads: Rc<RefCell<Heads>>,
    lean: Option<Lean>,
    flights: VecDeque<Flight>,
    doubt: Doubt,
    /// The number of the last transaction that was sent.
    batch: i64,
    /// That of the last one that is known to have happened, and the last revision that was seen to be.
    landed: i64,
    revision: u64,
    /// The rows of earlier ones are gone.
    swept: i64,
    /// From this number on, the rows of writers that are gone are removed.
    dead_at: i64,
    /// What may have happened or not, and never can be found out.
    undecided: Vec<Job>,
}

/// The statements of a group that do not depend on a collection.
struct Statements {
    begin: String,
    last: String,
    heads: String,
    events: String,
    tags: String,
    excluded: String,
    batch: String,
    sweep: String,
    sweep_dead: String,
    tombstone: String,
    latest_of_others: String,
    lean_function: String,
}

impl Statements {
    fn new(shared: &Shared, patience: Duration) -> Self {
        let schema = &shared.schema;
        let (event, batch) = (schema.table("_hot"), schema.table("_batch"));
        let (lock, timeout) = (log_lock(shared.id.log), patience.as_millis().clamp(1, 3_600_000));
        Self {
            // Each statement behind the lock has a snapshot of its own, which is what READ COMMITTED means.
            begin: format!(
                "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE; SET LOCAL lock_timeout = {timeout}; \
                 SELECT pg_advisory_xact_lock({lock})"
            ),
            last: crate::schema::last_sql(schema),
            heads: format!(
                "SELECT (SELECT max(e.version) FROM {event} AS e WHERE {}) \
                 FROM unnest($1::text[]) WITH ORDINALITY AS u(s, n) ORDER BY n",
                schema.of_stream("e", "u.s")
            ),
            events: format!(
                "INSERT INTO {event}(position, stream, version, kind, id, at, schema, public, meta, data) \
                 SELECT $1::bigint + n, s, v, k, i, a, c, p, m, d FROM unnest(\
                 $3::text[], $4::bigint[], $5::text[], $6::uuid[], $2::bigint[], $7::integer[], $8::boolean[], $9::bytea[], $10::text[]\
                 ) WITH ORDINALITY AS u(s, v, k, i, a, c, p, m, d, n) \
                 WHERE EXISTS (SELECT FROM {batch} WHERE writer = $11 AND batch = $12 AND revision > 0)"
            ),
            tags: crate::tag::insert_sql(schema),
            excluded: crate::tag::excluded_sql(schema),
            batch: format!(
                "INSERT INTO {batch}(writer, batch, at, revision, format) VALUES($1, $2, $3, $4, {FORMAT})"
            ),
            sweep: format!("DELETE FROM {batch} WHERE writer = $1 AND batch >= $2 AND batch < $3"),
            sweep_dead: format!(
                "DELETE FROM {batch} WHERE at < $1 AND writer <> $2 AND revision < (SELECT max(revision) FROM {batch})"
            ),
            tombstone: format!(
                "INSERT INTO {batch} AS b (writer, batch, at, revision, format) VALUES($1, $2, $3, $4, {FORMAT}) \
                 ON CONFLICT (writer, batch) DO UPDATE SET at = b.at RETURNING b.revision"
            ),
            latest_of_others: format!("SELECT max(at) FROM {batch} WHERE writer <> $1"),
            lean_function: lean::function(shared, lock, timeout),
        }
    }
}

impl Writer {
    pub(crate) fn new(
        shared: Arc<Shared>,
        link: Link,
        queue: mpsc::Receiver<Job>,
        notify: watch::Sender<()>,
        options: &Options,
    ) -> Self {
        let sql = Statements::new(&shared, options.patience);
        let waiting = Waiting::new(queue, Arc::clone(&shared), link.clone(), options.patience);
        Self {
            shared,
            link,
            waiting,
            notify,
            clock: options.clock.clone(),
            sql: Rc::new(sql),
            heads: Rc::default(),
            lean: None,
            flights: VecDeque::new(),
            doubt: Doubt::default(),
            batch: 0,
            landed: 0,
            revision: 0,
            swept: 0,
            dead_at: 0,
            undecided: Vec::new(),
        }
    }

    /// Serves until the store is closed, and gives whom to tell; or until its last handle is gone.
    pub(crate) async fn serve(mut self) -> Vec<oneshot::Sender<()>> {
        while self.attend().await {
            let session = match self.flying() {
                Some(session) => Some(session),
                None => self.session().await,
            };
            let Some(session) = session else {
                self.waiting.refuse_all();
                break;
            };
            let group = self.waiting.take();
            if !group.is_empty() {
                self.depart(&session, group).await;
            }
        }
        // To be told that the store is closed would be to be told that nothing was applied.
        std::mem::take(&mut self.undecided).leak();
        self.waiting.closing()
    }

    /// The session, once there is one; none when the store is to be closed before. Whoever waits too long is refused
    /// meanwhile: nothing of theirs was sent.
    async fn session(&mut self) -> Option<Arc<Session>> {
        loop {
            let up = |state: &State| matches!(state, State::Up(session) if !session.is_gone());
            let mut link = self.link.clone();
            let waited = async {
                match link.wait_for(up).await.as_deref() {
                    Ok(State::Up(session)) => Some(Arc::clone(session)),
                    _ => None,
                }
            };
            match self.waiting.a_moment(waited).await {
                Some(session) => return session,
                None if self.waiting.is_closing() => return None,
                None => {}
            }
        }
    }

    /// A group happened.
    fn happened(&mut self, group: Vec<Queued>, done: group::Done) {
        if done.applied {
            self.landed = self.landed.max(done.batch);
        }
        self.revision = self.revision.max(done.revision);
        self.answer(group, done);
    }

    /// What surely did not happen and may yet is put back.
    async fn failed(&mut self, session: &Arc<Session>, group: Vec<Queued>, failed: Failed) {
        match failed {
            Failed::Stale => {
                // Whoever waits too long for what the collections are is refused: nothing of theirs was written.
                self.waiting.put_back(group, false);
                self.learn_collections(session).await;
            }
            // Nothing was written, and another connection may meet a server that takes it.
            Failed::NotSent(error) | Failed::Refused(error) if is_of_a_standby(&error) => {
                self.lose(session, &error);
                self.waiting.put_back(group, false);
            }
            Failed::NotSent(error) if is_lost(&error) => {
                self.lose(session, &error);
                self.waiting.put_back(group, false);
            }
            Failed::NotSent(error) | Failed::Refused(error)
                if is_held_up(&group, &error) && group[0].since.elapsed() < self.waiting.patience() =>
            {
                self.waiting.beside(Self::roll_back(session)).await;
                self.waiting.beside(tokio::time::sleep(RETRY)).await;
                self.waiting.put_back(group, false);
            }
            Failed::NotSent(error) | Failed::Refused(error) => {
                self.waiting.beside(Self::roll_back(session)).await;
                if group.len() == 1 || concerns_all(&error) {
                    Self::refuse(group, error);
                } else {
                    tracing::warn!(
                        error = said(&error),
                        commits = group.len(),
                        "a transaction failed; each commit is tried alone"
                    );
                    self.waiting.put_back(group, true);
                }
            }
            Failed::Unknown(done, error) => {
                self.lose(session, &error);
                let nobody = || group.iter().all(|queued| queued.answer.is_closed());
                match self.settle(Lost { batch: done.batch, at: done.at }, nobody).await {
                    Some(true) => {
                        if group.iter().any(Queued::changes_collections)
                            && let Some(session) = self.session().await
                        {
                            self.learn_collections(&session).await;
                        }
                        self.happened(group, *done);
                    }
                    Some(false) => self.waiting.put_back(group, false),
                    // Nobody is told of positions that may never come, nor that nothing was applied.
                    None => self.set_aside(group.into_iter().map(Job::Commit)),
                }
            }
        }
    }

    /// Keeps those waiting who cannot be told the truth, until they go.
    fn set_aside(&mut self, jobs: impl IntoIterator<Item = Job>) {
        self.undecided.extend(jobs);
        self.undecided.retain(|job| match job {
            Job::Commit(queued) => !queued.answer.is_closed(),
            Job::Close(_) => false,
        });
    }

    /// Tells each what became of its commit, and the others that there was one.
    fn answer(&mut self, group: Vec<Queued>, done: group::Done) {
        if done.applied {
            self.shared.committed(done.position, done.revision);
            self.notify.send_replace(());
        }
        for (queued, outcome) in group.into_iter().zip(done.outcomes) {
            // Whoever asked may have gone; the commit has happened all the same.
            let _ = queued.answer.send(outcome);
        }
    }

    /// Tells all that nothing of theirs was applied, and why.
    fn refuse(group: Vec<Queued>, error: tokio_postgres::Error) {
        let invalid = is_of_the_values(&error).then(|| said(&error));
        let error = Arc::new(error);
        for queued in group {
            let refused = match &invalid {
                Some(said) => CommitError::Invalid(said.clone()),
                None => unavailable(Arc::clone(&error)),
            };
            let _ = queued.answer.send(Err(refused));
        }
    }

    fn lose(&self, session: &Session, error: &tokio_postgres::Error) {
        tracing::warn!(
            error = said(error),
            "the connection was lost, or left, while something was committed"
        );
        session.discard();
    }

    /// Ends a transaction that failed.
    async fn roll_back(session: &Session) {
        if session.client.batch_execute("ROLLBACK").await.is_err() {
            session.discard();
        }
    }
}

/// Tells those who wait for it that the store is closed.
pub(crate) fn tell(closing: Vec<oneshot::Sender<()>>) {
    for answer in closing {
        let _ = answer.send(());
    }
}

/// What is said to those who waited too long.
fn away() -> CommitError {
    unavailable(Away)
}
