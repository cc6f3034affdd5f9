//! Brings sagas into memory when they want to run, a bounded number of them, and lets each fail alone.

use std::collections::HashMap;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::store::{CommitError, Query, ReadError};

use super::desk::{Knock, Mailbox};
use super::record::{Request, SagaRow};
use super::writer::Stop;
use super::{SagaState, Sagas, loading};

/// How often the store is asked what is due.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How many due records are looked at a time, besides those in memory.
const PAGE: usize = 256;
/// How long a saga rests whose task ended by a fault that is not its own.
const REST: Duration = Duration::from_secs(10);

struct Scheduler<S> {
    sagas: Sagas<S>,
    shutdown: CancellationToken,
    tasks: JoinSet<(Uuid, Result<(), Stop>)>,
    /// Sagas that are not brought into memory before a time.
    resting: HashMap<Uuid, Instant>,
    /// There are more that want to run than memory has room for.
    backlog: bool,
}

pub(super) async fn run<S: Send + Sync + 'static>(
    sagas: Sagas<S>,
    shutdown: CancellationToken,
) -> Result<(), CommitError> {
    let desk = Arc::clone(&sagas.desk);
    let mut door = desk.door.lock().await;
    sagas.prepare().await?;
    let (tasks, resting) = (JoinSet::new(), HashMap::new());
    let mut scheduler = Scheduler { sagas, shutdown, tasks, resting, backlog: false };
    scheduler.work(&mut door).await;
    // Each task notices the shutdown between two commits.
    while let Some(joined) = scheduler.tasks.join_next().await {
        scheduler.over(joined);
    }
    scheduler.sagas.desk.live().clear();
    Ok(())
}

impl<S: Send + Sync + 'static> Scheduler<S> {
    async fn work(&mut self, door: &mut mpsc::Receiver<Knock>) {
        let shutdown = self.shutdown.clone();
        let mut looks = tokio::time::interval(LOOK_EVERY);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        self.log_failure(self.revive().await);
        loop {
            tokio::select! {
                biased;
                () = shutdown.cancelled() => return,
                Some(joined) = self.tasks.join_next() => self.over(joined),
                _ = looks.tick() => self.look().await,
                Some(knock) = door.recv() => self.answer(knock),
            }
            if self.backlog && self.room() > self.sagas.in_memory / 4 {
                self.look().await;
            }
        }
    }

    fn room(&self) -> usize {
        self.sagas.in_memory.saturating_sub(self.tasks.len())
    }

    /// A blocked saga may fit the functions that are deployed now: trying costs nothing and does nothing.
    async fn revive(&self) -> Result<(), ReadError> {
        let mut after = None;
        loop {
            let blocked = Query::all().and("state", SagaState::Blocked.as_str()).limit(PAGE).after(after);
            let page = self.sagas.store.list::<SagaRow>(blocked).await?;
            for id in page.records.iter().filter_map(|record| record.key.parse().ok()) {
                self.sagas.desk.knock(Knock::Heed(id));
            }
            after = page.next;
            if after.is_none() {
                return Ok(());
            }
        }
    }

    async fn look(&mut self) {
        self.backlog = false;
        let looked = self.look_at_sagas().await;
        self.log_failure(looked);
        let looked = self.look_at_requests().await;
        self.log_failure(looked);
    }

    async fn look_at_sagas(&mut self) -> Result<(), ReadError> {
        let now = self.sagas.clock.now();
        let limit = self.tasks.len() + PAGE;
        let due = self.sagas.store.due::<SagaRow>(now, limit).await?;
        self.backlog |= due.len() == limit;
        for id in due.iter().filter_map(|record| record.key.parse().ok()) {
            self.answer(Knock::Run(id));
        }
        Ok(())
    }

    async fn look_at_requests(&mut self) -> Result<(), ReadError> {
        let due = self.sagas.store.due::<Request>(self.sagas.clock.now(), PAGE).await?;
        for key in due.iter().filter_map(|record| record.key.split_once('/')) {
            if let Ok(id) = key.0.parse() {
                self.answer(Knock::Heed(id));
            }
        }
        Ok(())
    }

    fn answer(&mut self, knock: Knock) {
        let (id, heed) = match knock {
            Knock::Run(id) => (id, false),
            Knock::Heed(id) => (id, true),
        };
        if let Some(mailbox) = self.sagas.desk.live().get(&id) {
            if heed {
                mailbox.knock();
            }
            return;
        }
        if self.resting.get(&id).is_some_and(|until| *until > Instant::now()) {
            return;
        }
        self.resting.remove(&id);
        if self.room() == 0 {
            self.backlog = true;
            return;
        }
        self.launch(id, heed);
    }

    fn launch(&mut self, id: Uuid, heed: bool) {
        let mailbox = Arc::new(Mailbox::default());
        if heed {
            mailbox.knock();
        }
        self.sagas.desk.live().insert(id, Arc::clone(&mailbox));
        let work = loading::run(self.sagas.clone(), id, mailbox, self.shutdown.clone());
        self.tasks.spawn(async move {
            // User code is caught where it is called: a panic here is ours, and must not hide whose saga it met.
            let stopped = AssertUnwindSafe(work).catch_unwind().await;
            (id, stopped.unwrap_or(Err(Stop::Panicked)))
        });
    }

    fn over(&mut self, joined: Result<(Uuid, Result<(), Stop>), tokio::task::JoinError>) {
        let Ok((id, stopped)) = joined else { return };
        let mailbox = self.sagas.desk.live().remove(&id);
        match stopped {
            Ok(()) | Err(Stop::Shutdown) => {}
            _ if self.shutdown.is_cancelled() => {}
            Err(Stop::Rest) if mailbox.is_some_and(|mailbox| mailbox.is_up()) => {
                self.answer(Knock::Heed(id));
            }
            Err(Stop::Rest) => {}
            Err(stop) => {
                tracing::error!(saga = %id, error = &stop as &dyn std::error::Error, "a saga was interrupted");
                self.resting.insert(id, Instant::now() + REST);
            }
        }
    }

    fn log_failure(&self, looked: Result<(), ReadError>) {
        if let Err(error) = looked {
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "the store cannot say which sagas are due"
            );
        }
    }
}
