//! What is asked of a saga from outside, and what becomes of it when the saga cannot take note of it.

use std::time::Duration;

use uuid::Uuid;

use crate::message::Timestamp;
use crate::store::{Commit, Query, Record, Revision, Store};

use super::SagaState;
use super::desk::Mailbox;
use super::record::Request;
use super::writer::{Refused, Stop, Writer};

/// Takes a saga out of service until its function fits again; nothing of it is harmed.
pub(super) async fn block(writer: &mut Writer, id: Uuid, mailbox: &Mailbox, why: String) -> Result<(), Stop> {
    mailbox.take();
    let mut asked = Asked::of(id);
    while let Some(records) = asked.next(&writer.store).await? {
        let effect = set_aside(&writer.consumed, &records)?;
        let known = writer.row.state == SagaState::Blocked && writer.row.reason.as_ref() == Some(&why);
        if known && effect.is_empty() {
            continue;
        }
        if !known {
            tracing::error!(saga = %id, why, "blocked");
            (writer.row.state, writer.row.reason) = (SagaState::Blocked, Some(why.clone()));
        }
        writer.dirty = true;
        writer.commit(&[], None, effect).await.map_err(|refused| match refused {
            Refused::Mine(error) => Stop::Lost(error),
            refused => Stop::Unwritable(refused.into_error()),
        })?;
    }
    Err(Stop::Rest)
}

/// What was asked of a blocked saga waits, without being found by every look at what is due.
fn set_aside(consumed: &[(String, u64)], records: &[Record]) -> Result<Commit, Stop> {
    let mut effect = Commit::new();
    for record in records.iter().filter(|record| !consumed.iter().any(|(key, _)| *key == record.key)) {
        let expected = Revision::Exact(record.revision);
        match record.decode::<Request>()?.asked() {
            Request::Retry => effect = effect.delete::<Request>(&record.key, expected),
            other if record.due.is_some() => {
                effect = effect.put_expecting(&record.key, &other, expected, None);
            }
            _ => {}
        }
    }
    Ok(effect)
}

/// What was asked of a saga from outside and is not taken note of, so much at a time as one commit can write anew.
pub(super) struct Asked {
    id: Uuid,
    /// Read, and not looked at yet.
    read: Vec<Record>,
    /// Behind which one the next page begins; none: there is no next page.
    after: Option<Option<String>>,
}

impl Asked {
    /// How many are read at a time.
    const PAGE: usize = 100;
    /// How many bytes are looked at at a time, give or take one request.
    const BYTES: usize = 4 << 20;

    pub(super) fn of(id: Uuid) -> Self {
        Self { id, read: Vec::new(), after: Some(None) }
    }

    /// The next of them; the first time there may be none.
    pub(super) async fn next(&mut self, store: &Store) -> Result<Option<Vec<Record>>, Stop> {
        if self.read.is_empty() {
            let Some(after) = self.after.take() else { return Ok(None) };
            let query = Query::all().prefix(format!("{}/", self.id)).limit(Self::PAGE).after(after);
            let page = store.list::<Request>(query).await?;
            (self.read, self.after) = (page.records, page.next.map(Some));
        }
        let mut bytes = 0;
        let fits = self.read.iter().take_while(|record| {
            let room = bytes < Self::BYTES;
            bytes += record.value.len();
            room
        });
        let rest = self.read.split_off(fits.count());
        Ok(Some(std::mem::replace(&mut self.read, rest)))
    }
}

/// How long what was asked of a saga that is not there is kept: its start may be on its way.
const EARLY: Duration = Duration::from_secs(24 * 3600);

/// Keeps what was asked of a saga that is not there yet, out of the way of what is due; once it is too old, drops it.
pub(super) async fn keep_early(store: &Store, id: Uuid, now: Timestamp) -> Result<(), Stop> {
    let mut asked = Asked::of(id);
    while let Some(records) = asked.next(store).await? {
        commit(store, keep(&records, id, now)?).await?;
    }
    Ok(())
}

fn keep(records: &[Record], id: Uuid, now: Timestamp) -> Result<Commit, Stop> {
    let mut commit = Commit::new();
    for record in records {
        let expected = Revision::Exact(record.revision);
        commit = match record.decode()? {
            Request::Early { until, .. } if until > now => commit,
            Request::Early { .. } => {
                tracing::warn!(saga = %id, request = record.key, "a request is dropped: its saga was never started");
                commit.delete::<Request>(&record.key, expected)
            }
            request => {
                let until = now.checked_add(EARLY).unwrap_or(Timestamp::MAX);
                let early = Request::Early { until, asked: Box::new(request) };
                commit.put_expecting(&record.key, &early, expected, Some(until))
            }
        };
    }
    Ok(commit)
}

/// Nobody will take note of what is asked of a saga that is over.
pub(super) async fn drop_requests(store: &Store, id: Uuid) -> Result<(), Stop> {
    let mut asked = Asked::of(id);
    while let Some(records) = asked.next(store).await? {
        let dropped = records.iter().fold(Commit::new(), |dropped, record| {
            dropped.delete::<Request>(&record.key, Revision::Exact(record.revision))
        });
        commit(store, dropped).await?;
    }
    Ok(())
}

async fn commit(store: &Store, commit: Commit) -> Result<(), Stop> {
    if !commit.is_empty() {
        store.commit(commit).await.map_err(Stop::Lost)?;
    }
    Ok(())
}
