//! Lets a relay or a group go on with a log that it has refused: one that was restored, or has lost its end.

use std::collections::BTreeMap;

use crate::message::{Fault, FaultKind};
use crate::store::{Commit, CommitError, Limits, LogId, Position, Query, ReadError, Revision, Row, Store};

use super::mark::{self, GroupRecord};
use super::parked::{ParkedKey, ParkedMessage, SeenKey, message_id, position_of};
use super::relay::Cursor;
use super::{Follower, FollowerKind};

/// What it takes to let a follower go on with its log as it is now.
///
/// A log that was restored says the same as before up to where the backup ends, and may say anything behind it. Only a
/// person knows what became of what was published or handled from there on, so only a person says where to go on.
///
/// Nobody is set forward by that: who has not come as far as the position, or whose lane has not, goes on from where he
/// was, so that nothing is passed over.
#[derive(Debug, Clone)]
pub struct Acceptance {
    /// Up to here all counts as published, or handled: the position that was said, or an earlier one that the follower,
    /// or the lane of a group that is furthest behind, had come to.
    pub from: Position,
    /// How many messages of the group are parked behind the position. They are of the life of the log that has ended, and
    /// are dropped: what the log still says of them comes again.
    pub dropped: u64,
    store: Store,
    commit: Commit,
}

impl Acceptance {
    /// What is to be done so that a follower, whose progress is in `store`, goes on behind a position of the log `followed`.
    ///
    /// Everything behind the position is then published, or handled, even if that was done in the log's earlier life;
    /// nothing at or before it is that was before.
    pub async fn of(
        store: &Store,
        follower: &Follower,
        followed: &Store,
        after: Position,
    ) -> Result<Self, AcceptError> {
        let found = followed.log_id();
        if follower.log.log != found.log {
            return Err(AcceptError::Another { known: follower.log, found });
        }
        // Later than the follower was read: whoever is at work now has not come further than this.
        let head = followed.head_up_to(follower.furthest.max(after)).await?;
        if follower.log == found && follower.furthest <= head {
            return Err(AcceptError::Follows);
        }
        if after > head {
            return Err(AcceptError::Ahead { after, head });
        }
        let from = follower.position.min(after);
        let (commit, dropped) = match follower.kind {
            FollowerKind::Relay => (relay(store, follower, found, from).await?, 0),
            FollowerKind::Group => group(store, follower, found, after).await?,
        };
        Ok(Self { from, dropped, store: store.clone(), commit })
    }

    /// As [`Acceptance::of`], also where `followed` is another log altogether, which a service has begun since its store was
    /// lost. Only a relay can go on with one: it copies whatever the service says, from the position on that is said,
    /// while what a group has handled is of the log that is lost.
    pub async fn of_successor(
        store: &Store,
        follower: &Follower,
        followed: &Store,
        after: Position,
    ) -> Result<Self, AcceptError> {
        let found = followed.log_id();
        if follower.log.log == found.log || follower.kind != FollowerKind::Relay {
            return Self::of(store, follower, followed, after).await;
        }
        let head = followed.head_up_to(after).await?;
        if after > head {
            return Err(AcceptError::Ahead { after, head });
        }
        let commit = relay(store, follower, found, after).await?;
        Ok(Self { from: after, dropped: 0, store: store.clone(), commit })
    }

    /// Does it, unless somebody has changed something since it was looked at. Who follows notices when it is run next.
    pub async fn apply(self) -> Result<(), AcceptError> {
        Ok(self.store.commit(self.commit).await.map(drop)?)
    }
}

async fn relay(
    store: &Store,
    follower: &Follower,
    found: LogId,
    from: Position,
) -> Result<Commit, AcceptError> {
    let record = if_any(store.get_record(Cursor::COLLECTION, &follower.name).await)?;
    let record = record.ok_or_else(|| AcceptError::NotFound(follower.name.clone()))?;
    let known: Cursor = record.decode()?;
    if (known.log, known.position) != (follower.log, follower.position) {
        return Err(AcceptError::Moved(follower.name.clone()));
    }
    let cursor = Cursor { log: found, position: from };
    Ok(Commit::new().put_expecting(&follower.name, &cursor, Revision::Exact(record.revision), None))
}

