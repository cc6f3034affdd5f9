//! What is sent of a group: statements with their values, in one flight up to COMMIT.

use std::pin::{Pin, pin};

use futures_util::future::{MaybeDone, join, join_all, maybe_done};
use futures_util::poll;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Error, Statement};

use super::decision::{Decision, EventTags, Put};
use super::group::Transaction;
use crate::codec::{Text, signed};
use crate::collection::{Column, Table};
use crate::error::is_lost;
use crate::link::Session;

/// A value of a statement.
pub(super) type Value<'a> = Box<dyn ToSql + Sync + std::marker::Send + 'a>;

/// A statement and its values.
pub(super) struct Send<'a> {
    pub(super) statement: Statement,
    pub(super) values: Vec<Value<'a>>,
}

/// Why what was sent did not come to its end.
pub(super) enum Written {
    /// It was not sent whole; nothing can have been committed.
    NotSent(Error),
    /// The server refused: the transaction is rolled back.
    Refused(Error),
    /// The connection was lost, and it is not known whether it happened.
    Unknown(Error),
}

impl Send<'_> {
    /// Runs it, and tells how many rows it gave or wrote.
    pub(super) async fn execute(&self, session: &Session) -> Result<u64, Error> {
        let values: Vec<&(dyn ToSql + Sync)> = self.values.iter().map(|value| &**value as _).collect();
        session.client.execute(&self.statement, &values).await
    }
}

/// Sends all in one flight, `begin` before and COMMIT behind, and tells of how many rows each spoke.
pub(super) async fn send_all(
    session: &Session,
    begin: Option<&str>,
    sends: &[Send<'_>],
) -> Result<Vec<u64>, Written> {
    let begun = async {
        match begin {
            Some(begin) => session.client.batch_execute(begin).await,
            None => Ok(()),
        }
    };
    let mut begun = pin!(maybe_done(begun));
    let _ = poll!(begun.as_mut());
    let mut written: Vec<Pin<Box<MaybeDone<_>>>> =
        sends.iter().map(|send| Box::pin(maybe_done(send.execute(session)))).collect();
    // What the client itself refuses is not sent, and COMMIT would make the rest true.
    for one in &mut written {
        let _ = poll!(one.as_mut());
        if let Some(Err(_)) = one.as_mut().output_mut()
            && let Some(Err(error)) = one.as_mut().take_output()
        {
            return Err(Written::NotSent(error));
        }
    }
    let commit = session.client.batch_execute("COMMIT");
    let all = join(join_all(written.iter_mut().map(Pin::as_mut)), commit);
    let (_, (_, committed)) = join(begun.as_mut(), all).await;
    let (mut lost, mut counts) = (None, Vec::with_capacity(sends.len()));
    let begun = begun.take_output().unwrap_or(Ok(())).map(|()| 0);
    let outputs = written.iter_mut().filter_map(|one| one.as_mut().take_output());
    for output in std::iter::once(begun).chain(outputs) {
        match output {
            Err(error) if is_lost(&error) || error.as_db_error().is_none() => lost = Some(error),
            // The transaction was aborted, whatever became of the connection afterwards.
            Err(error) => return Err(Written::Refused(error)),
            Ok(count) => counts.push(count),
        }
    }
    match (lost, committed) {
        (None, Ok(())) => Ok(counts.split_off(1)),
        (Some(error), _) | (None, Err(error)) => Err(Written::Unknown(error)),
    }
}

/// The position behind which the events of a group stand.
pub(super) fn before(decision: &Decision<'_>) -> i64 {
    signed(decision.position()) - signed(decision.events.ids.len() as u64)
}

impl Transaction {
    /// The statement that writes the events that were decided, if the group's number is written already.
    pub(super) async fn write_events<'a>(
        &self,
        decision: &'a Decision<'a>,
        sends: &mut Vec<Send<'a>>,
    ) -> Result<(), Error> {
        let events = &decision.events;
        if !events.ids.is_empty() {
            let values: Vec<Value<'a>> = vec![
                Box::new(before(decision)),
                Box::new(&events.ats),
                Box::new(&events.streams),
                Box::new(&events.versions),
                Box::new(&events.kinds),
                Box::new(&events.ids),
                Box::new(&events.schemas),
                Box::new(&events.publics),
                Box::new(&events.metas),
                Box::new(&events.data),
                Box::new(self.writer),
                Box::new(self.batch),
            ];
            sends.push(Send { statement: self.session.statement(&self.sql.events).await?, values });
        }
        let EventTags { tags, positions, kinds } = &events.tags;
        if !tags.is_empty() {
            let values: Vec<Value<'a>> = vec![Box::new(tags), Box::new(positions), Box::new(kinds)];
            sends.push(Send { statement: self.session.statement(&self.sql.tags).await?, values });
        }
        Ok(())
    }

    /// The statements that write the records that were decided; each as [`Transaction::write_events`].
    pub(super) async fn write_records<'a>(
        &self,
        decision: &'a Decision<'a>,
        sends: &mut Vec<Send<'a>>,
    ) -> Result<(), Error> {
        let session = &self.session;
        let guard = || -> [Value<'a>; 2] { [Box::new(self.writer), Box::new(self.batch)] };
        for (collection, records) in &decision.records {
            let table = &self.tables.named[*collection];
            let puts: Vec<_> = records.iter().filter_map(|(key, put)| Some((*key, put.as_ref()?))).collect();
            if !puts.is_empty() {
                let mut values: Vec<Value<'a>> = guard().into();
                values.extend(put_values(table, &puts));
                sends.push(Send { statement: session.statement(&table.put).await?, values });
            }
            let gone: Vec<&str> =
                records.iter().filter(|(_, put)| put.is_none()).map(|(key, _)| *key).collect();
            if !gone.is_empty() {
                let mut values: Vec<Value<'a>> = guard().into();
                values.push(Box::new(gone));
                sends.push(Send { statement: session.statement(&table.delete).await?, values });
            }
        }
        Ok(())
    }
}

/// The values of a put: a column each.
fn put_values<'a>(table: &Table, puts: &[(&'a str, &'a Put<'a>)]) -> Vec<Value<'a>> {
    let each = |of: fn(&Put<'_>) -> i64| puts.iter().map(|(_, put)| of(put)).collect::<Vec<i64>>();
    let due = puts.iter().map(|(_, put)| put.due.map(|due| due.as_microsecond())).collect::<Vec<_>>();
    let mut values: Vec<Value<'a>> = vec![
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
