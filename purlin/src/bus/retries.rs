//! Tries parked messages again when they are due: the first of each key, beside the lanes, so that neither a slow
//! retry nor its pauses hold up anything but its own key.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::message::Timestamp;
use crate::resilience::dice;
use crate::store::{Commit, Query, ReadError, Record, Row};

use super::backoff::Backoff;
use super::handling::Refused;
use super::lane::lost_every_race;
use super::parked::{self, ParkedKey, ParkedMessage, SeenKey};
use super::{Failure, Group, GroupError, Message};

/// How many keys are tried at a time.
const AT_ONCE: usize = 16;
/// After a look at what is due, the next one waits so long however much is written meanwhile.
const PAUSE: Duration = Duration::from_millis(10);

pub(super) async fn run(group: Arc<Group>, shutdown: CancellationToken) -> Result<(), GroupError> {
    let (mut watch, mut busy, mut tasks) = (group.store.watch(), HashSet::new(), JoinSet::new());
    while !shutdown.is_cancelled() {
        watch.borrow_and_update();
        let Some(look) = look(&group, &busy, &shutdown).await? else { break };
        for key in look.due {
            busy.insert(key.clone());
            tasks.spawn(retry_key(Arc::clone(&group), key, shutdown.clone()));
        }
        let next = async {
            match look.next {
                Some(pause) => tokio::time::sleep(pause).await,
                None => std::future::pending().await,
            }
        };
        let written = async {
            let _ = watch.changed().await;
            tokio::time::sleep(PAUSE).await;
        };
        tokio::select! {
            biased;
            () = shutdown.cancelled() => {}
            Some(ended) = tasks.join_next() => drop(busy.remove(&done(ended)?)),
            () = next => {}
            () = written => {}
        }
    }
    while let Some(ended) = tasks.join_next().await {
        done(ended)?;
    }
    Ok(())
}

/// The key whose retries a task is done with.
fn done(ended: Result<Result<String, GroupError>, tokio::task::JoinError>) -> Result<String, GroupError> {
    ended.map_err(|panic| GroupError::Panicked(panic.to_string()))?
}

/// Which keys are due and not being tried already, and how long until the next one is.
struct Look {
    due: Vec<String>,
    next: Option<Duration>,
}

async fn look(
    group: &Group,
    busy: &HashSet<String>,
    shutdown: &CancellationToken,
) -> Result<Option<Look>, GroupError> {
    let now = group.clock.now();
    let room = AT_ONCE.saturating_sub(busy.len());
    let wanted = busy.len() + room + 1;
    let Some(records) = group.read(shutdown, || first_due(group, wanted)).await? else { return Ok(None) };
    let mut look = Look { due: Vec::new(), next: None };
    for record in records {
        let (row, due): (ParkedKey, _) = (record.decode()?, record.due.unwrap_or(now));
        if busy.contains(&row.key) {
            continue;
        }
        if look.due.len() == room {
            // With no room left, the end of a retry is waited for.
            look.next = (room > 0 && due > now).then(|| until(due, now));
            break;
        }
        if due > now {
            look.next = Some(until(due, now));
            break;
        }
        look.due.push(row.key);
    }
    Ok(Some(look))
}

/// The `wanted` keys of the group that are due first, whatever other groups of the store have.
///
/// What is due first in the store is most often the group's own. Where it is not, the group's own keys are read instead
/// of more and more of the others'.
async fn first_due(group: &Group, wanted: usize) -> Result<Vec<Record>, ReadError> {
    let prefix = format!("{}/", group.name);
    let limit = 4 * wanted;
    let mut records = group.store.due::<ParkedKey>(Timestamp::MAX, limit).await?;
    let all = records.len() < limit;
    records.retain(|record| record.key.starts_with(&prefix));
    if !all && records.len() < wanted {
        records = own_due(group, &prefix).await?;
    }
    records.truncate(wanted);
    Ok(records)
}

/// All keys of the group that are due some time, the longest due first.
async fn own_due(group: &Group, prefix: &str) -> Result<Vec<Record>, ReadError> {
    let (mut records, mut after) = (Vec::new(), None);
    loop {
        let page =
            group.store.list::<ParkedKey>(Query::all().prefix(prefix).after(after).limit(1000)).await?;
        records.extend(page.records.into_iter().filter(|record| record.due.is_some()));
        after = page.next;
        if after.is_none() {
            records.sort_by(|a, b| (a.due, &a.key).cmp(&(b.due, &b.key)));
            return Ok(records);
        }
    }
}

fn until(due: Timestamp, now: Timestamp) -> Duration {
    Duration::try_from(due.duration_since(now)).unwrap_or_default().max(Duration::from_millis(1))
}

