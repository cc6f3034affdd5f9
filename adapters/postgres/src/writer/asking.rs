//! A group in two round trips: one asks, with the lock in hand, and one writes.

use std::collections::HashMap;

use futures_util::future::{join, join_all};
use purlin::message::Timestamp;
use tokio_postgres::{Error, Row};

use super::Queued;
use super::decision::{Asked, Decision, Known};
use super::group::{DEAD, Done, Failed, Transaction};
use super::write::{Send, Value, Written, send_all};
use crate::codec::{signed, unsigned};
use crate::error::is_stale;
use crate::schema::Last;
use crate::tag::Criteria;

impl Transaction {
    /// Asks, decides, writes.
    pub(super) async fn ask_and_write(
        &mut self,
        group: &[Queued],
        asked: &Asked<'_>,
        now: Timestamp,
    ) -> Result<Done, Failed> {
        self.prepare(asked).await.map_err(not_sent)?;
        let known = self.ask(asked, now).await?;
        let alone = self.heads.borrow_mut().met(known.revision);
        let decision = Decision::of(group.iter().map(|queued| &queued.commit), known, &self.tables);
        if !decision.applied {
            // What the commits met was true under the lock; there is nothing to write.
            let ended = self.session.client.batch_execute("ROLLBACK").await;
            if ended.is_err() {
                self.session.discard();
            }
            self.heads.borrow_mut().learn(&decision, alone);
            return Ok(self.done(decision));
        }
        let sends = self.all_writes(&decision).await.map_err(Failed::NotSent)?;
        let written = match group {
            [queued] if queued.changes_collections() => self.write_and_change(&sends, &queued.commit).await,
            _ => send_all(&self.session, None, &sends).await.map(drop),
        };
        drop(sends);
        match written {
            Ok(()) => {
                if self.sweeps() {
                    self.swept = self.landed;
                }
                self.heads.borrow_mut().learn(&decision, alone);
                Ok(self.done(decision))
            }
            Err(Written::NotSent(error)) => Err(Failed::NotSent(error)),
            Err(Written::Refused(error)) => Err(Failed::Refused(error)),
            Err(Written::Unknown(error)) => Err(Failed::Unknown(Box::new(self.done(decision)), error)),
        }
    }

    /// The statements that write what was decided, the group's number first.
    async fn all_writes<'a>(&self, decision: &'a Decision<'a>) -> Result<Vec<Send<'a>>, Error> {
        let (session, sql) = (&self.session, &self.sql);
        let (at, revision) = (decision.at().as_microsecond(), signed(decision.revision()));
        let values: Vec<Value<'a>> =
            vec![Box::new(self.writer), Box::new(self.batch), Box::new(at), Box::new(revision)];
        let mut sends = vec![Send { statement: session.statement(&sql.batch).await?, values }];
        self.write_events(decision, &mut sends).await?;
        self.write_records(decision, &mut sends).await?;
        if self.sweeps() {
            let values: Vec<Value<'a>> =
                vec![Box::new(self.writer), Box::new(self.swept), Box::new(self.landed)];
            sends.push(Send { statement: session.statement(&sql.sweep).await?, values });
        }
        if self.sweeps_dead {
            let values: Vec<Value<'a>> = vec![Box::new(at - DEAD), Box::new(self.writer)];
            sends.push(Send { statement: session.statement(&sql.sweep_dead).await?, values });
        }
        Ok(sends)
    }

    /// Prepares what the session does not know yet, so that nothing is prepared under the lock.
    async fn prepare(&self, asked: &Asked<'_>) -> Result<(), Error> {
        let sql = &self.sql;
        if asked.tags || !asked.criteria.first.is_empty() {
            for statement in [&sql.excluded, &sql.tags] {
                self.session.statement(statement).await?;
            }
        }
        for statement in [&sql.last, &sql.heads, &sql.events, &sql.batch, &sql.sweep, &sql.sweep_dead] {
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
        let (session, client) = (&self.session, &self.session.client);
        let last = session.statement(&self.sql.last).await.map_err(Failed::NotSent)?;
        let heads = session.statement(&self.sql.heads).await.map_err(Failed::NotSent)?;
        let mut revisions = Vec::new();
        for (collection, keys) in &asked.keys {
            let statement = session.statement(&self.tables.named[*collection].revisions).await;
            let keys: Vec<&str> = keys.iter().map(|(key, _)| *key).collect();
            revisions.push((statement.map_err(not_sent)?, keys));
        }
        let criteria = &asked.criteria;
        let excluded = match criteria.first.is_empty() {
            true => None,
            false => Some(session.statement(&self.sql.excluded).await.map_err(Failed::NotSent)?),
        };
        let excluded = async {
            match &excluded {
                None => Ok(Vec::new()),
                Some(statement) => {
                    let Criteria { first, rest, kinds, after } = criteria;
                    client.query(statement, &[first, rest, kinds, after]).await
                }
            }
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
                let keys = keys.iter().map(|(key, _)| *key);
                let found: HashMap<&str, Option<u64>> = keys.zip(numbers(&rows)?).collect();
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
}

fn not_sent(error: Error) -> Failed {
    if is_stale(&error) { Failed::Stale } else { Failed::NotSent(error) }
}
