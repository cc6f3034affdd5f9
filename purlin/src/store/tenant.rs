//! Tenants: a store of one's own within a store.
//!
//! A tenant's handle is a [`Store`](super::Store) like any other: streams, tags and record keys that are written or
//! asked for by it bear the tenant's name inside the engine (`order-acme~4711`), and nothing that does not is ever
//! given to it. The log, its positions and the tables of the collections are shared, so that one relay, one set of
//! read models and one backup serve all tenants: what runs for all of them uses the store itself, where a stream says
//! whose it is ([`StreamId::tenant`]).

use std::path::Path;
use std::sync::Arc;

use tokio::sync::watch;

use crate::message::{Clock, Tags, Timestamp};

use super::personal::{self, Subject};
use super::reading::Reading;
use super::{
    Archived, BoxFuture, Cause, Change, Collection, Commit, CommitError, Committed, Conflict, Engine,
    LogFilter, LogId, LogPage, Position, Query, ReadError, Record, Recorded, StreamId, StreamIdError,
};

/// Stands between a tenant's name and what is its own.
const MARK: char = '~';
/// Follows [`MARK`] in the order of bytes.
const BEHIND: char = '\u{7f}';

/// The longest name of a tenant, in bytes.
pub(super) const MAX_LEN: usize = 48;

/// The tenant and its own part of a key.
pub(super) fn split(key: &str) -> Option<(&str, &str)> {
    key.split_once(MARK).filter(|(tenant, _)| is_name(tenant))
}

/// What is behind the names of a tenant, and of his tenants, in a key.
pub(crate) fn own_of_any(mut key: &str) -> &str {
    while let Some((_, own)) = split(key) {
        key = own;
    }
    key
}

/// Whether a key is this tenant's.
pub(super) fn is_of(tenant: &str, key: &str) -> bool {
    key.strip_prefix(tenant).is_some_and(|own| own.starts_with(MARK))
}

/// From the first name of a tenant's streams of a category, and before the second.
pub(super) fn range(category: &str, tenant: &str) -> (String, String) {
    (format!("{category}-{tenant}{MARK}"), format!("{category}-{tenant}{BEHIND}"))
}

/// Whether this can name a tenant.
pub(super) fn is_name(text: &str) -> bool {
    let word = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_';
    !text.is_empty() && text.len() <= MAX_LEN && text.bytes().all(word)
}

/// An engine that shows one tenant's part of another.
pub(super) struct Tenanted {
    engine: Arc<dyn Engine>,
    name: Box<str>,
}

impl Tenanted {
    /// Only for a name that [`is_name`] admits.
    pub(super) fn new(engine: Arc<dyn Engine>, name: &str) -> Self {
        Self { engine, name: name.into() }
    }

    fn outer(&self, own: &str) -> String {
        format!("{}{MARK}{own}", self.name)
    }

