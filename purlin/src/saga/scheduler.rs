//! Brings sagas into memory when they want to run, a bounded number of them, and lets each fail alone.

use std::collections::{HashMap, HashSet};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::message::Timestamp;
use crate::store::{CommitError, Query, ReadError};

use super::desk::{Knock, Mailbox};
use super::error::told;
use super::record::{Request, SagaRow};
use super::writer::Stop;
use super::{SagaState, Sagas, loading};

/// How often the store is asked what is due.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How many due records are looked at a time, besides those in memory.
const PAGE: usize = 256;
/// How many are looked at if all the others are of sagas that rest. If all of these rest, one's own are found by their
/// kind.
const MOST: usize = 16 * PAGE;
/// After a look that had to pass over many that rest, room in memory is no reason for another one for so many times as
/// long as it took.
const LOOK_SPACE: u32 = 4;
/// How long a saga rests whose task ended by a fault that is not its own.
const REST: Duration = Duration::from_secs(10);
/// How long one rests whose function this program lacks.
const FOREIGN_REST: Duration = Duration::from_secs(60);
/// After so many faults in a row that will be the same each time a saga is set aside for an operator.
const FAULTS: u32 = 3;
/// How often those that wait for a person are counted, in looks.
const COUNT_EVERY: u32 = 10;

struct Scheduler<S> {
    sagas: Sagas<S>,
    shutdown: CancellationToken,
    tasks: JoinSet<(Uuid, Result<(), Stop>)>,
    /// Sagas that are not brought into memory before a time.
    resting: HashMap<Uuid, Rest>,
    /// There are more that want to run than memory has room for.
    backlog: bool,
    /// Before this a backlog is no reason to look.
    not_before: Instant,
    /// Where among the sagas of its own kinds it goes on, when what is due is hidden by what rests.
    walk: Walk,
    /// The kinds that this program lacks and that were told of.
    told: HashSet<String>,
    /// Behind which of the blocked sagas those are that have not been tried since the start; none: all have.
    reviving: Option<Option<String>>,
    looks: u32,
}

/// A walk through the sagas that may be due, by kind and state.
#[derive(Default)]
struct Walk {
    place: usize,
    after: Option<String>,
}

/// States in which a saga may be due.
const DUE_STATES: [SagaState; 3] = [SagaState::Running, SagaState::Compensating, SagaState::Stuck];

/// Why a saga rests.
struct Rest {
    until: Instant,
    /// How many faults it has had in a row.
    faults: u32,
    /// Its function is not here.
    foreign: bool,
}

