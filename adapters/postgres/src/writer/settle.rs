//! What the writer does when it does not know whether a transaction happened: it finds out before it says so.

use std::time::{Duration, Instant};

use super::Writer;
use crate::error::{is_lost, said};
use crate::link::Session;

impl Writer {
    /// Whether a transaction happened; nothing when it was not found out, because nobody waits for it any more.
    ///
    /// Its number is written once more, on another connection. If the transaction happened, the number is there; if it
    /// is still on its way, this waits for its end; and if it did not happen, it never can from now on. As long as
    /// the server does not tell, those who wait for this transaction go on waiting, because nothing could be said
    /// truthfully to them.
    #[cold]
    pub(super) async fn settle(&mut self, batch: i64, nobody_waits: impl Fn() -> bool) -> Option<bool> {
        let since = Instant::now();
        loop {
            if nobody_waits() {
                return None;
            }
            let Some(session) = self.session().await else {
                // Who closes the store need not wait for a server that is away.
                if let Some(closing) = self.waiting.closing() {
                    let _ = closing.send(());
                }
                self.waiting.refuse_all();
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            };
            let (shared, sql, now) = (&self.shared, &self.sql, self.clock.now().as_microsecond());
            let asked = bury(&session, &sql.tombstone, shared.writer, batch, now);
            match self.waiting.beside(asked).await {
                Ok(happened) => {
                    let took = since.elapsed();
                    tracing::info!(happened, ?took, "what became of a transaction was found out");
                    return Some(happened);
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

/// Whether the number was there already.
async fn bury(
    session: &Session,
    sql: &str,
    writer: purlin::message::Uuid,
    batch: i64,
    now: i64,
) -> Result<bool, tokio_postgres::Error> {
    let statement = session.statement(sql).await?;
    Ok(session.client.execute(&statement, &[&writer, &batch, &now]).await? == 0)
}
