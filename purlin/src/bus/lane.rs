//! A lane: handles its messages one after the other, each in one commit with the lane's mark.

use std::collections::HashSet;
use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use crate::message::FaultKind;
use crate::resilience::dice;
use crate::store::{Commit, Conflict, Position, Query, ReadError, Revision, Row, Store};

use super::backoff::Backoff;
use super::feed::{Feed, Portion, SKIPPED};
use super::handling::{Refused, Stopped};
use super::mark::Mark;
use super::parked::{self, KeyState, ParkedKey, ParkedMessage, SeenKey, key_id};
use super::{Failure, Group, GroupError, Message};

pub(super) struct Lane {
    group: Arc<Group>,
    feed: Arc<Feed>,
    number: u32,
    shutdown: CancellationToken,
    /// Up to where the lane was given all its messages and is done with them.
    cursor: Position,
    mark: Mark,
    /// The keys that have parked messages, and some that had. Only the lane itself parks a key that is free.
    parked: HashSet<String>,
    /// How many of them there were when they were last read from the store.
    parked_then: usize,
}

/// What is to be done with a message that is not to wait behind others of its key.
enum Deed {
    Handle,
    Park(Failure),
    /// The effects are there already: only the mark is to be moved.
    Pass,
}

impl Lane {
    pub(super) fn new(group: Arc<Group>, feed: Arc<Feed>, number: u32, mark: Mark) -> Self {
        let shutdown = CancellationToken::new();
        let cursor = mark.position;
        Self { group, feed, number, shutdown, cursor, mark, parked: HashSet::new(), parked_then: 0 }
    }

    pub(super) async fn run(mut self, shutdown: CancellationToken) -> Result<(), GroupError> {
        self.shutdown = shutdown;
        self.load_parked().await?;
        while let Some(portion) = self.next().await? {
            for message in &portion.messages {
                if self.shutdown.is_cancelled() || self.take(message).await?.is_err() {
                    return self.leave().await;
                }
            }
            self.cursor = self.cursor.max(portion.through);
            if self.cursor.0.saturating_sub(self.mark.position.0) >= SKIPPED {
                self.store_mark().await?;
            }
            self.forget_free_keys().await?;
        }
        self.leave().await
    }

    async fn next(&self) -> Result<Option<Portion>, GroupError> {
        tokio::select! {
            biased;
            () = self.shutdown.cancelled() => Ok(None),
            portion = self.group.read(&self.shutdown, || self.feed.next(self.number, self.cursor)) => portion,
        }
    }

    /// Handles a message, parks it, or lets it join the parked ones of its key: in one commit with the mark.
    async fn take(&mut self, message: &Message) -> Result<Result<(), Stopped>, GroupError> {
        let (mut deed, mut races) = (Deed::Handle, Backoff::conflict());
        // Also when another life of this lane, whose last commit came through late, has taken the message.
        while self.mark.position < message.position {
            let Some(seen) = self.parked_key(message.key()).await? else { return Ok(Err(Stopped)) };
            let commit = match (&seen, &deed) {
                (Some(key), _) => self.join(key, message),
                (None, Deed::Pass) => Commit::new(),
                (None, Deed::Park(failure)) => self.park(message, failure),
                (None, Deed::Handle) => match self.group.attempt(message).await {
                    Ok(effects) => effects,
                    Err(failure) => {
                        deed = Deed::Park(failure);
                        continue;
                    }
                },
            };
            let commit = self.mark.moved(&self.group.name, self.number, message.position).and(commit);
            match self.group.apply(&commit, &self.shutdown).await {
                // The effects had an id of their own and have happened before: then the mark was not moved.
                Ok(committed) if committed.repeated => deed = Deed::Pass,
                Ok(committed) => {
                    let revision = Revision::Exact(committed.revision);
                    self.mark = Mark { position: message.position, revision };
                    if let (None, Deed::Handle | Deed::Pass, Some(gauges)) =
                        (&seen, &deed, &self.group.gauges)
                    {
                        gauges.handled.inc();
                    }
                    if seen.is_some() || matches!(deed, Deed::Park(_)) {
                        self.parked.insert(message.key().to_owned());
                    }
                }
                Err(Refused::Conflict(conflict)) => {
                    if !self.reload().await? {
                        return Ok(Err(Stopped));
                    }
                    if conflict.is_record(ParkedKey::COLLECTION, &key_id(&self.group.name, message.key())) {
                        self.parked.insert(message.key().to_owned());
                    }
                    let effects = seen.is_none() && matches!(deed, Deed::Handle);
                    if effects && !races.pause().await {
                        deed = Deed::Park(lost_every_race(&conflict));
                    }
                }
                Err(Refused::Invalid(error)) if seen.is_none() && matches!(deed, Deed::Handle) => {
                    deed = Deed::Park(error.into());
                }
                Err(Refused::Invalid(error)) => return Err(error.into()),
                Err(Refused::Stopped) => return Ok(Err(Stopped)),
            }
        }
        self.cursor = self.cursor.max(message.position);
        Ok(Ok(()))
    }

