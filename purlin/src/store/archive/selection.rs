//! Which streams are archived.

use std::sync::Arc;
use std::time::Duration;

use super::ArchiveError;
use crate::message::Timestamp;
use crate::store::{Limits, LogFilter, Position, ReadError, Recorded};

/// Which streams are archived: those of a category, of which nothing came lately. What else is said must be met too.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Selection {
    category: String,
    tenant: Option<String>,
    idle_for: Duration,
    ended_by: Vec<Arc<str>>,
    after: Position,
    dry_run: bool,
}

impl Selection {
    /// How many kinds may be named as the last of a stream.
    pub const KINDS: usize = 64;

    /// All streams of a category, as long as nothing else is said.
    pub fn category(category: impl Into<String>) -> Self {
        Self {
            category: category.into(),
            tenant: None,
            idle_for: Duration::ZERO,
            ended_by: Vec::new(),
            after: Position::START,
            dry_run: false,
        }
    }

    /// Only those of a tenant.
    pub fn tenant(self, tenant: impl Into<String>) -> Self {
        Self { tenant: Some(tenant.into()), ..self }
    }

    /// Only those whose last event is at least so old, by the clock of the store.
    pub fn idle_for(self, idle_for: Duration) -> Self {
        Self { idle_for, ..self }
    }

    /// Only those whose last event is of one of these kinds, at most [`Selection::KINDS`]; with none, of any kind.
    pub fn ended_by<K: Into<Arc<str>>>(self, kinds: impl IntoIterator<Item = K>) -> Self {
        Self { ended_by: kinds.into_iter().map(Into::into).collect(), ..self }
    }

    /// Only those that began behind a position of the log: to go on where an earlier run stopped
    /// ([`Progress::through`](super::Progress::through)).
    pub fn after(self, after: Position) -> Self {
        Self { after, ..self }
    }

    /// Moves nothing: counts the streams, and all of their events but the last ones, those that are archived already
    /// included.
    pub fn dry_run(self) -> Self {
        Self { dry_run: true, ..self }
    }

    pub(super) fn is_dry(&self) -> bool {
        self.dry_run
    }

    pub(super) fn begins_after(&self) -> Position {
        self.after
    }

    /// The first events of the streams that may be chosen.
    pub(super) fn births(&self) -> LogFilter {
        LogFilter {
            category: Some(self.category.clone()),
            tenant: self.tenant.clone(),
            ..LogFilter::births()
        }
    }

    /// Refuses what cannot be meant; otherwise the time of the youngest last event that is old enough.
    pub(super) fn check(&self, limits: Limits, now: Timestamp) -> Result<Timestamp, ArchiveError> {
        self.births().check().map_err(|error| match error {
            ReadError::Invalid(what) => ArchiveError::Invalid(what),
            other => ArchiveError::Read(other),
        })?;
        if let Some(tenant) = self.tenant.as_deref().filter(|tenant| !crate::store::tenant::is_name(tenant)) {
            return Err(ArchiveError::Invalid(format!("`{tenant}` cannot name a tenant")));
        }
        if self.ended_by.len() > Self::KINDS {
            let (kinds, most) = (self.ended_by.len(), Self::KINDS);
            return Err(ArchiveError::Invalid(format!("{kinds} kinds end a stream, the limit is {most}")));
        }
        let long = |kind: &&Arc<str>| kind.is_empty() || kind.len() > limits.kind;
        if let Some(kind) = self.ended_by.iter().find(long) {
            let (bytes, most) = (kind.len(), limits.kind);
            return Err(ArchiveError::Invalid(format!(
                "a kind of event has 1 to {most} bytes, one has {bytes}"
            )));
        }
        now.checked_sub(self.idle_for).map_err(|_| {
            ArchiveError::Invalid(format!(
                "no stream is idle for {} s: that is before time is counted",
                self.idle_for.as_secs()
            ))
        })
    }

    /// Whether a stream with this last event is chosen.
    pub(super) fn admits(&self, last: &Recorded, until: Timestamp) -> bool {
        last.at <= until && (self.ended_by.is_empty() || self.ended_by.contains(&last.envelope.kind))
    }
}
