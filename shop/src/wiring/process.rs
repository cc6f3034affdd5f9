//! The process: its tasks in two groups, because doors close before rooms.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::Router;
use axum::serve::ListenerExt as _;
use purlin::http::{Edge, layers};
use purlin::message::Clock;
use purlin::resilience::{BreakerClock, Breakers, Calls};
use purlin::service::{ServeConfig, Shutdown, Signals, Supervisor, operator, raise_descriptors, serve};
use purlin::store::{Cause, Store};
use purlin::telemetry::{Health, Metrics, service};
use tokio::net::{TcpListener, UnixListener};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::crash::Crash;
use super::served::Served;
use crate::config::Config;
use crate::contracts::service::Task;

/// What every role of the process shares.
pub struct Process {
    /// What time it is.
    pub clock: Clock,
    /// Whether the process can take work.
    pub health: Health,
    /// Its numbers.
    pub metrics: Metrics,
    /// Its breakers.
    pub breakers: Breakers,
    /// How it calls others.
    pub calls: Calls,
    /// Runs what customers and operators reach.
    pub doors: Supervisor,
    /// Runs the services.
    pub rooms: Supervisor,
    /// Ends it at a chosen commit, in builds for tests.
    pub crash: Crash,
    /// How many files and connections it may have open.
    pub descriptors: u64,
    /// How many requests each of its services answers at once.
    pub served: Served,
    doors_close: Shutdown,
    rooms_close: Shutdown,
    drain: Duration,
    signalled: AtomicBool,
}

/// What a service answers.
pub struct Room<'a> {
    /// Its routes.
    pub router: Router,
    /// Those of who watches over it.
    pub watching: Router,
    /// Its log, if it keeps one.
    pub log: Option<&'a Store>,
}

impl Process {
    /// A process that runs nothing yet.
    pub fn new(config: &Config, clock: Clock) -> anyhow::Result<Self> {
        let (health, metrics, breakers) =
            (Health::new(), Metrics::new(), Breakers::with_clock(BreakerClock::Coarse));
        breakers.observe(&metrics);
        let calls = Calls::observed(config.calls.clone(), &breakers, &metrics);
        let served = Served::new(config.places.clone(), &metrics);
        let crash = Crash::from_environment(&metrics)?;
        let (doors_close, rooms_close) = (Shutdown::new(), Shutdown::new());
        Ok(Self {
            clock,
            doors: Supervisor::new(doors_close.clone()).telling(&health),
            rooms: Supervisor::new(rooms_close.clone()).telling(&health),
            health,
            metrics,
            breakers,
            calls,
            crash,
            descriptors: raise_descriptors(),
            served,
            doors_close,
            rooms_close,
            drain: config.drain,
            signalled: AtomicBool::new(false),
        })
    }

    /// Begins to stop on SIGINT and SIGTERM, and ends when that, or anything else, has begun.
    pub async fn on_signals(&self, signals: &mut Signals) {
        tokio::select! {
            signalled = self.doors_close.on_signals(signals) => self.signalled.store(signalled, Ordering::Release),
            () = self.rooms_close.begun() => {}
        }
    }

    /// Why it stops, unless it was told to: the task that failed, and how.
    pub fn failure(&self) -> Option<String> {
        if self.signalled.load(Ordering::Acquire) {
            return None;
        }
        let cause = self.doors_close.cause().or(self.rooms_close.cause());
        Some(cause.unwrap_or("a task ended that the process cannot do without").to_owned())
    }

    /// Closes the doors, finishing what is in hand; then the rooms.
    pub async fn stop(&self, limit: Duration) {
        let deadline = Instant::now() + limit;
        if let Err(running) = self.doors.drain(limit).await {
            tracing::warn!(%running, "some requests were not finished in time");
        }
        let left = deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(500));
        if let Err(running) = self.rooms.drain(left).await {
            tracing::warn!(%running, "some work goes on after the next start");
        }
    }

    /// What closes the doors.
    pub fn doors_closed(&self) -> CancellationToken {
        self.doors_close.token()
    }

    /// Answers requests to a service until the rooms close; to writes with the position of its log. It answers so many
    /// at once as it has places, and refuses the least critical first; who watches over it is always answered.
    pub fn serve_room(&self, name: &'static str, listener: TcpListener, room: Room<'_>) {
        let edge = self.edge(name);
        let places = self.served.places(name);
        let served = room.log.into_iter().fold(edge.clone().places(&places), Edge::log);
        let router = layers(room.router, served).merge(layers(room.watching, edge));
        self.serve(&self.rooms, self.rooms_close.token(), name, listener, router);
    }

    /// Answers who watches over the process until the rooms close.
    pub fn serve_watched(&self, name: &'static str, listener: TcpListener, router: Router) {
        self.serve(&self.rooms, self.rooms_close.token(), name, listener, layers(router, self.edge(name)));
    }

    /// Answers requests of operators until the doors close.
    pub fn serve_door(&self, name: &'static str, listener: TcpListener, router: Router) {
        self.serve(&self.doors, self.doors_close.token(), name, listener, layers(router, self.edge(name)));
    }

    /// Answers the operator's requests on a socket of the data folder until the rooms close.
    pub fn serve_operator(&self, listener: UnixListener, router: Router) {
        let config = ServeConfig { drain: self.drain, ..ServeConfig::default() };
        let router = operator::until(self.rooms_close.token(), router);
        let server = serve(listener, router, config, self.rooms_close.token());
        let server = service::within("operator", async {
            server.await;
            Ok::<_, std::convert::Infallible>(())
        });
        self.rooms.spawn_once("operator/serve", server);
    }

    fn edge(&self, name: &'static str) -> Edge {
        Edge::new(name, &self.metrics).max_timeout(Duration::from_secs(70))
    }

    fn serve(
        &self,
        supervisor: &Supervisor,
        shutdown: CancellationToken,
        name: &'static str,
        listener: TcpListener,
        router: Router,
    ) {
        let listener = listener.tap_io(|io| {
            let _ = io.set_nodelay(true);
        });
        let config = ServeConfig { drain: self.drain, ..ServeConfig::default() };
        let server = serve(listener, router, config, shutdown);
        let server = service::within(name, async {
            server.await;
            Ok::<_, std::convert::Infallible>(())
        });
        supervisor.spawn_once(format!("{name}/serve"), server);
    }

    /// Does a service's work in the background until the rooms close.
    pub fn run(&self, name: &'static str, task: Task) {
        let token = self.rooms_close.token();
        self.rooms.spawn(task.name.clone(), move || {
            let work = (task.run)(token.clone());
            service::within(name, async { work.await.map_err(TaskError) })
        });
    }

    /// Does something that does not know of stopping, until the rooms close.
    pub fn run_until_closed<F, Fut, E>(&self, name: String, run: F)
    where
        F: Fn() -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<(), E>> + Send + 'static,
        E: std::error::Error + Send + Sync + 'static,
    {
        let token = self.rooms_close.token();
        self.rooms.spawn(name, move || {
            let (work, token) = (run(), token.clone());
            async move { token.run_until_cancelled(work).await.unwrap_or(Ok(())) }
        });
    }

    /// Runs something once, until it ends or the doors close.
    pub fn door<Fut>(&self, name: &'static str, work: Fut)
    where
        Fut: Future<Output = ()> + Send + 'static,
    {
        let work = service::within(Arc::<str>::from(name), async {
            work.await;
            Ok::<_, std::convert::Infallible>(())
        });
        self.doors.spawn_once(name, work);
    }
}

/// A task failed.
#[derive(Debug, thiserror::Error)]
#[error("the work ended")]
struct TaskError(#[source] Cause);
