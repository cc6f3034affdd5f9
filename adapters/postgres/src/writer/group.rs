//! A group of commits on its way through one transaction: two round trips, one that asks and one that writes.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::Arc;

use futures_util::future::{MaybeDone, join, join_all, maybe_done};
use futures_util::poll;
use purlin::message::Timestamp;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Error, Row, Statement};

use super::decision::{Asked, Decision, EventTags, Known, Put};
use super::{Outcome, Queued, Writer};
use crate::codec::{Text, signed, unsigned};
use crate::collection::{Column, Table};
use crate::error::{is_lost, is_stale};
use crate::link::Session;
use crate::schema::Last;
use crate::shared::Tables;
use crate::tag::Criteria;

/// After so many transactions the rows of earlier ones are removed.
const SWEEP: i64 = 64;

/// After so many, those of writers that are gone; a writer that is not has a row that is younger than [`DEAD`].
const SWEEP_DEAD: i64 = 4096;

/// Microseconds after which a row is one of a writer that is gone.
const DEAD: i64 = 24 * 3600 * 1_000_000;

/// Why a group was not committed, or is not known to be.
pub(super) enum Failed {
    /// The collections have been changed by another process. Nothing was written.
    Stale,
    /// Nothing was sent that could have been committed.
    NotSent(Error),
    /// The server refused: the transaction is rolled back.
    Refused(Error),
    /// The connection was lost while the transaction was on its way: what is true if it happened.
    Unknown(Box<Done>, Error),
}

/// What is true when the transaction happened.
pub(super) struct Done {
    /// The transaction's number.
    pub(super) batch: i64,
    /// Whether any commit was applied.
    pub(super) applied: bool,
    pub(super) position: u64,
    pub(super) revision: u64,
    pub(super) outcomes: Vec<Outcome>,
}

/// A statement and its values.
struct Send<'a> {
    statement: Statement,
    values: Vec<Box<dyn ToSql + Sync + std::marker::Send + 'a>>,
}

impl Send<'_> {
    async fn execute(&self, session: &Session) -> Result<u64, Error> {
        let values: Vec<&(dyn ToSql + Sync)> = self.values.iter().map(|value| &**value as _).collect();
        session.client.execute(&self.statement, &values).await
    }
}

impl Writer {
    /// Sends a group; those who wait meanwhile are refused when it takes too long.
    pub(super) async fn send(&mut self, session: &Arc<Session>, group: &[Queued]) -> Result<Done, Failed> {
        let tables = self.shared.tables();
        let now = self.clock.now();
        self.batch += 1;
        let mut transaction = Transaction {
            sql: &self.sql,
            session,
            tables: &tables,
            writer: self.shared.writer,
            batch: self.batch,
            swept: self.swept,
        };
        let done = self.waiting.beside(transaction.run(group, now)).await;
        self.swept = transaction.swept;
        done
    }
}

/// One transaction.
struct Transaction<'a> {
    sql: &'a super::Statements,
    session: &'a Session,
    tables: &'a Tables,
    writer: purlin::message::Uuid,
    batch: i64,
    swept: i64,
}

