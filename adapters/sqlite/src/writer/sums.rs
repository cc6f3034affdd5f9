//! The checksums of what a commit writes, as far as its caller can know them.

use purlin::store::{Append, Commit, Write, WriteKind};

use crate::checksum::{EventSum, Header, Sum, of_record};

/// Of the events and of the records of a commit, in their order.
pub(crate) struct Sums {
    pub(super) events: Vec<EventSum>,
    pub(super) records: Vec<Sum>,
}

impl Sums {
    /// Computed on the caller's thread.
    pub(crate) fn of(commit: &Commit) -> Self {
        let mut meta = Vec::new();
        let mut events = Vec::with_capacity(commit.event_count());
        for Append { stream, events: appended, .. } in &commit.appends {
            for event in appended {
                event.meta.encode(&event.tags, &mut meta);
                let header = Header {
                    stream: stream.as_str(),
                    kind: &event.kind,
                    id: event.id.as_bytes(),
                    schema: event.schema,
                    public: event.public,
                    meta: &meta,
                };
                events.push(EventSum::of(&header, &event.data));
            }
        }
        Self { events, records: commit.writes.iter().map(of_write).collect() }
    }
}

fn of_write(write: &Write) -> Sum {
    match &write.kind {
        WriteKind::Put { value, due, .. } => {
            of_record(&write.key, due.map(|due| due.as_microsecond()), value)
        }
        WriteKind::Delete => Sum::default(),
    }
}
