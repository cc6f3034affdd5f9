//! What the writer does when it does not know whether a transaction happened: it finds out before it says so.

use std::time::{Duration, Instant};

use purlin::message::Uuid;
use tokio_postgres::Error;

use super::group::DEAD;
use super::{Statements, Writer, tell};
use crate::error::{is_lost, said};
use crate::link::Session;

/// The revision in the row of a transaction that did not happen. (Those that changed collections had 0 once; all others have more.)
const IN_VAIN: i64 = -1;

/// A transaction of which it is not known whether it happened.
#[derive(Debug, Clone, Copy)]
pub(super) struct Lost {
    /// Its number.
    pub(super) batch: i64,
    /// When its row says that it happened.
    pub(super) at: i64,
}

impl Writer {
    /// Whether a transaction happened; nothing when it was not found out, because nobody waits for it any more, or because
    /// nobody knows any more: then nobody may be told anything.
    ///
    /// Its number is written once more, on another connection, in a row that says that it did not happen. If the
    /// transaction happened, its own row is met there; if it is still on its way, this waits for its end; and if it did
    /// not happen, it never can from now on. As long as the server does not tell, those who wait for this transaction go
    /// on waiting, because nothing could be said truthfully to them.
    #[cold]
    pub(super) async fn settle(&mut self, lost: Lost, nobody_waits: impl Fn() -> bool) -> Option<bool> {
        let since = Instant::now();
        loop {
            if nobody_waits() {
                return None;
            }
            let session = self.session().await;
            // Who closes the store need not wait for a server that is away, or does not say it.
            if (session.is_none() && self.waiting.is_closing()) || self.waiting.is_late() {
                self.waiting.refuse_all();
                tell(self.waiting.closing());
            }
            let Some(session) = session else {
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            };
            let asked =
                bury(&session, &self.sql, self.shared.writer, lost, self.clock.now().as_microsecond());
            match self.waiting.beside(asked).await {
                Ok(Some(happened)) => {
                    let took = since.elapsed();
                    tracing::info!(happened, ?took, "what became of a transaction was found out");
                    return Some(happened);
                }
                Ok(None) => {
                    tracing::error!(
                        "what became of a transaction can no longer be found out: it is more than a day old, and the \
                         rows of writers that were not heard of so long have been removed; who waits for it waits on"
                    );
                    return None;
                }
                Err(error) => {
                    tracing::warn!(
                        error = said(&error),
                        "what became of a transaction cannot be seen yet; it is tried again"
                    );
                    if !is_lost(&error) {
                        tokio::time::sleep(Duration::from_millis(100)).await;
                    }
                    session.discard();
                }
            }
        }
    }
}

/// Writes down that a transaction did not happen, unless it did: whether it did; nothing when its row, had there been
/// one, would have been removed as that of a writer that is gone.
///
/// This may be asked more than once, when its own answer was lost: what it wrote then says the same. The row that is met is
/// written anew, so that this is on the disk, and at a standby that is waited for, no sooner than what it tells of.
async fn bury(
    session: &Session,
    sql: &Statements,
    writer: Uuid,
    lost: Lost,
    now: i64,
) -> Result<Option<bool>, Error> {
    let tombstone = session.statement(&sql.tombstone).await?;
    let row = session.client.query_one(&tombstone, &[&writer, &lost.batch, &now, &IN_VAIN]).await?;
    if row.try_get::<_, i64>(0)? != IN_VAIN {
        return Ok(Some(true));
    }
    // Who removes such rows leaves a row of its own in the same transaction.
    let latest = session.statement(&sql.latest_of_others).await?;
    let latest: Option<i64> = session.client.query_one(&latest, &[&writer]).await?.try_get(0)?;
    Ok(latest.is_none_or(|latest| latest - lost.at < DEAD).then_some(false))
}
