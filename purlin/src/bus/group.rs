//! Consumer groups: what handles which subject, and how the lanes are run.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::message::{Clock, Fault};
use crate::resilience::Retry;
use crate::store::{BoxFuture, Commit, Position, ReadError, Store};
use crate::telemetry::Metrics;

use super::backoff::Backoff;
use super::feed::Feed;
use super::gauges::{self, Gauges};
use super::lane::Lane;
use super::{Failure, GroupError, GroupStatus, Message, mark, parked, retries, status};

type Handler = Arc<dyn Fn(Message) -> BoxFuture<'static, Result<Commit, Failure>> + Send + Sync>;

/// A consumer group: every message of its subjects is handled once in effect, in order per key.
///
/// A handler returns its effects as a [`Commit`] in the group's own store; the group adds its mark and applies both
/// together. Cheap to clone; [`Group::run`] it in one place.
#[derive(Clone)]
pub struct Group {
    pub(super) name: Arc<str>,
    pub(super) bus: Store,
    pub(super) store: Store,
    pub(super) retry: Retry,
    pub(super) timeout: Duration,
    pub(super) clock: Clock,
    pub(super) gauges: Option<Gauges>,
    lanes: Option<u32>,
    handlers: HashMap<String, Handler>,
    doubled: Option<String>,
}

impl Group {
    /// How many lanes a new group has unless it says otherwise.
    pub const DEFAULT_LANES: u32 = 32;
    /// How often a message is tried unless the group says otherwise: 20 times, over about a quarter of an hour, so
    /// that a service that is away for some minutes leaves no dead messages behind.
    pub const DEFAULT_RETRY: Retry = Retry {
        max_attempts: 20,
        first_delay: Duration::from_millis(100),
        max_delay: Duration::from_secs(60),
        jitter: 0.5,
    };
    /// How long a handler may take unless the group says otherwise.
    pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(30);

    pub(super) fn new(name: String, bus: Store, store: Store) -> Self {
        Self {
            name: name.into(),
            bus,
            store,
            retry: Self::DEFAULT_RETRY,
            timeout: Self::DEFAULT_TIMEOUT,
            clock: Clock::system(),
            gauges: None,
            lanes: None,
            handlers: HashMap::new(),
            doubled: None,
        }
    }

    /// Handles the messages of a subject. The effects are applied with the group's mark, or not at all.
    ///
    /// A handler that loses a race for what it changes is run again on what is there then; one that fails, panics or
    /// takes too long has its message parked. It may run more than once, so what it does outside its commit must
    /// bear that. A subject that is added later is handled from where the group stands then.
    pub fn on<F, Fut, E>(mut self, subject: impl Into<String>, handler: F) -> Self
    where
        F: Fn(Message) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<Commit, E>> + Send + 'static,
        E: Into<Failure>,
    {
        let handler = Arc::new(handler);
        let erased: Handler = Arc::new(move |message| {
            let handler = Arc::clone(&handler);
            Box::pin(async move { handler(message).await.map_err(Into::into) })
        });
        let subject = subject.into();
        if self.handlers.insert(subject.clone(), erased).is_some() {
            self.doubled = Some(subject);
        }
        self
    }

    /// As [`Group::on`], for a handler that works with something of its service's: it gets a clone each time.
    pub fn on_with<S, F, Fut, E>(self, subject: impl Into<String>, with: &S, handler: F) -> Self
    where
        S: Clone + Send + Sync + 'static,
        F: Fn(S, Message) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<Commit, E>> + Send + 'static,
        E: Into<Failure>,
    {
        let with = with.clone();
        self.on(subject, move |message| handler(with.clone(), message))
    }

    /// How often, and after which pauses, a failed message is tried before it is dead. All kinds of failure are
    /// retried alike: a bug may be gone after the next deployment of somebody else, and a rejection may have rested
    /// on what another message is about to change. Whoever said for how long he is to be left alone
    /// ([`Failure::retry_after`](super::Failure::retry_after)) is, and a message that he never wants again is dead.
    pub fn retry(mut self, retry: Retry) -> Self {
        self.retry = retry;
        self
    }

    /// How long a handler may take before it counts as failed; less if the message has an earlier deadline
    /// ([`Envelope::until`](crate::message::Envelope::until)). A message whose deadline has passed is handled all the
    /// same, and its handler is told ([`deadline::current`](crate::resilience::deadline::current)): it may give up
    /// in its own way, and calls that it makes fail at once.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// In how many lanes messages are handled side by side. The number of a group is stored when it first runs, and
    /// another is refused from then on.
    pub fn lanes(mut self, lanes: u32) -> Self {
        self.lanes = Some(lanes);
        self
    }

