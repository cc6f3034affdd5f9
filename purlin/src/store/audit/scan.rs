//! What is asked of each event of a log, one after the other.

use crate::message::Timestamp;
use crate::store::{Limits, Position, Recorded, StreamId};

use super::ids::Ids;
use super::versions::Versions;
use super::{Audit, Damage, Report};

/// Goes through a log from a position on.
pub(super) struct Scan {
    pub(super) report: Report,
    pub(super) versions: Versions,
    ids: Ids,
    /// The last position that was seen, or is known to be missing.
    pub(super) last: Position,
    at: Timestamp,
    limits: Limits,
}

impl Scan {
    pub(super) fn new(audit: &Audit, report: Report, after: Position, limits: Limits) -> Self {
        let versions = match after {
            Position::START => Versions::new(audit.streams),
            _ => Versions::midway(audit.streams),
        };
        Self { report, versions, ids: Ids::new(audit.ids), last: after, at: Timestamp::MIN, limits }
    }

    /// Takes what was read up to a position.
    pub(super) fn page(&mut self, events: &[Recorded], through: Position) {
        for event in events {
            self.event(event);
        }
        self.missing_before(Position(through.0.saturating_add(1)));
    }

    /// The event at the next position cannot be read.
    pub(super) fn unreadable(&mut self, why: String) {
        self.last = Position(self.last.0 + 1);
        self.report.find(self.last, None, Damage::Unreadable(why));
    }

    fn event(&mut self, event: &Recorded) {
        let (position, stream) = (event.position, &event.stream);
        if position <= self.last {
            self.report.find(position, Some(stream), Damage::Disorder(self.last));
            return;
        }
        self.missing_before(position);
        self.last = position;
        self.report.events += 1;
        self.report.bytes += event.envelope.data.len() as u64;
        self.version(position, stream, event.version);
        if event.at < self.at {
            self.report.find(position, Some(stream), Damage::Time(self.at));
        }
        self.at = self.at.max(event.at);
        self.report.first.get_or_insert(event.at);
        self.report.last = Some(event.at);
        self.identity(event);
    }

    fn missing_before(&mut self, position: Position) {
        let due = Position(self.last.0 + 1);
        if position > due {
            let last = Position(position.0 - 1);
            self.report.find(due, None, Damage::Missing(last));
            self.last = last;
        }
    }

    /// Holds an event's version against the one that is due.
    pub(super) fn version(&mut self, position: Position, stream: &StreamId, found: u64) {
        if let Some(due) = self.versions.due(stream, found) {
            self.report.find(position, Some(stream), Damage::Version { due, found });
        }
    }

    fn identity(&mut self, event: &Recorded) {
        let (position, stream, envelope) = (event.position, Some(&event.stream), &event.envelope);
        if envelope.id.is_nil() {
            self.report.find(position, stream, Damage::Id(None));
        } else if let Some(first) = self.ids.see(envelope.id, position) {
            self.report.find(position, stream, Damage::Id(Some(first)));
        }
        let kind = &*envelope.kind;
        if kind.is_empty() || kind.len() > self.limits.kind || kind.chars().any(char::is_control) {
            self.report.find(position, stream, Damage::Kind(kind.chars().take(64).collect()));
        }
    }
}
