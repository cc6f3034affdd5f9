//! The thread of an open store: it moves the bytes of all its connections, and the writer lives on it.

use std::sync::Arc;
use std::time::Duration;

use purlin::message::{Uuid, new_id};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_postgres::Client;

use crate::ahead;
use crate::archive;
use crate::engine::Postgres;
use crate::error::{OpenError, Unreached};
use crate::followers;
use crate::link::Keeper;
use crate::names::{Schema, listeners};
use crate::options::Options;
use crate::reader::{Readers, collections_sql, read_collections};
use crate::schema::{self, Last, last_sql};
use crate::shared::Shared;
use crate::target::{Reached, Target};
use crate::writer::{self, Job, Writer};

/// How often a server that is just starting is tried again while a store opens.
const RETRY: Duration = Duration::from_millis(100);

type Answer = oneshot::Sender<Result<Postgres, OpenError>>;

/// A panic in the writer may have come after a COMMIT: whoever waits must not be told that nothing happened. The
/// process ends as if it was killed, and its next life finds what is true.
struct EndOnPanic;

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

/// Opens a store on a thread of its own, which then serves it.
pub(crate) fn start(options: Options, answer: Answer) -> Result<(), OpenError> {
    let failed = |source| OpenError::Thread { source };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failed)?;
    let serve = move || {
        let _end = EndOnPanic;
        runtime.block_on(run(options, answer));
    };
    std::thread::Builder::new().name("postgres".into()).spawn(serve).map(drop).map_err(failed)
}

async fn run(options: Options, answer: Answer) {
    let (shared, target) = match open(&options).await {
        Ok(opened) => opened,
        Err(error) => return drop(answer.send(Err(error))),
    };
    let mut tasks = JoinSet::new();
    // A connection that writes is none to a standby; those that read may be, when it is the only server.
    let writable = target.clone().writable();
    let mut keep = |target: &Target, setup: String| {
        let (keeper, link) = Keeper::new(target.clone(), setup, Arc::clone(&shared), options.patience);
        tasks.spawn(keeper.keep());
        link
    };
    let listening = format!(
        "{}SET synchronous_commit = off; SELECT pg_advisory_lock_shared({}); LISTEN {}",
        schema::session(),
        listeners(shared.id.log),
        shared.channel()
    );
    let sole = options.sole.then(|| shared.schema.sole_lock());
    let writing = keep(&writable, schema::writing_session(sole));
    let first = keep(&target, listening);
    let others = (1..options.readers.max(1)).map(|_| keep(&target, schema::session().to_owned()));
    let links: Vec<_> = std::iter::once(first.clone()).chain(others).collect();
    let readers = Arc::new(Readers::new(links, options.patience));
    let (begin, wanted) = ahead::begin();
    tasks.spawn(ahead::serve(Arc::clone(&readers), wanted));
    let (notify, noticed) = tokio::sync::watch::channel(());
    tasks.spawn(followers::tell(Arc::clone(&shared), first.clone(), noticed));
    tasks.spawn(followers::look(Arc::clone(&shared), first));
    let (jobs, queue) = mpsc::channel::<Job>(options.queue.max(1) + 64);
    let writer = Writer::new(Arc::clone(&shared), writing, queue, notify, &options);
    let (archiver, archiving) = mpsc::channel(16);
    tasks.spawn(archive::serve(Arc::clone(&shared), writable, options.patience, archiving));
    if answer.send(Ok(Postgres::new(shared, jobs, archiver, readers, begin))).is_err() {
        return;
    }
    let closing = writer.serve().await;
    // The connections end with their keepers, before anybody is told that the store is closed.
    tasks.shutdown().await;
    writer::tell(closing);
}

/// Reads what must be known, with a connection that is gone afterwards.
async fn open(options: &Options) -> Result<(Arc<Shared>, Target), OpenError> {
    let schema = Schema::new(&options.name)?;
    let target = options.target()?;
    let since = Instant::now();
    loop {
        match attempt(options, &target, &schema).await {
            Err(OpenError::Unreachable { source })
                if since.elapsed() < options.patience
                    && source.downcast_ref::<Unreached>().is_some_and(Unreached::is_passing) =>
            {
                tokio::time::sleep(RETRY).await;
            }
            // One that was killed a moment ago is let go of by the server in a moment.
            Err(OpenError::InUse { .. }) if since.elapsed() < options.patience => {
                tokio::time::sleep(RETRY).await;
            }
            Ok(shared) => return Ok((shared, target)),
            Err(error) => return Err(error),
        }
    }
}

async fn attempt(options: &Options, target: &Target, schema: &Schema) -> Result<Arc<Shared>, OpenError> {
    let Reached { client, line } = target.connect("").await?;
    target.during(&client, line, options.patience, read(options, schema, &client)).await?
}

async fn read(options: &Options, schema: &Schema, client: &Client) -> Result<Arc<Shared>, OpenError> {
    if options.sole {
        let lock = "SELECT pg_try_advisory_lock($1)";
        let free = client.query_one(lock, &[&schema.sole_lock()]).await.and_then(|row| row.try_get(0));
        match free {
            Ok(true) => {}
            Ok(false) => return Err(OpenError::InUse { schema: schema.name().to_owned() }),
            Err(error) => return Err(Unreached::Failed(error).into()),
        }
    }
    let tablespace = options.tablespace_of_archive()?;
    let prepared = schema::prepare(client, schema, options.log, tablespace.as_deref()).await?;
    let schema = &schema.clone().with_seed(prepared.seed);
    let limits = (options.queue.max(1), options.queue_bytes);
    let writer: Uuid = new_id();
    let shared = Arc::new(Shared::new(prepared.id, schema.clone(), writer, limits));
    let rest = async {
        let rows = client.query(&collections_sql(schema), &[]).await?;
        shared.set_tables(read_collections(&shared, &rows)?);
        let last = Last::of(&client.query_one(&last_sql(schema), &[]).await?)?;
        shared.committed(last.position, last.revision);
        Ok::<_, tokio_postgres::Error>(())
    };
    rest.await
        .map_err(|error| OpenError::Database { schema: schema.name().to_owned(), source: error.into() })?;
    Ok(shared)
}