    /// The clock by which retries are due.
    pub fn clock(mut self, clock: Clock) -> Self {
        self.clock = clock;
        self
    }

    /// Counts what is handled and what fails, and shows what is parked and how far behind the group is.
    pub fn metrics(mut self, metrics: &Metrics) -> Self {
        self.gauges = Some(Gauges::register(metrics, &self.name));
        self
    }

    /// The group's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// How far the group has come and what it has parked, read from its store.
    pub async fn status(&self) -> Result<GroupStatus, ReadError> {
        status::of(self).await
    }

    /// Handles messages until `shutdown`, then finishes those in hand. For the supervisor to run.
    ///
    /// Dropped at any point and run again, the group goes on where its last commit left it.
    pub fn run(
        &self,
        shutdown: CancellationToken,
    ) -> impl Future<Output = Result<(), GroupError>> + Send + use<> + 'static {
        let group = Arc::new(self.clone());
        async move {
            let mut backoff = Backoff::store();
            loop {
                let end = group.run_lanes(&shutdown).await;
                let Some(error) = end.as_ref().err().filter(|error| error.kind().is_transient()) else {
                    return end;
                };
                let stopped = group.wait_for_store(error, &mut backoff, &shutdown).await.is_err();
                if stopped {
                    return Ok(());
                }
            }
        }
    }

    async fn run_lanes(self: &Arc<Self>, shutdown: &CancellationToken) -> Result<(), GroupError> {
        self.check()?;
        parked::define(&self.store).await?;
        let lanes = mark::lanes(&self.store, &self.name, &self.bus, self.lanes).await?;
        let marks = mark::marks(&self.store, &self.name, lanes).await?;
        let positions: Vec<Position> = marks.iter().map(|mark| mark.position).collect();
        let furthest = positions.iter().copied().max().unwrap_or(Position::START);
        let (group, head) = (self.name.to_string(), self.bus.head_up_to(furthest).await?);
        if let Some(mark) = positions.iter().copied().find(|mark| *mark > head) {
            return Err(GroupError::BusBehind { group, mark, head });
        }
        let subjects: HashSet<String> = self.handlers.keys().cloned().collect();
        let feed = Arc::new(Feed::new(self.bus.clone(), subjects, &positions));

        let mut tasks = JoinSet::new();
        for (number, mark) in (0..).zip(marks) {
            let lane = Lane::new(Arc::clone(self), Arc::clone(&feed), number, mark);
            tasks.spawn(lane.run(shutdown.clone()));
        }
        tasks.spawn(retries::run(Arc::clone(self), shutdown.clone()));
        let tail = tail(&feed);
        let tail = async {
            tokio::select! { end = tail => end, () = shutdown.cancelled() => Ok(()) }
        };
        let lanes = async {
            while let Some(ended) = tasks.join_next().await {
                ended.map_err(|panic| GroupError::Panicked(panic.to_string()))??;
            }
            Ok(())
        };
        let both = async { tokio::try_join!(tail, lanes).map(|_| ()) };
        tokio::select! {
            end = both => end,
            () = gauges::keep(self) => Ok(()),
        }
    }

    fn check(&self) -> Result<(), GroupError> {
        let name = &self.name;
        let word = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'_';
        if name.is_empty() || name.len() > 64 || !name.bytes().all(word) {
            return Err(GroupError::Name(name.to_string()));
        }
        if self.lanes == Some(0) {
            return Err(GroupError::NoLanes);
        }
        self.doubled.clone().map_or(Ok(()), |subject| Err(GroupError::Doubled { subject }))
    }

    /// The handler of a message's subject.
    pub(super) fn handler(&self, subject: &str) -> Option<Handler> {
        self.handlers.get(subject).cloned()
    }
}

/// The tail of a feed, which a bus that cannot be read only delays.
async fn tail(feed: &Feed) -> Result<(), GroupError> {
    let mut backoff = Backoff::store();
    loop {
        match feed.tail().await {
            Err(error) if error.kind().is_transient() => {
                tracing::warn!(error = &error as &dyn std::error::Error, "the bus cannot be read");
                backoff.pause().await;
            }
            end => return Ok(end?),
        }
    }
}

impl std::fmt::Debug for Group {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Group").field("name", &self.name).field("store", &self.store).finish_non_exhaustive()
    }
}