    /// What is this tenant's own of a key or tag; all of it if it is no tenant's.
    fn own<'a>(&self, outer: &'a str) -> &'a str {
        outer.strip_prefix(&*self.name).and_then(|own| own.strip_prefix(MARK)).unwrap_or(outer)
    }

    fn outer_stream(&self, own: &StreamId) -> Result<StreamId, StreamIdError> {
        StreamId::new(own.category(), self.outer(own.key()))
    }

    fn own_stream(&self, outer: &StreamId) -> StreamId {
        StreamId::new(outer.category(), self.own(outer.key())).unwrap_or_else(|_| outer.clone())
    }

    fn outer_tags(&self, own: &Tags) -> Tags {
        own.iter().map(|tag| self.outer(tag)).collect()
    }

    fn outer_commit(&self, mut commit: Commit) -> Result<Commit, CommitError> {
        for change in &commit.changes {
            match change {
                Change::Define(_) => {}
                Change::Swap { .. } => {
                    return Err(CommitError::Invalid(self.refused("swapping a collection")));
                }
                Change::Drop(_) => return Err(CommitError::Invalid(self.refused("removing a collection"))),
            }
        }
        let invalid = |what: String| CommitError::Invalid(format!("{what}, with the name of its tenant"));
        for append in &mut commit.appends {
            let outer = self.outer_stream(&append.stream);
            append.stream = outer.map_err(|error| invalid(format!("`{}`: {error}", append.stream)))?;
            for event in &mut append.events {
                event.tags = self.outer_tags(&event.tags);
                if let Some(fault) = event.tags.fault() {
                    return Err(invalid(format!("an event `{}` has {fault}", event.kind)));
                }
            }
        }
        for condition in &mut commit.conditions {
            condition.query = std::mem::take(&mut condition.query).map_tags(|tags| self.outer_tags(tags));
        }
        for write in &mut commit.writes {
            write.key = self.outer(&write.key);
        }
        for requirement in &mut commit.requirements {
            requirement.key = self.outer(&requirement.key);
        }
        personal::rename_in_commit(&mut commit, |subject| self.outer(subject))?;
        Ok(commit)
    }

    fn own_error(&self, error: CommitError) -> CommitError {
        let mut conflict = match error {
            CommitError::Conflict(conflict) => conflict,
            CommitError::Forgotten(subject) => {
                return CommitError::Forgotten(Subject::new(self.own(subject.as_str())).unwrap_or(subject));
            }
            error => return error,
        };
        match &mut conflict {
            Conflict::Stream { stream, .. } => *stream = self.own_stream(stream),
            Conflict::Record { key, .. } => *key = self.own(key).to_owned(),
            Conflict::Condition { .. } => {}
        }
        CommitError::Conflict(conflict)
    }

    fn own_event(&self, mut event: Recorded) -> Recorded {
        event.stream = self.own_stream(&event.stream);
        if !event.envelope.tags.is_empty() {
            event.envelope.tags = event.envelope.tags.iter().map(|tag| self.own(tag).to_owned()).collect();
        }
        event
    }

    fn own_events(&self, events: Vec<Recorded>) -> Vec<Recorded> {
        let mut events: Vec<_> = events.into_iter().map(|event| self.own_event(event)).collect();
        personal::rename_events(&mut events, |subject| self.own(subject).to_owned());
        events
    }

    fn own_records(&self, records: Vec<Record>) -> Vec<Record> {
        let own = |record: Record| Record { key: self.own(&record.key).to_owned(), ..record };
        let mut records: Vec<_> = records.into_iter().map(own).collect();
        personal::rename_records(&mut records, |subject| self.own(subject).to_owned());
        records
    }

    /// What is done to all tenants at once is done by the store itself.
    fn refused(&self, what: &str) -> String {
        format!(
            "{what} is for all tenants: it is done by the store itself, not by the tenant `{}`",
            self.name
        )
    }
}

/// In full: what is new in [`Engine`] is decided here, and not let through to all tenants.
impl Engine for Tenanted {
    fn log_id(&self) -> LogId {
        self.engine.log_id()
    }

    fn clock(&self) -> Clock {
        self.engine.clock()
    }

