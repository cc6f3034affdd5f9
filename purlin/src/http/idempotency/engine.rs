//! The IO around the machine: claims a key, keeps its lease while the request is worked on, settles it.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::OnceCell;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::message::{Clock, Timestamp};
use crate::resilience::{DeadlineExceeded, deadline};
use crate::store::{Commit, CommitError, Position, ReadError, Revision, Row, Store};

use super::attempt::{Attempt, id_of};
use super::entry::{Answer, Entry, State};
use super::machine::{Asked, Claim, KeyState};
use super::secret::{Secret, SecretError, hex};

/// How long a worker that says nothing keeps its key.
const LEASE: Duration = Duration::from_secs(5);

/// How long a key is remembered.
const KEEP: Duration = Duration::from_secs(25 * 60 * 60);

/// How often a request is decided anew when its commit meets a conflict.
pub(super) const TRIES: u32 = 20;

/// How often the keys whose time is over are deleted.
const SWEEP_EVERY: Duration = Duration::from_secs(60);

/// Gives every request with a key one effect and one answer. Cheap to clone; make one for a store.
#[derive(Clone)]
pub struct Idempotency {
    pub(super) store: Store,
    clock: Clock,
    holder: Uuid,
    sole: bool,
    secret: Arc<OnceCell<Secret>>,
}

impl Idempotency {
    /// Keys that are remembered in a store, together with the effects of their requests.
    pub fn new(store: &Store, clock: Clock) -> Self {
        let (store, holder, secret) = (store.clone(), Uuid::new_v4(), Arc::default());
        Self { store, clock, holder, sole: false, secret }
    }

    /// Says that this handle and its clones alone use the store, as when an engine locks it for one process: what
    /// another handle had in hand died with it, and its keys are free at once instead of after five seconds.
    pub fn sole(mut self) -> Self {
        self.sole = true;
        self
    }

    /// Deletes keys whose time is over, until told to stop. It fails when the store does; run it supervised.
    pub async fn sweeper(self, shutdown: CancellationToken) -> Result<(), SweepError> {
        self.secret().await.map_err(|_| SweepError::NotReady)?;
        loop {
            let now = self.clock.now();
            loop {
                match self.store.sweep::<Entry>(now).await {
                    Ok(0) => break,
                    // A key that was taken up again just now is for the next time.
                    Ok(_) | Err(CommitError::Conflict(_)) if shutdown.is_cancelled() => return Ok(()),
                    Ok(_) => {}
                    Err(CommitError::Conflict(_)) => break,
                    Err(error) => return Err(SweepError::Commit(error)),
                }
            }
            tokio::select! {
                () = shutdown.cancelled() => return Ok(()),
                () = tokio::time::sleep(SWEEP_EVERY) => {}
            }
        }
    }

