//! Which events a decision looked at: by kind and tag, whatever stream they belong to.

use std::sync::Arc;

use crate::message::{Envelope, Tags};

use super::Position;

/// Events by what they are and what they are about: those that meet any of its criteria.
///
/// A decision over several streams (no course has more students than places, no name is given twice) reads what a
/// query finds, and commits on condition that nothing else came to match it: a *dynamic consistency boundary*
/// (Sara Pellegrini, 2023, <https://dcb.events>).
///
/// Kinds are those that stand in the log: after a kind was renamed, a query names the old one too.
///
/// ```
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// use purlin::message::Envelope;
/// use purlin::store::{Commit, CommitError, EventQuery, Expected, LogFilter, Position, Store, StreamId};
///
/// let store = Store::memory();
/// let taken = EventQuery::tagged(["name:ada"]).kinds(["user.named", "user.renamed"]);
/// let page = store.read_log(Position::START, &LogFilter::matching(taken.clone()), 1).await.unwrap();
/// assert!(page.events.is_empty(), "the name is free, up to `page.through`");
///
/// let name = |user: &str| {
///     let named = Envelope::raw("user.named", "\"ada\"").tagged(["name:ada"]);
///     Commit::new()
///         .append(StreamId::new("user", user).unwrap(), Expected::NoStream, [named])
///         .unless(taken.clone(), page.through)
/// };
/// store.commit(name("1")).await.unwrap();
/// assert!(matches!(store.commit(name("2")).await, Err(CommitError::Conflict(_))), "somebody was faster");
/// # });
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EventQuery {
    criteria: Vec<Criterion>,
}

/// One way for an event to match: it has all of the tags and one of the kinds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Criterion {
    /// Any of these; empty: whatever its kind.
    pub kinds: Vec<Arc<str>>,
    /// All of these.
    pub tags: Tags,
}

impl EventQuery {
    /// How many criteria a query may have.
    pub const MAX_CRITERIA: usize = 16;
    /// How many kinds a criterion may name.
    pub const MAX_KINDS: usize = 64;

    /// Events that have all of these tags.
    pub fn tagged<T: Into<Arc<str>>>(tags: impl IntoIterator<Item = T>) -> Self {
        Self { criteria: vec![Criterion { kinds: Vec::new(), tags: Tags::new(tags) }] }
    }

    /// Events of these kinds.
    pub fn of_kinds<K: Into<Arc<str>>>(kinds: impl IntoIterator<Item = K>) -> Self {
        Self { criteria: vec![Criterion::default()] }.kinds(kinds)
    }

    /// Only events of these kinds; for the last of its criteria.
    pub fn kinds<K: Into<Arc<str>>>(mut self, kinds: impl IntoIterator<Item = K>) -> Self {
        if let Some(last) = self.criteria.last_mut() {
            last.kinds = kinds.into_iter().map(Into::into).collect();
            last.kinds.sort_unstable();
            last.kinds.dedup();
        }
        self
    }

    /// Also the events that `other` finds.
    pub fn or(mut self, other: Self) -> Self {
        self.criteria.extend(other.criteria);
        self
    }

    /// The ways for an event to match.
    pub fn criteria(&self) -> &[Criterion] {
        &self.criteria
    }

    /// The same ways with other tags.
    pub(super) fn map_tags(mut self, map: impl Fn(&Tags) -> Tags) -> Self {
        for criterion in &mut self.criteria {
            criterion.tags = map(&criterion.tags);
        }
        self
    }

    /// Whether an event matches.
    pub fn matches(&self, event: &Envelope) -> bool {
        self.criteria.iter().any(|criterion| criterion.matches(&event.kind, &event.tags))
    }

    /// Whether every criterion names a tag, so that an index finds what matches.
    pub fn is_by_tag(&self) -> bool {
        self.criteria.iter().all(|criterion| !criterion.tags.is_empty())
    }

    /// What is wrong with it as a query of the log.
    pub fn fault(&self) -> Option<String> {
        if self.criteria.is_empty() {
            return Some("no criterion: it can match nothing".to_owned());
        }
        if self.criteria.len() > Self::MAX_CRITERIA {
            return Some(format!("{} criteria, the limit is {}", self.criteria.len(), Self::MAX_CRITERIA));
        }
        self.criteria.iter().find_map(Criterion::fault)
    }
}

impl Criterion {
    /// Whether an event of this kind with these tags matches.
    pub fn matches(&self, kind: &str, tags: &Tags) -> bool {
        tags.contains_all(&self.tags)
            && (self.kinds.is_empty() || self.kinds.binary_search_by(|known| (**known).cmp(kind)).is_ok())
    }

    fn fault(&self) -> Option<String> {
        if self.kinds.len() > EventQuery::MAX_KINDS {
            return Some(format!("{} kinds, the limit is {}", self.kinds.len(), EventQuery::MAX_KINDS));
        }
        let control = |kind: &&Arc<str>| kind.chars().any(char::is_control);
        match self.kinds.iter().find(control) {
            Some(kind) => Some(format!("the kind {kind:?} with a control character")),
            None => self.tags.fault(),
        }
    }
}

/// Nothing that matches a query may have come behind a position.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Condition {
    /// What must not have come.
    pub query: EventQuery,
    /// Up to where the decision had looked.
    pub after: Position,
}

impl Condition {
    /// What is wrong with it: an engine must find what matches without looking through the log.
    pub(super) fn fault(&self) -> Option<String> {
        if self.query.is_by_tag() || self.query.criteria.is_empty() {
            return self.query.fault();
        }
        Some("a criterion without a tag: all commits would wait while the log is looked through".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_matches_any_criterion_by_all_its_tags_and_one_of_its_kinds() {
        let query = EventQuery::tagged(["a", "b"]).kinds(["y", "x"]).or(EventQuery::tagged(["c"]));
        let event = |kind: &str, tags: &[&str]| Envelope::raw(kind, "1").tagged(tags.iter().copied());
        assert!(query.matches(&event("x", &["a", "b", "d"])));
        assert!(query.matches(&event("z", &["c"])));
        assert!(!query.matches(&event("z", &["a", "b"])) && !query.matches(&event("x", &["a"])));
        assert!(!EventQuery::default().matches(&event("x", &[])));
        assert!(EventQuery::of_kinds(["x"]).matches(&event("x", &[])));
    }

    #[test]
    fn a_condition_without_a_tag_is_refused() {
        let condition = |query| Condition { query, after: Position::START }.fault();
        assert_eq!(condition(EventQuery::tagged(["a"])), None);
        assert!(condition(EventQuery::of_kinds(["x"])).is_some_and(|fault| fault.contains("without a tag")));
        assert!(condition(EventQuery::default()).is_some());
        assert!(condition(EventQuery::tagged(["a"]).kinds(["x\n"])).is_some());
    }
}
