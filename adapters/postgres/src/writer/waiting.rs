//! Those who wait for the writer, in the order in which they came.

use std::collections::VecDeque;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use purlin::store::CommitError;
use tokio::sync::{mpsc, oneshot};

use super::{Job, Queued, away};
use crate::error::{Closed, unavailable};
use crate::link::{Link, State};
use crate::shared::Shared;

/// Commits that are written together at the most.
const GROUP: usize = 1024;

/// Events and records after which a group takes no further commit.
const ITEMS: usize = 8 * GROUP;

/// Bytes after which a group takes no further commit.
const BYTES: usize = 8 << 20;

/// How often one looks who waited too long.
const MOMENT: Duration = Duration::from_millis(100);

/// The queue, and what was taken out of it and waits still.
pub(super) struct Waiting {
    queue: mpsc::Receiver<Job>,
    jobs: VecDeque<Job>,
    /// So many at the front are tried alone: one of them spoiled a group.
    alone: usize,
    shared: Arc<Shared>,
    link: Link,
    patience: Duration,
    ending: bool,
    closing: Vec<(oneshot::Sender<()>, Instant)>,
}

impl Waiting {
    pub(super) fn new(
        queue: mpsc::Receiver<Job>,
        shared: Arc<Shared>,
        link: Link,
        patience: Duration,
    ) -> Self {
        Self {
            queue,
            jobs: VecDeque::new(),
            alone: 0,
            shared,
            link,
            patience,
            ending: false,
            closing: Vec::new(),
        }
    }

    /// Waits until there is something to do; false when there will never be.
    pub(super) async fn arrive(&mut self) -> bool {
        while self.jobs.is_empty() && !self.ending {
            match self.queue.recv().await {
                Some(job) => self.take_in(job),
                None => self.ending = true,
            }
        }
        self.take_in_all();
        !self.jobs.is_empty()
    }

    /// Waits, at most for a moment, until work is done (true), or until so many commits wait that others may follow what
    /// is under way (false); without a number nobody may.
    pub(super) async fn gather_beside(
        &mut self,
        work: impl Future<Output = ()>,
        enough: Option<usize>,
    ) -> Option<bool> {
        let moment = tokio::time::timeout(MOMENT, async {
            tokio::select! {
                biased;
                () = work => true,
                () = self.gather(enough) => false,
            }
        });
        let next = moment.await.ok();
        if next.is_none() {
            self.look();
        }
        next
    }

    /// Waits until so many commits wait; what spoiled a group, or changes collections, follows nothing.
    async fn gather(&mut self, enough: Option<usize>) {
        let Some(enough) = enough.filter(|_| self.alone == 0) else { return std::future::pending().await };
        self.take_in_all();
        while !self.ending && self.jobs.len() < enough {
            match self.queue.recv().await {
                Some(job) => self.take_in(job),
                None => self.ending = true,
            }
        }
        let follows = |job: &Job| matches!(job, Job::Commit(queued) if !queued.changes_collections());
        if self.ending || !self.jobs.front().is_some_and(follows) {
            std::future::pending::<()>().await;
        }
    }

    fn take_in_all(&mut self) {
        while let Ok(job) = self.queue.try_recv() {
            self.take_in(job);
        }
    }

    fn take_in(&mut self, job: Job) {
        match job {
            Job::Close(answer) => {
                self.queue.close();
                self.ending = true;
                self.closing.push((answer, Instant::now()));
            }
            // It was in the queue before that was closed, but behind who closes the store.
            behind if self.ending => self.refuse(behind, unavailable(Closed)),
            job => self.jobs.push_back(job),
        }
    }

    /// The commits at the front that fit into a group; one that changes collections is alone in it.
    pub(super) fn take(&mut self) -> Vec<Queued> {
        let mut group = Vec::new();
        let (mut items, mut bytes) = (0, 0);
        while group.len() < GROUP && items < ITEMS && bytes < BYTES {
            match self.jobs.pop_front() {
                Some(Job::Commit(queued)) if !queued.changes_collections() || group.is_empty() => {
                    let commit = &queued.commit;
                    items += commit.event_count() + commit.writes.len() + commit.requirements.len();
                    bytes += queued.bytes;
                    self.shared.took(queued.bytes);
                    let alone = self.alone > 0 || queued.changes_collections();
                    group.push(queued);
                    if alone {
                        self.alone = self.alone.saturating_sub(1);
                        break;
                    }
                }
                Some(other) => {
                    self.jobs.push_front(other);
                    break;
                }
                None => break,
            }
        }
        group
    }