    /// The record's key, and the hashes that belong to a request.
    pub(super) async fn ticket<'a>(
        &self,
        caller: &str,
        key: &str,
        content: impl IntoIterator<Item = &'a [u8]>,
    ) -> Result<Ticket, SecretError> {
        let secret = self.secret().await?;
        let content: Vec<&[u8]> = std::iter::once(&b"content"[..]).chain(content).collect();
        Ok(Ticket {
            record: hex(&secret.hash(&[b"key", caller.as_bytes(), key.as_bytes()])),
            id_bits: secret.hash(&[b"id", caller.as_bytes(), key.as_bytes()]),
            fingerprint: hex(&secret.hash(&content)),
        })
    }

    /// What is remembered of the key, whichever request it stands for.
    pub(super) async fn state(&self, ticket: &Ticket) -> Result<KeyState, ReadError> {
        let found = self.store.get::<Entry>(&ticket.record).await?;
        Ok(self.asked(ticket).state(found))
    }

    /// Claims, works, settles.
    pub(super) async fn settle<E, F, Fut>(
        &self,
        ticket: &Ticket,
        verb: Verb,
        work: F,
    ) -> Result<Settled, Unsettled<E>>
    where
        F: Fn(Attempt, Option<Answer>) -> Fut,
        Fut: Future<Output = Result<(Commit, Answer), E>>,
    {
        let mut hold = match self.claim(ticket, verb).await? {
            Claimed::Hold(hold) => hold,
            Claimed::Settled(settled) => return Ok(settled),
        };
        let id = id_of(hold.entry.started_at, &ticket.id_bits);
        for number in 1..=TRIES {
            let attempt = Attempt { id, number };
            let work = work(attempt, hold.undone_answer());
            let (commit, answer) = match self.hold_while(ticket, &mut hold, work).await {
                Held::Lost => return self.overtaken(ticket, verb).await,
                Held::Done(Ok(done)) => done,
                Held::Done(Err(error)) => {
                    self.give_up(ticket, hold).await;
                    return Err(Unsettled::Failed(error));
                }
                Held::TooLate => {
                    self.give_up(ticket, hold).await;
                    return Err(Unsettled::TooLate(DeadlineExceeded));
                }
            };
            let ended = hold.ended(answer.clone());
            match self.store.commit(self.put(commit, ticket, &ended, Revision::Exact(hold.epoch))).await {
                Ok(committed) => {
                    return Ok(Settled { answer, position: committed.position, replayed: false });
                }
                Err(CommitError::Conflict(conflict))
                    if conflict.is_record(Entry::COLLECTION, &ticket.record) =>
                {
                    return self.overtaken(ticket, verb).await;
                }
                Err(CommitError::Conflict(_)) => tokio::task::yield_now().await,
                Err(error) => {
                    self.give_up(ticket, hold).await;
                    return Err(Unsettled::Commit(error));
                }
            }
        }
        self.give_up(ticket, hold).await;
        Err(Unsettled::Contended)
    }

    async fn claim<E>(&self, ticket: &Ticket, verb: Verb) -> Result<Claimed, Unsettled<E>> {
        // Whoever loses the race for the record looks again, and finds it taken.
        for _ in 0..TRIES {
            let (found, claim) = self.look(ticket, verb).await?;
            let entry = match (claim, found) {
                (Claim::Take(entry), _) => entry,
                (Claim::Replay(answer), Some((_, position))) => {
                    return Ok(Claimed::Settled(Settled { answer, position, replayed: true }));
                }
                (Claim::Replay(_) | Claim::InProgress, _) => return Err(Unsettled::InProgress),
                (Claim::Reused, _) => return Err(Unsettled::Reused),
                (Claim::Undone, _) => return Err(Unsettled::Undone),
            };
            let expected = found.map_or(Revision::Absent, |(revision, _)| Revision::Exact(revision));
            match self.store.commit(self.put(Commit::new(), ticket, &entry, expected)).await {
                Ok(committed) => return Ok(Claimed::Hold(Hold { entry, epoch: committed.revision })),
                Err(CommitError::Conflict(_)) => {}
                Err(error) => return Err(Unsettled::Commit(error)),
            }
        }
        Err(Unsettled::InProgress)
    }

    /// What is remembered of the key (its revision and position), and what the request may therefore do.
    async fn look<E>(
        &self,
        ticket: &Ticket,
        verb: Verb,
    ) -> Result<(Option<(u64, Position)>, Claim), Unsettled<E>> {
        let record =
            self.store.get_record(Entry::COLLECTION, &ticket.record).await.map_err(Unsettled::Read)?;
        let found = record.as_ref().map(|record| (record.revision, record.position));
        let entry = record.map(|record| record.decode()).transpose().map_err(Unsettled::Read)?;
        let asked = self.asked(ticket);
        let claim = match verb {
            Verb::Do => asked.to_do(entry),
            Verb::Undo => asked.to_undo(entry),
        };
        Ok((found, claim))
    }

    /// Works until the deadline, and renews the lease meanwhile.
    async fn hold_while<F: Future>(&self, ticket: &Ticket, hold: &mut Hold, work: F) -> Held<F::Output> {
        let mut work = pin!(work);
        let mut deadline = pin!(deadline_passed());
        loop {
            tokio::select! {
                biased;
                output = &mut work => return Held::Done(output),
                () = &mut deadline => return Held::TooLate,
                () = tokio::time::sleep(LEASE / 3) => {}
            }
            let entry = hold.renewed(self.asked(ticket).new_lease());
            let renewal = self.put(Commit::new(), ticket, &entry, Revision::Exact(hold.epoch));
            match self.store.commit(renewal).await {
                Ok(committed) => *hold = Hold { entry, epoch: committed.revision },
                Err(CommitError::Conflict(_)) => return Held::Lost,
                // The lease stands as it was; the effect's commit will tell.
                Err(error) => tracing::warn!(%error, "a request's lease was not renewed"),
            }
        }
    }

    /// Somebody else took the key: their answer is ours.
    async fn overtaken<E>(&self, ticket: &Ticket, verb: Verb) -> Result<Settled, Unsettled<E>> {
        match self.look(ticket, verb).await? {
            (Some((_, position)), Claim::Replay(answer)) => Ok(Settled { answer, position, replayed: true }),
            (_, Claim::Undone) => Err(Unsettled::Undone),
            (_, Claim::Reused) => Err(Unsettled::Reused),
            (_, Claim::Take(_) | Claim::Replay(_) | Claim::InProgress) => Err(Unsettled::InProgress),
        }
    }

    /// Frees the key. If that fails, the lease runs out.
    async fn give_up(&self, ticket: &Ticket, hold: Hold) {
        let expected = Revision::Exact(hold.epoch);
        let entry = hold.freed(self.clock.now());
        if let Err(error) = self.store.commit(self.put(Commit::new(), ticket, &entry, expected)).await {
            tracing::debug!(%error, "a key was not freed; its lease runs out");
        }
    }

    fn put(&self, commit: Commit, ticket: &Ticket, entry: &Entry, expected: Revision) -> Commit {
        let due = self.clock.now().checked_add(KEEP).unwrap_or(Timestamp::MAX);
        commit.put_expecting(&ticket.record, entry, expected, Some(due))
    }

    fn asked<'a>(&self, ticket: &'a Ticket) -> Asked<'a> {
        let (now, holder, sole) = (self.clock.now(), self.holder, self.sole);
        Asked { fingerprint: &ticket.fingerprint, now, lease: LEASE, holder, sole }
    }

    async fn secret(&self) -> Result<&Secret, SecretError> {
        self.secret
            .get_or_try_init(async || {
                self.store.define::<Entry>().await?;
                Secret::of(&self.store).await
            })
            .await
    }
}