async fn group(
    store: &Store,
    follower: &Follower,
    found: LogId,
    after: Position,
) -> Result<(Commit, u64), AcceptError> {
    let name = &follower.name;
    let record = if_any(store.get_record(GroupRecord::COLLECTION, name).await)?;
    let record = record.ok_or_else(|| AcceptError::NotFound(name.clone()))?;
    let known: GroupRecord = record.decode()?;
    let lanes = known.lanes();
    let marks = mark::marks(store, name, lanes).await?;
    if known.log != follower.log || mark::ends_of(&marks) != (follower.position, follower.furthest) {
        return Err(AcceptError::Moved(name.clone()));
    }
    let mut commit =
        Commit::new().put_expecting(name, &known.following(found), Revision::Exact(record.revision), None);
    for (lane, mark) in (0..lanes).zip(marks) {
        // A lane that has not come so far has yet to handle what is before the position.
        commit = commit.and(match mark.position > after {
            true => mark.moved(name, lane, after),
            false => mark.stays(name, lane),
        });
    }
    let mut dropped = BTreeMap::<String, u64>::new();
    for (position, key) in parked_behind(store, name, after).await? {
        commit = commit.delete::<ParkedMessage>(message_id(name, position), Revision::Any);
        *dropped.entry(key).or_default() += 1;
    }
    for (key, messages) in &dropped {
        let Some(SeenKey { row, revision, due }) = SeenKey::read(store, name, key).await? else { continue };
        // Those that stay come first in order.
        commit = match row.head > after {
            true => commit.delete::<ParkedKey>(super::parked::key_id(name, key), revision),
            false => {
                let count = row.count.saturating_sub(*messages).max(1);
                ParkedKey { count, ..row }.put(commit, revision, due)
            }
        };
    }
    let dropped = dropped.values().sum();
    if commit.writes.len() + commit.requirements.len() > Limits::default().items {
        return Err(AcceptError::TooManyParked(dropped));
    }
    Ok((commit, dropped))
}

/// The parked messages of a group behind a position, with their keys.
async fn parked_behind(
    store: &Store,
    group: &str,
    after: Position,
) -> Result<Vec<(Position, String)>, ReadError> {
    let (mut parked, mut from) = (Vec::new(), Some(message_id(group, after)));
    while from.is_some() {
        let query = Query::all().prefix(format!("{group}/")).after(from).limit(1000);
        let page = if_any(store.list::<ParkedMessage>(query).await.map(Some))?;
        let Some(page) = page else { break };
        for record in &page.records {
            parked.push((position_of(&record.key)?, record.decode::<ParkedMessage>()?.key));
        }
        from = page.next;
    }
    Ok(parked)
}

/// Nothing of a store that never had any.
fn if_any<T>(read: Result<Option<T>, ReadError>) -> Result<Option<T>, ReadError> {
    match read {
        Err(ReadError::Invalid(_)) => Ok(None),
        read => read,
    }
}

/// A follower was not let go on.
#[derive(Debug, thiserror::Error)]
pub enum AcceptError {
    /// There is none of this name (any more).
    #[error("there is no `{0}` that follows a log")]
    NotFound(String),
    /// It follows another log altogether.
    #[error("it follows the log {}, and this one is {}: that is no other life of it", .known.log, .found.log)]
    Another {
        /// The log that it follows.
        known: LogId,
        /// The log that it was to follow.
        found: LogId,
    },
    /// It is not where it was when it was looked at.
    #[error("`{0}` has moved since it was looked at: look again")]
    Moved(String),
    /// It refuses nothing.
    #[error("it follows the log as it is: there is nothing to accept")]
    Follows,
    /// The log does not go so far.
    #[error("the log ends at {head}: nobody can go on behind {after}")]
    Ahead {
        /// The position that was said.
        after: Position,
        /// Where the log ends.
        head: Position,
    },
    /// More is parked than one commit drops.
    #[error("{0} messages are parked behind it, more than can be dropped at once: drop some of them first")]
    TooManyParked(u64),
    /// The store cannot be read.
    #[error("how far it has come cannot be read")]
    Read(#[from] ReadError),
    /// The store cannot be written, or somebody changed something meanwhile.
    #[error("how far it has come cannot be changed")]
    Write(#[from] CommitError),
}

impl Fault for AcceptError {
    fn kind(&self) -> FaultKind {
        match self {
            Self::NotFound(_) => FaultKind::NotFound,
            Self::Another { .. } | Self::Moved(_) | Self::Follows | Self::TooManyParked(_) => {
                FaultKind::Conflict
            }
            Self::Ahead { .. } => FaultKind::Rejected,
            Self::Read(error) => error.kind(),
            Self::Write(error) => error.kind(),
        }
    }
}