    /// Lets commits that did not happen wait again, before all others.
    pub(super) fn put_back(&mut self, group: Vec<Queued>, alone: bool) {
        self.alone = if alone { group.len() } else { self.alone };
        for queued in group.into_iter().rev() {
            self.shared.waits(queued.bytes);
            self.jobs.push_front(Job::Commit(queued));
        }
        self.look();
    }

    /// Works at something, at most for a moment; then whoever waited too long is refused.
    pub(super) async fn a_moment<T>(&mut self, work: impl Future<Output = T>) -> Option<T> {
        let done = tokio::time::timeout(MOMENT, work).await.ok();
        if done.is_none() {
            self.look();
        }
        done
    }

    /// Works at something; whoever waits too long meanwhile is refused.
    pub(super) async fn beside<T>(&mut self, work: impl Future<Output = T>) -> T {
        let mut work = pin!(work);
        loop {
            if let Some(done) = self.a_moment(work.as_mut()).await {
                return done;
            }
        }
    }

    /// Refuses who waited too long. Who closes the store is not held up longer than that either: what is under way is
    /// given up, as if its connection was lost.
    fn look(&mut self) {
        self.take_in_all();
        if self.is_late()
            && let State::Up(session) = &*self.link.borrow()
        {
            session.discard();
        }
        let now = Instant::now();
        let late = |job: &Job| match job {
            Job::Commit(Queued { since, .. }) => now - *since > self.patience,
            Job::Close(_) => false,
        };
        while self.jobs.front().is_some_and(late)
            && let Some(job) = self.jobs.pop_front()
        {
            self.alone = self.alone.saturating_sub(1);
            self.refuse(job, away());
        }
    }

    /// Refuses all who wait.
    pub(super) fn refuse_all(&mut self) {
        self.take_in_all();
        while let Some(job) = self.jobs.pop_front() {
            self.refuse(job, unavailable(Closed));
        }
    }

    fn refuse(&self, job: Job, error: CommitError) {
        match job {
            Job::Commit(queued) => {
                self.shared.took(queued.bytes);
                let _ = queued.answer.send(Err(error));
            }
            Job::Close(_) => {}
        }
    }

    /// How long one waits at the most for a server that is away.
    pub(super) fn patience(&self) -> Duration {
        self.patience
    }

    /// Whether somebody waits for the store to be closed, or nobody has it any more.
    pub(super) fn is_closing(&self) -> bool {
        self.ending
    }

    /// Whether who closes the store has waited longer than one waits for a server.
    pub(super) fn is_late(&self) -> bool {
        self.closing.first().is_some_and(|(_, since)| since.elapsed() > self.patience)
    }

    /// Those who wait for the store to be closed.
    pub(super) fn closing(&mut self) -> Vec<oneshot::Sender<()>> {
        self.closing.drain(..).map(|(answer, _)| answer).collect()
    }
}

#[cfg(test)]
mod tests {
    use purlin::message::new_id;
    use purlin::store::{Commit, LogId};
    use tokio::sync::watch;

    use super::super::Outcome;
    use super::*;
    use crate::names::Schema;

    fn commit(shared: &Shared) -> (Job, oneshot::Receiver<Outcome>) {
        let (answer, answered) = oneshot::channel();
        assert!(shared.admits(1));
        let queued = Queued { commit: Commit::new(), bytes: 1, since: Instant::now(), answer };
        (Job::Commit(queued), answered)
    }

    #[tokio::test]
    async fn what_is_queued_behind_who_closes_the_store_is_answered_at_once() {
        let shared = Shared::new(LogId::new(), Schema::new("any").unwrap(), new_id(), (10, 100));
        let ((_state, link), (jobs, queue)) = (watch::channel(State::Waiting), mpsc::channel(8));
        let shared = Arc::new(shared);
        let mut waiting = Waiting::new(queue, Arc::clone(&shared), link, Duration::from_secs(60));
        let ((before, mut taken), (behind, mut refused)) = (commit(&shared), commit(&shared));
        let ((one, mut first), (other, mut second)) = (oneshot::channel(), oneshot::channel());
        for job in [before, Job::Close(one), behind, Job::Close(other)] {
            jobs.try_send(job).ok().unwrap();
        }
        assert!(waiting.arrive().await);
        assert!(matches!(refused.try_recv(), Ok(Err(CommitError::Unavailable(_)))));
        assert!(taken.try_recv().is_err() && first.try_recv().is_err() && second.try_recv().is_err());
        assert_eq!(waiting.take().len(), 1);
        assert!(shared.admits(100), "nobody else waits");
        waiting.closing().into_iter().for_each(|closing| closing.send(()).unwrap());
        assert!(first.await.is_ok() && second.await.is_ok());
    }
}