/// What a request wants with a key.
#[derive(Debug, Clone, Copy)]
pub(super) enum Verb {
    Do,
    Undo,
}

/// A request as its key sees it.
pub(super) struct Ticket {
    record: String,
    id_bits: [u8; 32],
    fingerprint: String,
}

/// A request that has its answer.
pub(super) struct Settled {
    pub(super) answer: Answer,
    pub(super) position: Position,
    pub(super) replayed: bool,
}

/// A request that has none.
pub(super) enum Unsettled<E> {
    Failed(E),
    InProgress,
    Reused,
    Undone,
    Contended,
    TooLate(DeadlineExceeded),
    Commit(CommitError),
    Read(ReadError),
}

/// How working under a lease ended.
enum Held<T> {
    Done(T),
    Lost,
    TooLate,
}

/// Ends with the running task's deadline; never when it has none.
async fn deadline_passed() {
    match deadline::current() {
        Some(deadline) => tokio::time::sleep_until(deadline.instant()).await,
        None => std::future::pending().await,
    }
}

enum Claimed {
    Hold(Hold),
    Settled(Settled),
}

/// A key that is ours: what we stored, and the revision that proves it.
struct Hold {
    entry: Entry,
    epoch: u64,
}

impl Hold {
    /// What an undo takes back.
    fn undone_answer(&self) -> Option<Answer> {
        match &self.entry.state {
            State::Undoing { answer, .. } => answer.clone(),
            _ => None,
        }
    }

    fn renewed(&self, lease: super::entry::Lease) -> Entry {
        let state = match &self.entry.state {
            State::Undoing { answer, .. } => State::Undoing { lease, answer: answer.clone() },
            _ => State::Running(lease),
        };
        Entry { state, ..self.entry.clone() }
    }

    fn ended(&self, answer: Answer) -> Entry {
        let state = match self.entry.state {
            State::Undoing { .. } => State::Undone(answer),
            _ => State::Answered(answer),
        };
        Entry { state, ..self.entry.clone() }
    }

    /// An undo that failed stays one, so that nothing is done in between; anyone may go on with it.
    fn freed(self, now: Timestamp) -> Entry {
        let state = match self.entry.state {
            State::Undoing { mut lease, answer } => {
                lease.until = now;
                State::Undoing { lease, answer }
            }
            _ => State::Free,
        };
        Entry { state, ..self.entry }
    }
}

/// Keys whose time is over could not be deleted.
#[derive(Debug, thiserror::Error)]
pub enum SweepError {
    /// The store could not be prepared.
    #[error("the store of the idempotency keys could not be prepared")]
    NotReady,
    /// The store refused.
    #[error("the keys whose time is over could not be deleted")]
    Commit(#[source] CommitError),
}