impl Transaction<'_> {
    async fn run(&mut self, group: &[Queued], now: Timestamp) -> Result<Done, Failed> {
        let asked = Asked::by(group.iter().map(|queued| &queued.commit), self.tables);
        self.prepare(&asked).await.map_err(not_sent)?;
        let known = self.ask(&asked, now).await?;
        let decision = Decision::of(group.iter().map(|queued| &queued.commit), known, self.tables);
        if !decision.applied {
            // What the commits met was true under the lock; there is nothing to write.
            let ended = self.session.client.batch_execute("ROLLBACK").await;
            if ended.is_err() {
                self.session.discard();
            }
            return Ok(self.done(decision));
        }
        let sends = self.writes(&decision).await.map_err(Failed::NotSent)?;
        match self.write(&sends).await {
            Ok(()) => {
                drop(sends);
                Ok(self.done(decision))
            }
            Err(Written::NotSent(error)) => Err(Failed::NotSent(error)),
            Err(Written::Refused(error)) => Err(Failed::Refused(error)),
            Err(Written::Unknown(error)) => {
                drop(sends);
                Err(Failed::Unknown(Box::new(self.done(decision)), error))
            }
        }
    }

    fn done(&self, decision: Decision<'_>) -> Done {
        let (position, revision) = (decision.position(), decision.revision());
        let (applied, outcomes) = (decision.applied, decision.outcomes);
        Done { batch: self.batch, applied, position, revision, outcomes }
    }

    /// Prepares what the session does not know yet, so that nothing is prepared under the lock.
    async fn prepare(&self, asked: &Asked<'_>) -> Result<(), Error> {
        let sql = self.sql;
        if !asked.criteria.first.is_empty() {
            self.session.statement(&sql.excluded).await?;
        }
        for statement in
            [&sql.last, &sql.heads, &sql.events, &sql.tags, &sql.batch, &sql.sweep, &sql.sweep_dead]
        {
            self.session.statement(statement).await?;
        }
        for collection in asked.keys.keys().chain(&asked.written) {
            if let Some(table) = self.tables.named.get(*collection) {
                for statement in [&table.revisions, &table.put, &table.delete] {
                    self.session.statement(statement).await?;
                }
            }
        }
        Ok(())
    }

    /// The first round trip: takes the lock, and reads what the commits expect.
    async fn ask<'a>(&self, asked: &Asked<'a>, now: Timestamp) -> Result<Known<'a>, Failed> {
        let (session, client) = (self.session, &self.session.client);
        let last = session.statement(&self.sql.last).await.map_err(Failed::NotSent)?;
        let heads = session.statement(&self.sql.heads).await.map_err(Failed::NotSent)?;
        let mut revisions = Vec::new();
        for (collection, keys) in &asked.keys {
            let statement = session.statement(&self.tables.named[*collection].revisions).await;
            revisions.push((statement.map_err(not_sent)?, keys));
        }
        let criteria = &asked.criteria;
        let excluded = match criteria.first.is_empty() {
            true => None,
            false => Some(session.statement(&self.sql.excluded).await.map_err(Failed::NotSent)?),
        };
        let begin = client.batch_execute(&self.sql.begin);
        let last = client.query_one(&last, &[]);
        let heads = async {
            match asked.streams.is_empty() {
                true => Ok(Vec::new()),
                false => client.query(&heads, &[&asked.streams]).await,
            }
        };
        let revisions =
            revisions.iter().map(|(statement, keys)| async move { client.query(statement, &[keys]).await });
        let excluded = async {
            match &excluded {
                None => Ok(Vec::new()),
                Some(statement) => {
                    let Criteria { first, rest, kinds, after } = criteria;
                    client.query(statement, &[first, rest, kinds, after]).await
                }
            }
        };
        let (begun, (last, (heads, (excluded, revisions)))) =
            join(begin, join(last, join(heads, join(excluded, join_all(revisions))))).await;
        begun.map_err(Failed::NotSent)?;
        let last = last.and_then(|row| Last::of(&row)).map_err(Failed::NotSent)?;
        let revisions = revisions.into_iter().collect::<Result<Vec<_>, _>>();
        let stale = revisions.as_ref().is_err_and(is_stale);
        if stale || last.generation != self.tables.generation {
            client.batch_execute("ROLLBACK").await.map_err(Failed::NotSent)?;
            return Err(Failed::Stale);
        }
        let known = || {
            let numbers = |rows: &[Row]| {
                let number = |row: &Row| Ok(row.try_get::<_, Option<i64>>(0)?.map(unsigned));
                rows.iter().map(number).collect::<Result<Vec<Option<u64>>, Error>>()
            };
            let heads = numbers(&heads?)?.into_iter().map(Option::unwrap_or_default);
            let mut all = HashMap::new();
            for ((collection, keys), rows) in asked.keys.iter().zip(revisions?) {
                let found: HashMap<&str, Option<u64>> = keys.iter().copied().zip(numbers(&rows)?).collect();
                all.insert(*collection, found);
            }
            let time = |at: Option<i64>| at.and_then(|at| Timestamp::from_microsecond(at).ok());
            Ok::<_, Error>(Known {
                position: last.position,
                revision: last.revision,
                at: time(last.at).map_or(now, |at| at.max(now)),
                last: time(last.event_at).unwrap_or_default(),
                versions: asked.streams.iter().copied().zip(heads).collect(),
                revisions: all,
                excluded: numbers(&excluded?)?.into(),
            })
        };
        known().map_err(Failed::NotSent)
    }

    /// The statements that write what was decided.
    async fn writes<'a>(&mut self, decision: &'a Decision<'a>) -> Result<Vec<Send<'a>>, Error> {
        let (session, sql) = (self.session, self.sql);
        let (at, revision) = (decision.at().as_microsecond(), signed(decision.revision()));
        let mut sends = vec![Send {
            statement: session.statement(&sql.batch).await?,
            values: vec![Box::new(self.writer), Box::new(self.batch), Box::new(at), Box::new(revision)],
        }];
        let events = &decision.events;
        if !events.ids.is_empty() {
            let before = signed(decision.position()) - signed(events.ids.len() as u64);
            sends.push(Send {
                statement: session.statement(&sql.events).await?,
                values: vec![
                    Box::new(before),
                    Box::new(&events.ats),
                    Box::new(&events.streams),
                    Box::new(&events.versions),
                    Box::new(&events.kinds),
                    Box::new(&events.ids),
                    Box::new(&events.schemas),
                    Box::new(&events.publics),
                    Box::new(&events.metas),
                    Box::new(&events.data),
                ],
            });
        }
        if !events.tags.tags.is_empty() {
            let EventTags { tags, positions, kinds } = &events.tags;
            sends.push(Send {
                statement: session.statement(&sql.tags).await?,
                values: vec![Box::new(tags), Box::new(positions), Box::new(kinds)],
            });
        }
        for (collection, records) in &decision.records {
            let table = &self.tables.named[*collection];
            let puts: Vec<_> = records.iter().filter_map(|(key, put)| Some((*key, put.as_ref()?))).collect();
            if !puts.is_empty() {
                let statement = session.statement(&table.put).await?;
                sends.push(Send { statement, values: put_values(table, &puts) });
            }
            let gone: Vec<&str> =
                records.iter().filter(|(_, put)| put.is_none()).map(|(key, _)| *key).collect();
            if !gone.is_empty() {
                let statement = session.statement(&table.delete).await?;
                sends.push(Send { statement, values: vec![Box::new(gone)] });
            }
        }
        if self.batch - self.swept >= SWEEP {
            sends.push(Send {
                statement: session.statement(&sql.sweep).await?,
                values: vec![Box::new(self.writer), Box::new(self.swept), Box::new(self.batch)],
            });
            self.swept = self.batch;
        }
        if self.batch % SWEEP_DEAD == 1 {
            sends.push(Send {
                statement: session.statement(&sql.sweep_dead).await?,
                values: vec![Box::new(at - DEAD), Box::new(self.writer)],
            });
        }
        Ok(sends)
    }

    /// The second round trip: writes, and commits.
    async fn write(&self, sends: &[Send<'_>]) -> Result<(), Written> {
        let mut written: Vec<Pin<Box<MaybeDone<_>>>> =
            sends.iter().map(|send| Box::pin(maybe_done(send.execute(self.session)))).collect();
        // What the client itself refuses is not sent, and COMMIT would make the rest true.
        for one in &mut written {
            let _ = poll!(one.as_mut());
            if let Some(Err(_)) = one.as_mut().output_mut()
                && let Some(Err(error)) = one.as_mut().take_output()
            {
                return Err(Written::NotSent(error));
            }
        }
        let commit = self.session.client.batch_execute("COMMIT");
        let (_, committed) = join(join_all(written.iter_mut().map(Pin::as_mut)), commit).await;
        let mut lost = None;
        for one in &mut written {
            match one.as_mut().take_output() {
                Some(Err(error)) if is_lost(&error) || error.as_db_error().is_none() => lost = Some(error),
                // The transaction was aborted, whatever became of the connection afterwards.
                Some(Err(error)) => return Err(Written::Refused(error)),
                Some(Ok(_)) | None => {}
            }
        }
        match (lost, committed) {
            (None, Ok(())) => Ok(()),
            (Some(error), _) | (None, Err(error)) => Err(Written::Unknown(error)),
        }
    }
}

