//! The archive: a table of what is seldom read, which may lie elsewhere, and the moves to it.
//!
//! `_hot` has the last event of every stream and all that was not moved; `_archive` has the rest; `_event` is the view of
//! both, and what everybody reads. A move is one statement, so that whoever reads, in whatever process, sees an event in
//! one of the two. Positions and versions are there once in both together: new ones are greater than the last,
//! and what is last, of the log or of a stream, is never moved. So nobody who appends looks into the archive.

use std::sync::Arc;
use std::time::Duration;

use purlin::store::{Archived, CommitError, StreamId};
use tokio::sync::{mpsc, oneshot};
use tokio_postgres::Error;

use crate::codec::{COLUMNS, limit, unsigned};
use crate::error::{is_of_a_standby, unavailable};
use crate::link::{Keeper, Link, Session, session};
use crate::names::{Schema, quoted};
use crate::schema;
use crate::shared::Shared;
use crate::target::Target;

/// Events that one transaction moves at the most: so few that commits need not wait for its writes.
const SLICE: usize = 512;

/// Bytes of data after which a transaction moves no further event.
const BYTES: usize = 4 << 20;

/// How long the connection is kept for the next who archives.
const IDLE: Duration = Duration::from_secs(10);

/// Who waits for streams to be archived.
pub(crate) struct Job {
    pub(crate) streams: Vec<StreamId>,
    pub(crate) limit: usize,
    pub(crate) answer: oneshot::Sender<Result<Archived, CommitError>>,
}

/// The statements that make the archive, beside a table `_hot`, and the view of both.
pub(crate) fn tables(schema: &Schema, tablespace: Option<&str>) -> String {
    let [hot, archive, event] = ["_hot", "_archive", "_event"].map(|name| schema.table(name));
    let place = tablespace.map_or_else(String::new, |name| format!(" TABLESPACE {}", quoted(name)));
    let index = if place.is_empty() { String::new() } else { format!(" USING INDEX{place}") };
    format!(
        "CREATE TABLE {archive}(LIKE {hot}, PRIMARY KEY (position){index}, UNIQUE (stream, version){index}){place};
         CREATE VIEW {event} AS SELECT {COLUMNS} FROM {hot} UNION ALL SELECT {COLUMNS} FROM {archive};"
    )
}

/// Serves those who archive, one after the other, with a connection that there is only as long as somebody does.
pub(crate) async fn serve(
    shared: Arc<Shared>,
    target: Target,
    patience: Duration,
    mut jobs: mpsc::Receiver<Job>,
) {
    let moves = Moves::new(&shared.schema);
    while let Some(job) = jobs.recv().await {
        let setup = schema::writing_session(None);
        let (keeper, link) = Keeper::new(target.clone(), setup, Arc::clone(&shared), patience);
        tokio::select! {
            () = moves.serve(link, job, &mut jobs) => {}
            () = keeper.keep() => {}
        }
    }
}

/// The statements that move events.
struct Moves {
    slice: String,
    more: String,
}

impl Moves {
    fn new(schema: &Schema) -> Self {
        let [hot, archive] = ["_hot", "_archive"].map(|name| schema.table(name));
        let of_stream = schema.of_stream("h", "u.s");
        // The oldest of each stream first, so that what stays is its end.
        let slice = format!(
            "WITH wanted AS (\
             SELECT position FROM (\
             SELECT position, sum(size) OVER (ROWS UNBOUNDED PRECEDING) - size AS before FROM (\
             SELECT e.position, e.size FROM unnest($1::text[]) AS u(s) \
             CROSS JOIN LATERAL (SELECT max(h.version) AS version FROM {hot} AS h WHERE {of_stream}) AS last \
             CROSS JOIN LATERAL (SELECT h.position, octet_length(h.data)::bigint AS size FROM {hot} AS h \
             WHERE {of_stream} AND h.version < last.version ORDER BY h.version LIMIT $2) AS e \
             LIMIT $2) AS few) AS page WHERE before < {BYTES}), \
             moved AS (DELETE FROM {hot} WHERE position = ANY (ARRAY(SELECT position FROM wanted)) RETURNING {COLUMNS}), \
             kept AS (INSERT INTO {archive}({COLUMNS}) SELECT {COLUMNS} FROM moved) \
             SELECT count(*), coalesce(sum(octet_length(data)), 0)::bigint FROM moved"
        );
        let more = format!(
            "SELECT EXISTS (SELECT FROM unnest($1::text[]) AS u(s) WHERE EXISTS (SELECT FROM {hot} AS h \
             WHERE {of_stream} AND h.version < (SELECT max(l.version) FROM {hot} AS l WHERE {last})))",
            last = schema.of_stream("l", "u.s")
        );
        Self { slice, more }
    }

    /// Serves until nobody has come for a while.
    async fn serve(&self, mut link: Link, mut job: Job, jobs: &mut mpsc::Receiver<Job>) {
        let mut failed: Option<Arc<Session>> = None;
        loop {
            let Job { mut streams, limit, answer } = job;
            streams.sort_unstable();
            streams.dedup();
            let found = session(&mut link, failed.as_ref()).await;
            let outcome = match found {
                Err(error) => Err(unavailable(error)),
                Ok(session) => self.all(&session, &streams, limit).await.map_err(|error| {
                    if is_of_a_standby(&error) {
                        session.discard();
                    }
                    failed = Some(session).filter(|session| session.is_gone());
                    unavailable(error)
                }),
            };
            // Whoever asked may have gone; what was moved was moved all the same.
            let _ = answer.send(outcome);
            match tokio::time::timeout(IDLE, jobs.recv()).await {
                Ok(Some(next)) => job = next,
                Ok(None) | Err(_) => return,
            }
        }
    }

    /// Moves in slices, each a transaction.
    async fn all(&self, session: &Session, streams: &[StreamId], most: usize) -> Result<Archived, Error> {
        let streams: Vec<&str> = streams.iter().map(StreamId::as_str).collect();
        let slice = session.statement(&self.slice).await?;
        let mut done = Archived::default();
        let left = |done: &Archived| most.saturating_sub(usize::try_from(done.events).unwrap_or(most));
        while left(&done) > 0 {
            let most = limit(left(&done).min(SLICE));
            let row = session.client.query_one(&slice, &[&streams, &most]).await?;
            let (events, bytes) = (unsigned(row.try_get(0)?), unsigned(row.try_get(1)?));
            if events == 0 {
                return Ok(done);
            }
            done.events += events;
            done.bytes += bytes;
        }
        let more = session.statement(&self.more).await?;
        done.more = session.client.query_one(&more, &[&streams]).await?.try_get(0)?;
        Ok(done)
    }
}