pub(super) async fn run<S: Send + Sync + 'static>(
    sagas: Sagas<S>,
    shutdown: CancellationToken,
) -> Result<(), CommitError> {
    let desk = Arc::clone(&sagas.desk);
    let mut door = desk.door.lock().await;
    // A run that was dropped has taken its tasks with it.
    desk.live().clear();
    desk.set_crowded(false);
    sagas.prepare().await?;
    let mut scheduler = Scheduler {
        sagas,
        shutdown,
        tasks: JoinSet::new(),
        resting: HashMap::new(),
        backlog: false,
        not_before: Instant::now(),
        walk: Walk::default(),
        told: HashSet::new(),
        reviving: Some(None),
        looks: 0,
    };
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
        loop {
            tokio::select! {
                biased;
                () = shutdown.cancelled() => return,
                Some(joined) = self.tasks.join_next() => self.over(joined),
                _ = looks.tick() => {
                    self.look().await;
                    self.tell().await;
                }
                Some(knock) = door.recv() => self.answer(knock),
                () = tokio::time::sleep_until(self.not_before), if self.has_room_for_backlog() => {}
            }
            if self.has_room_for_backlog() && self.not_before <= Instant::now() {
                self.look().await;
            }
            self.sagas.desk.set_crowded(self.backlog && self.room() <= self.sagas.in_memory / 4);
        }
    }

    fn room(&self) -> usize {
        self.sagas.in_memory.saturating_sub(self.tasks.len())
    }

    fn has_room_for_backlog(&self) -> bool {
        self.backlog && self.room() > self.sagas.in_memory / 4
    }

    async fn look(&mut self) {
        self.backlog = false;
        let now = Instant::now();
        self.forget_rested(now);
        let looked = self.look_at_sagas().await;
        self.log_failure(looked);
        let looked = self.look_at_requests().await;
        self.log_failure(looked);
        let looked = self.revive().await;
        self.log_failure(looked);
    }

    /// Those that had faults are remembered for a while longer, and for as long as they are at work: the next fault may
    /// be one in a row.
    fn forget_rested(&mut self, now: Instant) {
        let live = self.sagas.desk.live();
        self.resting.retain(|id, rest| now < rest.until + REST || live.contains_key(id));
    }

    async fn look_at_sagas(&mut self) -> Result<(), ReadError> {
        let (now, began) = (self.sagas.clock.now(), Instant::now());
        let mut limit = self.tasks.len() + PAGE;
        loop {
            let due = self.sagas.store.due::<SagaRow>(now, limit).await?;
            let ids: Vec<Uuid> = due.iter().filter_map(|record| record.key.parse().ok()).collect();
            // What is due and rests stays due: it must not hide what is due behind it.
            let live = self.tasks.len();
            if self.hides_others(&ids, due.len(), &mut limit, live) {
                continue;
            }
            let before = self.tasks.len();
            ids.into_iter().for_each(|id| self.answer(Knock::Run(id)));
            if limit >= live + MOST && due.len() == limit {
                self.walk(now).await?;
            }
            if limit > live + PAGE {
                self.not_before = Instant::now() + began.elapsed() * LOOK_SPACE;
            }
            // There are more, and this look was of use.
            self.backlog |= due.len() == limit && self.tasks.len() > before;
            return Ok(());
        }
    }

    /// Looks for sagas of its own kinds that are due, a page of them at a time, from where the last such look ended.
    async fn walk(&mut self, now: Timestamp) -> Result<(), ReadError> {
        let kinds: Vec<&'static str> = self.sagas.kinds.keys().copied().collect();
        let (places, mut found) = (kinds.len() * DUE_STATES.len(), 0);
        for _ in 0..places {
            let (kind, state) = (kinds[self.walk.place % kinds.len()], self.walk.place / kinds.len());
            let own = Query::all().and("kind", kind).and("state", DUE_STATES[state].as_str());
            let page =
                self.sagas.store.list::<SagaRow>(own.limit(PAGE).after(self.walk.after.take())).await?;
            let due = page.records.iter().filter(|record| record.due.is_some_and(|due| due <= now));
            due.filter_map(|record| record.key.parse().ok()).for_each(|id| self.answer(Knock::Run(id)));
            found += page.records.len();
            self.walk.after = page.next;
            if self.walk.after.is_none() {
                self.walk.place = (self.walk.place + 1) % places;
            }
            if found >= PAGE {
                break;
            }
        }
        Ok(())
    }

    async fn look_at_requests(&mut self) -> Result<(), ReadError> {
        let now = self.sagas.clock.now();
        let mut limit = PAGE;
        loop {
            let due = self.sagas.store.due::<Request>(now, limit).await?;
            let ids = due.iter().filter_map(|record| record.key.split_once('/')?.0.parse().ok());
            let ids: Vec<Uuid> = ids.collect();
            if self.hides_others(&ids, due.len(), &mut limit, 0) {
                continue;
            }
            ids.into_iter().for_each(|id| self.answer(Knock::Heed(id)));
            return Ok(());
        }
    }

    /// Whether more must be looked at, because what was found leaves too few that can be brought in.
    fn hides_others(&self, ids: &[Uuid], found: usize, limit: &mut usize, live: usize) -> bool {
        let free = ids.iter().filter(|id| !self.rests(**id)).count();
        let more = found == *limit && free < live + PAGE / 2 && *limit < live + MOST;
        if more {
            *limit = (*limit * 4).min(live + MOST);
        }
        more
    }

    /// A blocked saga may fit the functions that are deployed now: trying costs little and does nothing. They are
    /// tried after each start, as there is room.
    async fn revive(&mut self) -> Result<(), ReadError> {
        while let Some(after) = self.reviving.clone() {
            let room = self.room().saturating_sub(self.sagas.in_memory / 4).min(PAGE);
            if room == 0 && !self.tasks.is_empty() {
                return Ok(());
            }
            let blocked = Query::all().and("state", SagaState::Blocked.as_str());
            let page = self.sagas.store.list::<SagaRow>(blocked.limit(room.max(1)).after(after)).await?;
            for id in page.records.iter().filter_map(|record| record.key.parse().ok()) {
                self.answer(Knock::Heed(id));
            }
            self.reviving = page.next.map(Some);
        }
        Ok(())
    }

    /// Tells the metrics how it stands.
    async fn tell(&mut self) {
        let Some(seen) = &self.sagas.seen else { return };
        let number = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
        seen.in_memory.set(number(self.tasks.len()));
        seen.foreign.set(number(self.resting.values().filter(|rest| rest.foreign).count()));
        if self.looks.is_multiple_of(COUNT_EVERY) {
            let counted = seen.count(&self.sagas.store).await;
            self.log_failure(counted);
        }
        self.looks = self.looks.wrapping_add(1);
    }

    fn rests(&self, id: Uuid) -> bool {
        self.resting.get(&id).is_some_and(|rest| rest.until > Instant::now())
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
        if self.rests(id) {
            return;
        }
        if self.room() == 0 {
            self.backlog = true;
            return;
        }
        self.launch(id, heed);
    }

    fn launch(&mut self, id: Uuid, heed: bool) {
        let mailbox = Arc::new(self.sagas.desk.mailbox());
        if heed {
            mailbox.knock();
        }
        let work = loading::run(self.sagas.clone(), id, Arc::clone(&mailbox), self.shutdown.clone());
        self.spawn(id, mailbox, work);
    }

    fn spawn(
        &mut self,
        id: Uuid,
        mailbox: Arc<Mailbox>,
        work: impl Future<Output = Result<(), Stop>> + Send + 'static,
    ) {
        self.sagas.desk.live().insert(id, mailbox);
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
            Ok(()) | Err(Stop::Shutdown) => drop(self.resting.remove(&id)),
            _ if self.shutdown.is_cancelled() => {}
            Err(Stop::Rest) => {
                self.resting.remove(&id);
                if mailbox.is_some_and(|mailbox| mailbox.is_up()) {
                    self.answer(Knock::Heed(id));
                }
            }
            Err(Stop::Foreign(kind)) => {
                self.tell_foreign(id, kind);
                let until = Instant::now() + FOREIGN_REST;
                self.resting.insert(id, Rest { until, faults: 0, foreign: true });
            }
            Err(stop) => self.interrupted(id, &stop),
        }
    }

    /// A kind may have been renamed by mistake: then nobody else has it either.
    fn tell_foreign(&mut self, id: Uuid, kind: String) {
        if self.told.len() < PAGE && !self.told.contains(&kind) {
            tracing::warn!(
                saga = %id,
                kind,
                "no function is registered for sagas of this kind: they are left to a program that has it; if none \
                 does, deploy one, or register the function under its old name"
            );
            self.told.insert(kind);
        }
    }

    /// A saga's task ended by a fault: it rests, and after some that will not go away it is set aside.
    fn interrupted(&mut self, id: Uuid, stop: &Stop) {
        tracing::error!(saga = %id, error = stop as &dyn std::error::Error, "a saga was interrupted");
        let before = self.resting.get(&id).map_or(0, |rest| rest.faults);
        let faults = if stop.is_lasting() { before + 1 } else { before };
        self.resting.insert(id, Rest { until: Instant::now() + REST, faults, foreign: false });
        if stop.is_lasting() && faults.is_multiple_of(FAULTS) {
            let mailbox = Arc::new(self.sagas.desk.mailbox());
            let why = format!("it was interrupted {faults} times in a row: {}", told(stop));
            let (sagas, shutdown) = (self.sagas.clone(), self.shutdown.clone());
            self.spawn(id, Arc::clone(&mailbox), loading::set_aside(sagas, id, mailbox, shutdown, why));
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