/// Tries the first message of a key, and the ones behind it for as long as they succeed.
async fn retry_key(
    group: Arc<Group>,
    key: String,
    shutdown: CancellationToken,
) -> Result<String, GroupError> {
    let retry = Retrying { group: &group, key: &key, shutdown: &shutdown };
    while !shutdown.is_cancelled() && retry.first().await? {}
    Ok(key)
}

struct Retrying<'a> {
    group: &'a Group,
    key: &'a str,
    shutdown: &'a CancellationToken,
}

impl Retrying<'_> {
    /// Tries the first message of the key if it is due; whether the one behind it may be tried at once.
    async fn first(&self) -> Result<bool, GroupError> {
        let Some(Some(mut seen)) = self.seen().await? else { return Ok(false) };
        if seen.due.is_none_or(|due| due > self.group.clock.now()) {
            return Ok(false);
        }
        let Some((parked, message)) = self.message(&seen).await? else { return Ok(false) };
        let mut races = Backoff::conflict();
        let mut outcome = self.group.attempt(&message).await;
        loop {
            let commit = match &outcome {
                Ok(effects) => self.settled(&seen).await?.map(|settled| settled.and(effects.clone())),
                Err(failure) => Some(self.failed(&seen, &parked, failure)),
            };
            let Some(commit) = commit else { return Ok(false) };
            match self.group.apply(&commit, self.shutdown).await {
                Ok(committed) if committed.repeated => outcome = Ok(Commit::new()),
                Ok(_) => {
                    if let (Ok(_), Some(gauges)) = (&outcome, &self.group.gauges) {
                        gauges.handled.inc();
                    }
                    return Ok(outcome.is_ok());
                }
                Err(Refused::Stopped) => return Ok(false),
                Err(Refused::Invalid(error)) => match outcome {
                    Ok(_) => outcome = Err(error.into()),
                    Err(_) => return Err(error.into()),
                },
                Err(Refused::Conflict(conflict)) => {
                    // A message that joined the key has changed its record, an operator may have.
                    let Some(Some(now)) = self.seen().await? else { return Ok(false) };
                    if now.row.head != seen.row.head {
                        return Ok(true);
                    }
                    let of_key = conflict.is_record(ParkedKey::COLLECTION, &self.key_id());
                    seen = now;
                    if outcome.is_ok() && !of_key {
                        outcome = match races.pause().await {
                            true => self.group.attempt(&message).await,
                            false => Err(lost_every_race(&conflict)),
                        };
                    }
                }
            }
        }
    }

    fn key_id(&self) -> String {
        parked::key_id(&self.group.name, self.key)
    }

    /// The key's record as it is now. The outer none: the group is to stop.
    async fn seen(&self) -> Result<Option<Option<SeenKey>>, GroupError> {
        let Self { group, key, shutdown } = self;
        group.read(shutdown, || SeenKey::read(&group.store, &group.name, key)).await
    }

    /// The first message of the key; none if an operator has dropped it by now, or the group is to stop.
    async fn message(&self, seen: &SeenKey) -> Result<Option<(ParkedMessage, Message)>, GroupError> {
        let id = parked::message_id(&self.group.name, seen.row.head);
        let read = || self.group.store.get::<ParkedMessage>(&id);
        let Some(Some(parked)) = self.group.read(self.shutdown, read).await? else { return Ok(None) };
        let message = parked.message.clone().message().map_err(|source| ReadError::Unreadable {
            what: format!("the parked message `{id}`"),
            source: source.into(),
        })?;
        Ok(Some((parked, message)))
    }

    /// The commit that takes the first message away; none when the group is to stop.
    async fn settled(&self, seen: &SeenKey) -> Result<Option<Commit>, GroupError> {
        let now = self.group.clock.now();
        self.group.read(self.shutdown, || seen.advance(&self.group.store, now)).await
    }

    /// The commit that records a failure.
    fn failed(&self, seen: &SeenKey, parked: &ParkedMessage, failure: &Failure) -> Commit {
        let (group, now) = (self.group, self.group.clock.now());
        let (key, due) = seen.row.clone().failed(&group.retry, failure.retry_after, now, dice());
        if due.is_none() {
            tracing::error!(
                group = &*group.name, subject = parked.subject, key = self.key, position = key.head.0,
                kind = %failure.kind, reason = failure.reason, "a message is dead: an operator must replay or drop it"
            );
        }
        let parked = parked.clone().failed(failure, now);
        let id = parked::message_id(&group.name, key.head);
        key.put(Commit::new(), seen.revision, due).put(id, &parked)
    }
}
