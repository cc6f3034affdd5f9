//! A small process on a data folder, and the binary that an operator runs beside it.

use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use purlin::bus::{Bus, DeadLetterState, DeadLetters, Group};
use purlin::message::{Clock, Envelope, Event, Fault, FaultKind, Uuid, new_id};
use purlin::projection::{Projection, View, ViewStatus, Views};
use purlin::resilience::Retry;
use purlin::saga::{ListSagas, Saga, SagaError, SagaState, Sagas};
use purlin::service::operator::{self, Served};
use purlin::service::{ServeConfig, serve};
use purlin::store::{Commit, Expected, Recorded, Row, Store, StreamId};
use serde::{Deserialize, Serialize};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// Waiting longer than this for something is a failed test.
const PATIENCE: Duration = Duration::from_secs(20);

/// A folder that goes with the test.
pub(crate) struct Folder(PathBuf);

impl Folder {
    pub(crate) fn new() -> Self {
        let folder = std::env::temp_dir().join(format!("purlin-cli-{}", new_id()));
        std::fs::DirBuilder::new().mode(0o700).create(&folder).expect("a folder can be made");
        Self(folder)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// What the binary did.
pub(crate) struct Ran {
    pub(crate) status: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

/// `purlin --data <folder> <arguments>`.
pub(crate) fn command(data: &Folder, arguments: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_purlin"));
    command.arg("--data").arg(data.path()).args(arguments.split_whitespace());
    command
}

/// Runs `purlin --data <folder> <arguments>`.
pub(crate) async fn purlin(data: &Folder, arguments: &str) -> Ran {
    let mut command = command(data, arguments);
    let output = tokio::task::spawn_blocking(move || command.output()).await;
    let output = output.expect("no panic").expect("the binary can be started");
    Ran {
        status: output.status.code().expect("it ends by itself"),
        out: String::from_utf8(output.stdout).expect("UTF-8"),
        err: String::from_utf8(output.stderr).expect("UTF-8"),
    }
}

/// The outside world: while it is broken, nothing succeeds.
#[derive(Clone)]
pub(crate) struct World {
    broken: Arc<AtomicBool>,
}

#[derive(Debug, thiserror::Error)]
#[error("the printer is on fire")]
struct Broken;

impl Fault for Broken {
    fn kind(&self) -> FaultKind {
        FaultKind::Rejected
    }
}

impl World {
    pub(crate) fn broken() -> Self {
        Self { broken: Arc::new(AtomicBool::new(true)) }
    }

    pub(crate) fn mended() -> Self {
        Self { broken: Arc::new(AtomicBool::new(false)) }
    }

    pub(crate) fn mend(&self) {
        self.broken.store(false, Ordering::Release);
    }

    fn work(&self) -> Result<(), Broken> {
        if self.broken.load(Ordering::Acquire) { Err(Broken) } else { Ok(()) }
    }
}

/// What `orders_view` can read of the events of an order: one without a colour does not fit.
#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum OrderEvent {
    Placed { colour: String },
}

impl Event for OrderEvent {}

/// The colour of an order.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct OrderRow {
    pub(crate) colour: String,
}

impl Row for OrderRow {
    const COLLECTION: &'static str = "orders_view";
}

/// The view of the colours.
pub(crate) struct OrdersView;

impl Projection for OrdersView {
    const NAME: &'static str = "orders_view";
    const CATEGORY: &'static str = "order";
    type Event = OrderEvent;
    type Row = OrderRow;

    fn apply(&self, _: Option<OrderRow>, event: &OrderEvent, _: &Recorded) -> Option<OrderRow> {
        let OrderEvent::Placed { colour } = event;
        Some(OrderRow { colour: colour.clone() })
    }
}

/// A process with a service `orders` and its view, whose bus group and sagas depend on the world.
pub(crate) struct Process {
    pub(crate) orders: Store,
    sagas: Sagas<World>,
    bus: Store,
    shutdown: CancellationToken,
    tasks: JoinSet<()>,
}

/// One attempt, and no second one.
const ONCE: Retry =
    Retry { max_attempts: 1, first_delay: Duration::ZERO, max_delay: Duration::ZERO, jitter: 0.0 };

/// Prints, fails to deliver, and has to take back what it printed.
async fn print(saga: Saga<World>, _: ()) -> Result<(), SagaError> {
    saga.step("print", async |_| Ok::<_, Broken>(()))
        .compensate(async |at, _: Option<()>| at.work())
        .compensation_retry(ONCE)
        .await?;
    saga.step("deliver", async |_| Err::<(), _>(Broken)).await
}

impl Process {
    /// Starts on a folder.
    pub(crate) async fn start(data: &Folder, world: &World) -> Self {
        let open =
            async |name: &str| purlin_sqlite::open(data.path().join(name)).await.expect("a store opens");
        let (orders, bus) = (open("orders.db").await, open("bus.db").await);
        let sagas = Sagas::new(&orders, world.clone(), Clock::system()).register("print", print);
        sagas.prepare().await.expect("the collections can be made");
        let process = Self { orders, sagas, bus, shutdown: CancellationToken::new(), tasks: JoinSet::new() };
        process.with_operator(data).with_sagas().with_view().with_bus(world)
    }

