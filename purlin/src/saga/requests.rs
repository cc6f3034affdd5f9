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
    let known = writer.row.state == SagaState::Blocked && writer.row.reason.as_ref() == Some(&why);
    let mut effect = Commit::new();
    for record in requests(&writer.store, id).await? {
        if writer.consumed.iter().any(|(key, _)| *key == record.key) {
            continue;
        }
        let expected = Revision::Exact(record.revision);
        match record.decode::<Request>()?.asked() {
            Request::Retry => effect = effect.delete::<Request>(&record.key, expected),
            // It waits, without being found by every look at what is due.
            other if record.due.is_some() => {
                effect = effect.put_expecting(&record.key, &other, expected, None);
            }
            _ => {}
        }
    }
    if known && effect.is_empty() {
        return Err(Stop::Rest);
    }
    tracing::error!(saga = %id, why, "blocked");
    (writer.row.state, writer.row.reason, writer.dirty) = (SagaState::Blocked, Some(why), true);
    match writer.commit(&[], None, effect).await {
        Ok(_) => Err(Stop::Rest),
        Err(Refused::Mine(error)) => Err(Stop::Lost(error)),
        Err(refused) => Err(Stop::Unwritable(refused.into_error())),
    }
}

/// What was asked of a saga from outside and is not taken note of.
pub(super) async fn requests(store: &Store, id: Uuid) -> Result<Vec<Record>, Stop> {
    let query = Query::all().prefix(format!("{id}/")).limit(100);
    Ok(store.list::<Request>(query).await?.records)
}

/// How long what was asked of a saga that is not there is kept: its start may be on its way.
const EARLY: Duration = Duration::from_secs(24 * 3600);

/// Keeps what was asked of a saga that is not there yet, out of the way of what is due; once it is too old, drops it.
pub(super) async fn keep_early(store: &Store, id: Uuid, now: Timestamp) -> Result<(), Stop> {
    let mut commit = Commit::new();
    for record in requests(store, id).await? {
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
    if !commit.is_empty() {
        store.commit(commit).await.map_err(Stop::Lost)?;
    }
    Ok(())
}

/// Nobody will take note of what is asked of a saga that is over.
pub(super) async fn drop_requests(store: &Store, id: Uuid) -> Result<(), Stop> {
    let mut commit = Commit::new();
    for record in requests(store, id).await? {
        commit = commit.delete::<Request>(&record.key, Revision::Exact(record.revision));
    }
    if !commit.is_empty() {
        store.commit(commit).await.map_err(Stop::Lost)?;
    }
    Ok(())
}
