//! How processes learn of each other's commits: a notice that may be lost, and a look now and then.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;
use tokio_postgres::Error;

use crate::error::said;
use crate::link::{Link, Session, State};
use crate::names::{HOLDERS, listeners};
use crate::reader::{collections_sql, read_collections};
use crate::schema::{Last, last_sql};
use crate::shared::Shared;

/// The shortest time between two notices of one process.
const NOTICES: Duration = Duration::from_millis(5);

/// How long it is believed how many listen; to count them the server looks through all its locks.
const COUNTS: Duration = Duration::from_secs(3);

/// How often one looks whether a notice was lost.
const LOOKS: Duration = Duration::from_millis(250);

/// Tells other processes that something was committed: outside of the commit, and many commits at once. When there are
/// none nobody is told: each notice is a transaction, whose place in the log delays the commits behind it. Who comes is
/// counted later, and looks by itself until then.
pub(crate) async fn tell(shared: Arc<Shared>, link: Link, mut noticed: watch::Receiver<()>) {
    let mut counted = None;
    while noticed.changed().await.is_ok() {
        if let Some(session) = up(&link)
            && let Err(error) = tell_once(&session, &shared, &mut counted).await
        {
            tracing::debug!(
                error = said(&error),
                "other processes were not told of a commit; they look by themselves"
            );
        }
        tokio::time::sleep(NOTICES).await;
    }
}

/// Tells them, if there are any, as far as was counted.
async fn tell_once(
    session: &Session,
    shared: &Shared,
    counted: &mut Option<(Instant, i64)>,
) -> Result<(), Error> {
    let listeners = match *counted {
        Some((at, listeners)) if at.elapsed() < COUNTS => listeners,
        _ => {
            let statement = session.statement(HOLDERS).await?;
            let listeners = session.client.query_one(&statement, &[&listeners(shared.id.log)]).await?;
            let listeners = listeners.try_get(0)?;
            *counted = Some((Instant::now(), listeners));
            listeners
        }
    };
    // One of them is this one.
    if listeners > 1 {
        let statement = session.statement("SELECT pg_notify($1, $2)").await?;
        session.client.execute(&statement, &[&shared.channel(), &shared.notice()]).await?;
    }
    Ok(())
}

/// Looks for what other processes did.
pub(crate) async fn look(shared: Arc<Shared>, link: Link) {
    let sql = last_sql(&shared.schema);
    loop {
        tokio::time::sleep(LOOKS).await;
        if let Some(session) = up(&link)
            && let Err(error) = look_once(&session, &shared, &sql).await
        {
            tracing::debug!(error = said(&error), "it could not be seen what other processes did");
        }
    }
}

async fn look_once(session: &Session, shared: &Shared, sql: &str) -> Result<(), Error> {
    let statement = session.statement(sql).await?;
    let last = Last::of(&session.client.query_one(&statement, &[]).await?)?;
    shared.saw_both(last.position, last.revision);
    if last.generation > shared.tables().generation {
        let rows = session.client.query(&collections_sql(&shared.schema), &[]).await?;
        shared.set_tables(read_collections(shared, &rows)?);
    }
    Ok(())
}

/// The session, if it is there.
fn up(link: &Link) -> Option<Arc<Session>> {
    match &*link.borrow() {
        State::Up(session) => Some(Arc::clone(session)),
        State::Waiting | State::Down(_) => None,
    }
}