    fn with_operator(mut self, data: &Folder) -> Self {
        let listener = operator::listen(data.path()).expect("the socket can be opened");
        let served = Served { name: "orders".into(), store: self.orders.clone() };
        let router = operator::router([served]);
        self.tasks.spawn(serve(listener, router, ServeConfig::default(), self.shutdown.clone()));
        self
    }

    fn with_sagas(mut self) -> Self {
        let running = self.sagas.clone().run(self.shutdown.clone());
        self.tasks.spawn(async move { running.await.expect("sagas run") });
        self
    }

    fn with_view(mut self) -> Self {
        let running = View::new(OrdersView, &self.orders).run(self.shutdown.clone());
        self.tasks.spawn(async move { running.await.expect("the view runs") });
        self
    }

    fn with_bus(mut self, world: &World) -> Self {
        let bus = Bus::embedded(self.bus.clone());
        let (relay, stopped) = (bus.relay("orders", &self.orders), self.shutdown.clone());
        self.tasks.spawn(async move {
            tokio::select! {
                () = stopped.cancelled() => {}
                ended = relay => ended.expect("the relay runs"),
            }
        });
        let printer = world.clone();
        let once = Retry { max_attempts: 1, ..Group::DEFAULT_RETRY };
        let group = bus.group("printer", &self.orders).retry(once).on("order.placed", move |_| {
            let printed = printer.work().map(|()| Commit::new());
            async move { printed }
        });
        let group = group.run(self.shutdown.clone());
        self.tasks.spawn(async move { group.await.expect("the group runs") });
        self
    }

    /// Stops, and lets go of the folder.
    pub(crate) async fn stop(mut self) {
        self.shutdown.cancel();
        while let Some(ended) = self.tasks.join_next().await {
            ended.expect("no task panics");
        }
        self.orders.close().await;
        self.bus.close().await;
    }

    /// Publishes an order, for the printer.
    pub(crate) async fn place(&self, key: &str) {
        let stream = StreamId::new("order", key).expect("a stream");
        let event = Envelope::raw("order.placed", r#"{"colour":"red"}"#).public();
        let commit = Commit::new().append(stream, Expected::Any, [event]);
        self.orders.commit(commit).await.expect("a commit");
    }

    /// Appends an event that the view cannot fold; gives its position.
    pub(crate) async fn smudge(&self, key: &str) -> u64 {
        let stream = StreamId::new("order", key).expect("a stream");
        let commit = Commit::new().append(stream, Expected::Any, [Envelope::raw("order.placed", "{}")]);
        self.orders.commit(commit).await.expect("a commit").position.0
    }

    /// Waits until the view is as it is wanted.
    pub(crate) async fn until_view(&self, wanted: impl Fn(&ViewStatus) -> bool) -> ViewStatus {
        let views = Views::new(&self.orders);
        self.until(async || views.show("orders_view").await.ok().filter(&wanted)).await
    }

    /// The row of an order.
    pub(crate) async fn row(&self, key: &str) -> Option<OrderRow> {
        self.orders.get(key).await.expect("a row")
    }

    /// Waits until so many messages are parked, all of them dead.
    pub(crate) async fn until_dead(&self, count: usize) -> Vec<String> {
        let letters = DeadLetters::new(&self.orders);
        self.until(async || {
            let letters = letters.list(None, None, 1000).await.expect("a list").items;
            let all = letters.iter().all(|letter| letter.state == DeadLetterState::Dead);
            let ids: Vec<String> = letters.into_iter().map(|letter| letter.id).collect();
            (all && ids.len() == count).then_some(ids)
        })
        .await
    }

    /// Starts a saga.
    pub(crate) async fn begin(&self) -> Uuid {
        let id = new_id();
        let commit = self.sagas.start("print", id, &()).expect("a known kind");
        self.orders.commit(commit).await.expect("a commit");
        self.sagas.kick(id);
        id
    }

    /// Waits until a saga is in a state.
    pub(crate) async fn until_state(&self, id: Uuid, state: SagaState) {
        let directory = self.sagas.directory();
        self.until(async || {
            let wanted = ListSagas { state: Some(state), ..ListSagas::default() };
            let page = directory.list(wanted).await.expect("a list");
            page.items.iter().any(|(found, _)| *found == id).then_some(())
        })
        .await;
    }

    /// Looks again after each commit.
    pub(crate) async fn until<T>(&self, mut look: impl AsyncFnMut() -> Option<T>) -> T {
        let mut commits = self.orders.watch();
        let found = async {
            loop {
                commits.borrow_and_update();
                if let Some(found) = look().await {
                    return found;
                }
                commits.changed().await.expect("the store is open");
            }
        };
        tokio::time::timeout(PATIENCE, found).await.expect("it happens in time")
    }
}
