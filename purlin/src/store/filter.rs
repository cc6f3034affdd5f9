//! Which events of the log a reader wants, and a part of the log.

use std::sync::Arc;

use super::stream::is_category;
use super::{EventQuery, Position, ReadError, Recorded, tenant};

/// Which events of the log a reader wants; by default all. An event must meet every part that is there.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LogFilter {
    /// Only those that the relay copies to the bus.
    pub public: bool,
    /// Only those of streams of this category.
    pub category: Option<String>,
    /// Only those that match.
    pub matching: Option<EventQuery>,
    /// Only the first event of each stream: who lists them lists the streams.
    pub births: bool,
    /// Only those of this tenant's streams.
    pub tenant: Option<String>,
}

impl LogFilter {
    /// All events.
    pub fn all() -> Self {
        Self::default()
    }

    /// The events that are copied to the bus.
    pub fn public() -> Self {
        Self { public: true, ..Self::default() }
    }

    /// The events of a category's streams.
    pub fn category(category: impl Into<String>) -> Self {
        Self { category: Some(category.into()), ..Self::default() }
    }

    /// The events that a query finds.
    pub fn matching(query: EventQuery) -> Self {
        Self { matching: Some(query), ..Self::default() }
    }

    /// The events of these kinds.
    pub fn kinds<K: Into<Arc<str>>>(kinds: impl IntoIterator<Item = K>) -> Self {
        Self::matching(EventQuery::of_kinds(kinds))
    }

    /// The events that have all of these tags.
    pub fn tagged<T: Into<Arc<str>>>(tags: impl IntoIterator<Item = T>) -> Self {
        Self::matching(EventQuery::tagged(tags))
    }

    /// The first event of each stream.
    pub fn births() -> Self {
        Self { births: true, ..Self::default() }
    }

    /// Whether this event is wanted.
    pub fn admits(&self, event: &Recorded) -> bool {
        (!self.public || event.envelope.public)
            && (!self.births || event.version == 1)
            && self.category.as_deref().is_none_or(|category| category == event.stream.category())
            && self.matching.as_ref().is_none_or(|query| query.matches(&event.envelope))
            && self.tenant.as_deref().is_none_or(|tenant| tenant::is_of(tenant, event.stream.key()))
    }

    /// The names of the streams that it admits, as far as they stand together in their order: from the first, and
    /// before the second. For engines that keep names sorted.
    pub fn streams(&self) -> Option<(String, String)> {
        let category = self.category.as_deref()?;
        Some(match &self.tenant {
            // A category's streams stand together: `order-` is the least of them, and `.` follows `-`.
            None => (format!("{category}-"), format!("{category}.")),
            Some(tenant) => tenant::range(category, tenant),
        })
    }

    /// Refuses what no event can meet because it is malformed.
    pub(super) fn check(&self) -> Result<(), ReadError> {
        if let Some(category) = self.category.as_deref().filter(|category| !is_category(category)) {
            return Err(ReadError::Invalid(format!("`{category}` cannot be the category of a stream")));
        }
        match self.matching.as_ref().and_then(EventQuery::fault) {
            Some(fault) => Err(ReadError::Invalid(format!("the query of the log has {fault}"))),
            None => Ok(()),
        }
    }
}

/// A part of the log.
#[derive(Debug, Clone, Default)]
pub struct LogPage {
    /// The wanted events, in the order of their positions.
    pub events: Vec<Recorded>,
    /// Up to where the log was read: every wanted event at or before it has been given, now or earlier.
    pub through: Position,
}
