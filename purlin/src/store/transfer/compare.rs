//! Whether two stores hold the same.

use super::unfinished::is_mark;
use super::{Moved, Progress};
use crate::store::{LogFilter, LogPage, Position, Query, ReadError, Record, Recorded, Store};

/// Events, or records, that are read at once.
const PAGE: usize = 512;

/// Two stores are not the same, or that could not be found out.
#[derive(Debug, thiserror::Error)]
pub enum CompareError {
    /// They differ.
    #[error("the stores differ: {0}")]
    Differs(String),
    /// One of them cannot be read.
    #[error("a store cannot be read")]
    Read(#[from] ReadError),
}

/// Reads two stores beside each other, all events and all records: whether they are the same log with the same events
/// at the same positions and times, the same collections, and the same records in them (but for their revisions).
pub async fn compare(
    one: &Store,
    other: &Store,
    mut progress: impl FnMut(Progress),
) -> Result<Moved, CompareError> {
    // Personal data are compared as they are at rest.
    let (one, other) = (&one.sealed(), &other.sealed());
    same("the identity of the log", &one.log_id(), &other.log_id())?;
    same("the last position", &one.head(), &other.head())?;
    let head = one.head();
    let mut told = Progress { of: head.0, ..Progress::default() };
    let mut after = Position::START;
    while after < head {
        let page = one.read_known(after, &LogFilter::all(), PAGE).await?;
        for event in &page.events {
            told.bytes += event.envelope.data.len() as u64;
        }
        same_events(&page, other, after).await?;
        after = page.through;
        told.events = after.0.min(head.0);
        progress(told);
    }
    let (mut here, mut there) = (one.collections().await?, other.collections().await?);
    here.retain(|collection| !is_mark(&collection.name));
    there.retain(|collection| !is_mark(&collection.name));
    same("the collections", &here, &there)?;
    for collection in here {
        let mut after = None;
        loop {
            let query = Query::all().after(after).limit(PAGE);
            let page = one.list_records(&collection.name, query.clone()).await?;
            let twin = other.list_records(&collection.name, query).await?;
            for (record, twin) in page.records.iter().zip(&twin.records) {
                let what = format!("the record `{}` of `{}`", record.key, collection.name);
                same(&what, &part_of(record), &part_of(twin))?;
            }
            let what = format!("the number of records of `{}`", collection.name);
            same(&what, &page.records.len(), &twin.records.len())?;
            told.records += page.records.len() as u64;
            progress(told);
            after = page.next;
            if after.is_none() {
                break;
            }
        }
    }
    Ok(Moved { events: told.events, records: told.records, bytes: told.bytes })
}

/// Whether the other store has the same events behind a position.
async fn same_events(page: &LogPage, other: &Store, mut after: Position) -> Result<(), CompareError> {
    let mut wanted = &page.events[..];
    while after < page.through {
        let twin = other.read_known(after, &LogFilter::all(), wanted.len().max(1)).await?;
        let events: Vec<&Recorded> =
            twin.events.iter().filter(|event| event.position <= page.through).collect();
        let (now, rest) = wanted.split_at(events.len().min(wanted.len()));
        for (event, twin) in now.iter().zip(&events) {
            same(&format!("the event at {}", event.position), event, *twin)?;
        }
        if events.len() > now.len() || (twin.through >= page.through && !rest.is_empty()) {
            return Err(CompareError::Differs(format!("the events between {after} and {}", page.through)));
        }
        (wanted, after) = (rest, twin.through);
    }
    Ok(())
}

/// All of a record but its revision, and where the log was when it was written.
fn part_of(record: &Record) -> (&str, Option<crate::message::Timestamp>, &[u8]) {
    (&record.key, record.due, &record.value)
}

fn same<T: PartialEq + std::fmt::Debug>(what: &str, one: &T, other: &T) -> Result<(), CompareError> {
    if one == other {
        return Ok(());
    }
    let cut = |value: &T| format!("{value:?}").chars().take(300).collect::<String>();
    Err(CompareError::Differs(format!("{what} is {} here and {} there", cut(one), cut(other))))
}