    fn commit(&self, commit: Commit) -> BoxFuture<'_, Result<Committed, CommitError>> {
        let commit = self.outer_commit(commit);
        Box::pin(async move { self.engine.commit(commit?).await.map_err(|error| self.own_error(error)) })
    }

    fn read_stream(
        &self,
        stream: StreamId,
        from: u64,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<Recorded>, ReadError>> {
        Box::pin(async move {
            // There is no stream whose name would be too long.
            let Ok(stream) = self.outer_stream(&stream) else { return Ok(Vec::new()) };
            let mut reading = Reading::forwards(&*self.engine, stream, from, limit);
            while let Some(page) = reading.next().await? {
                reading.add(self.own_events(page));
            }
            Ok(reading.finish())
        })
    }

    fn read_stream_back(
        &self,
        stream: StreamId,
        before: u64,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<Recorded>, ReadError>> {
        Box::pin(async move {
            let Ok(stream) = self.outer_stream(&stream) else { return Ok(Vec::new()) };
            let mut reading = Reading::backwards(&*self.engine, stream, before, limit);
            while let Some(page) = reading.next().await? {
                reading.add(self.own_events(page));
            }
            Ok(reading.finish())
        })
    }

    fn read_log(
        &self,
        after: Position,
        mut filter: LogFilter,
        limit: usize,
    ) -> BoxFuture<'_, Result<LogPage, ReadError>> {
        // What asks for a tenant here asks for a tenant of this one.
        filter.tenant = Some(match filter.tenant {
            Some(inner) => self.outer(&inner),
            None => self.name.to_string(),
        });
        filter.matching = filter.matching.map(|query| query.map_tags(|tags| self.outer_tags(tags)));
        Box::pin(async move {
            let LogPage { events, through } = self.engine.read_log(after, filter, limit).await?;
            Ok(LogPage { events: self.own_events(events), through })
        })
    }

    fn watch(&self) -> watch::Receiver<Position> {
        self.engine.watch()
    }

    fn get(&self, collection: String, key: String) -> BoxFuture<'_, Result<Option<Record>, ReadError>> {
        Box::pin(async move {
            let record = self.engine.get(collection, self.outer(&key)).await?;
            Ok(self.own_records(record.into_iter().collect()).pop())
        })
    }

    fn get_many(
        &self,
        collection: String,
        keys: Vec<String>,
    ) -> BoxFuture<'_, Result<Vec<Option<Record>>, ReadError>> {
        Box::pin(async move {
            let outer = keys.iter().map(|key| self.outer(key)).collect();
            let records = self.engine.get_many(collection, outer).await?;
            Ok(Record::by_keys(&keys, &self.own_records(records.into_iter().flatten().collect())))
        })
    }

    fn list(&self, collection: String, mut query: Query) -> BoxFuture<'_, Result<Vec<Record>, ReadError>> {
        query.prefix = Some(self.outer(query.prefix.as_deref().unwrap_or_default()));
        query.after = query.after.map(|after| self.outer(&after));
        Box::pin(async move { Ok(self.own_records(self.engine.list(collection, query).await?)) })
    }

    fn due(
        &self,
        collection: String,
        until: Timestamp,
        prefix: Option<String>,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<Record>, ReadError>> {
        let prefix = self.outer(prefix.as_deref().unwrap_or_default());
        Box::pin(async move {
            Ok(self.own_records(self.engine.due(collection, until, Some(prefix), limit).await?))
        })
    }

    fn collections(&self) -> BoxFuture<'_, Result<Vec<Collection>, ReadError>> {
        self.engine.collections()
    }

    fn define(&self, collection: Collection) -> BoxFuture<'_, Result<(), CommitError>> {
        self.engine.define(collection)
    }

    fn archive(&self, streams: Vec<StreamId>, limit: usize) -> BoxFuture<'_, Result<Archived, CommitError>> {
        Box::pin(async move {
            // There is no stream whose name would be too long.
            let outer = streams.iter().filter_map(|stream| self.outer_stream(stream).ok()).collect();
            self.engine.archive(outer, limit).await
        })
    }

    fn backup<'a>(&'a self, _to: &'a Path) -> BoxFuture<'a, Result<(), Cause>> {
        Box::pin(std::future::ready(Err(self.refused("a backup").into())))
    }

    /// Does nothing: the store is closed for all, by itself.
    fn close(&self) -> BoxFuture<'_, ()> {
        Box::pin(std::future::ready(()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_one_tenants() {
        assert_eq!(split("acme~4711"), Some(("acme", "4711")));
        assert_eq!(split("acme~a~b"), Some(("acme", "a~b")));
        assert_eq!((own_of_any("acme~inner~a-b~c"), own_of_any("4711")), ("a-b~c", "4711"));
        assert_eq!((split("4711"), split("~4711"), split("Ac me~4711")), (None, None, None));
        assert!(is_of("acme", "acme~1") && !is_of("acme", "acme2~1") && !is_of("acme2", "acme~1"));
        let (from, to) = range("order", "acme");
        for inside in ["order-acme~", "order-acme~\u{10FFFF}"] {
            assert!(from.as_str() <= inside && inside < to.as_str(), "{inside}");
        }
        for outside in ["order-acme", "order-acme2~1", "order-acmf~1", "orders-acme~1"] {
            assert!(outside < from.as_str() || outside >= to.as_str(), "{outside}");
        }
    }
}