/// Why the second round trip failed.
enum Written {
    NotSent(Error),
    Refused(Error),
    Unknown(Error),
}

fn not_sent(error: Error) -> Failed {
    if is_stale(&error) { Failed::Stale } else { Failed::NotSent(error) }
}

/// The values of a put: a column each.
fn put_values<'a>(
    table: &Table,
    puts: &[(&'a str, &'a Put<'a>)],
) -> Vec<Box<dyn ToSql + Sync + std::marker::Send + 'a>> {
    let each = |of: fn(&Put<'_>) -> i64| puts.iter().map(|(_, put)| of(put)).collect::<Vec<i64>>();
    let due = puts.iter().map(|(_, put)| put.due.map(|due| due.as_microsecond())).collect::<Vec<_>>();
    let mut values: Vec<Box<dyn ToSql + Sync + std::marker::Send + 'a>> = vec![
        Box::new(puts.iter().map(|(key, _)| *key).collect::<Vec<_>>()),
        Box::new(each(|put| signed(put.revision))),
        Box::new(each(|put| signed(put.position))),
        Box::new(due),
        Box::new(puts.iter().map(|(_, put)| Text(put.value)).collect::<Vec<_>>()),
    ];
    for column in Column::all(table, puts.iter().map(|(_, put)| (put.value.as_ref(), put.fields))) {
        values.push(column.into_sql());
    }
    values
}