    /// The record of a key that may have parked messages. The outer none: the group is to stop.
    async fn parked_key(&mut self, key: &str) -> Result<Option<Option<SeenKey>>, GroupError> {
        if !self.parked.contains(key) {
            return Ok(Some(None));
        }
        let group = &self.group;
        let read = group.read(&self.shutdown, || SeenKey::read(&group.store, &group.name, key)).await?;
        if let Some(None) = read {
            self.parked.remove(key);
        }
        Ok(read)
    }

    fn park(&self, message: &Message, failure: &Failure) -> Commit {
        let (group, now) = (&self.group, self.group.clock.now());
        let position = message.position;
        tracing::warn!(
            group = &*group.name, subject = message.subject(), key = message.key(), position = position.0,
            kind = %failure.kind, reason = failure.reason, "a message failed and is parked"
        );
        let key = ParkedKey {
            group: group.name.to_string(),
            lane: parked::lane_id(&group.name, self.number),
            key: message.key().to_owned(),
            head: position,
            count: 1,
            attempts: 0,
            state: KeyState::Retrying,
        };
        let (key, due) = key.failed(&group.retry, failure.retry_after, now, dice());
        let parked = ParkedMessage::new(&group.name, message, now).failed(failure, now);
        let commit = Commit::new().put(parked::message_id(&group.name, position), &parked);
        key.put(commit, Revision::Absent, due)
    }

    fn join(&self, seen: &SeenKey, message: &Message) -> Commit {
        let group = &self.group;
        let parked = ParkedMessage::new(&group.name, message, group.clock.now());
        let commit = Commit::new().put(parked::message_id(&group.name, message.position), &parked);
        let key = ParkedKey { count: seen.row.count + 1, ..seen.row.clone() };
        key.put(commit, seen.revision, seen.due)
    }

    /// Reads the mark again after a lost race, and what goes with it; false when the group is to stop.
    async fn reload(&mut self) -> Result<bool, GroupError> {
        let group = &self.group;
        let read = || Mark::read(&group.store, &group.name, self.number);
        let Some(mark) = group.read(&self.shutdown, read).await? else { return Ok(false) };
        if mark == self.mark {
            return Ok(true);
        }
        self.mark = mark;
        self.cursor = self.cursor.max(mark.position);
        self.load_parked().await
    }

    /// Reads which keys have parked messages; false when the group is to stop.
    async fn load_parked(&mut self) -> Result<bool, GroupError> {
        let (group, lane) = (&self.group, parked::lane_id(&self.group.name, self.number));
        let Some(keys) = group.read(&self.shutdown, || keys_of(&group.store, &lane)).await? else {
            return Ok(false);
        };
        self.parked_then = keys.len();
        self.parked = keys;
        Ok(true)
    }

    /// Keys that were parked once and are free again cost memory only: they are let go of from time to time.
    async fn forget_free_keys(&mut self) -> Result<(), GroupError> {
        if self.parked.len() > 2 * self.parked_then + 1024 {
            self.load_parked().await?;
        }
        Ok(())
    }

    /// Stores the cursor as the mark, so that a restart need not look again at what was skipped.
    async fn store_mark(&mut self) -> Result<(), GroupError> {
        let commit = self.mark.moved(&self.group.name, self.number, self.cursor);
        match self.group.apply(&commit, &self.shutdown).await {
            Ok(committed) => {
                let revision = Revision::Exact(committed.revision);
                self.mark = Mark { position: self.cursor, revision };
            }
            Err(Refused::Conflict(_)) => drop(self.reload().await?),
            Err(Refused::Invalid(error)) => return Err(error.into()),
            Err(Refused::Stopped) => {}
        }
        Ok(())
    }

    async fn leave(mut self) -> Result<(), GroupError> {
        if self.cursor > self.mark.position { self.store_mark().await } else { Ok(()) }
    }
}

/// The keys of a lane that have parked messages.
async fn keys_of(store: &Store, lane: &str) -> Result<HashSet<String>, ReadError> {
    let (mut keys, mut after) = (HashSet::new(), None);
    loop {
        let query = Query::all().and("lane", lane).after(after).limit(1000);
        let page = store.list::<ParkedKey>(query).await?;
        for record in &page.records {
            keys.insert(record.decode::<ParkedKey>()?.key);
        }
        after = page.next;
        if after.is_none() {
            return Ok(keys);
        }
    }
}

/// A handling that lost so many races for what it changes that it must wait like a failed one.
pub(super) fn lost_every_race(conflict: &Conflict) -> Failure {
    Failure::new(FaultKind::Conflict, format!("the effects lost every race for what they change: {conflict}"))
}
