//! Streams drawn at random, to be read by themselves.

use std::collections::BTreeMap;
use std::hash::{BuildHasher, DefaultHasher, Hash, Hasher, RandomState};

use crate::store::{Position, ReadError, Recorded, Store, StreamId};

use super::{Audit, Damage, Report};

/// Draws streams while the log is read: those whose hashes are the least. So each has the same chance, and each that is
/// drawn at the end was drawn from its first event on.
pub(super) struct Sample {
    hash: RandomState,
    drawn: BTreeMap<u64, Drawn>,
    most: usize,
}

/// What the log says of a stream: position and digest of each event.
struct Drawn {
    stream: StreamId,
    events: Vec<(Position, u64)>,
    /// Whether it has more events than are compared.
    more: bool,
}

impl Sample {
    pub(super) fn new(most: usize) -> Self {
        Self { hash: RandomState::new(), drawn: BTreeMap::new(), most }
    }

    /// How many streams are drawn.
    pub(super) fn len(&self) -> usize {
        self.drawn.len()
    }

    pub(super) fn see(&mut self, event: &Recorded) {
        let key = self.hash.hash_one(event.stream.as_str());
        let greatest = self.drawn.last_key_value().map(|(key, _)| *key);
        if self.drawn.len() >= self.most && greatest.is_none_or(|greatest| key > greatest) {
            return;
        }
        let new = || Drawn { stream: event.stream.clone(), events: Vec::new(), more: false };
        let drawn = self.drawn.entry(key).or_insert_with(new);
        drawn.more |= drawn.events.len() >= Audit::SAMPLED;
        if !drawn.more {
            drawn.events.push((event.position, digest(event)));
        }
        if self.drawn.len() > self.most {
            self.drawn.pop_last();
        }
    }

    /// Reads the streams, and compares them with the log as it was up to a position.
    pub(super) async fn compare(
        self,
        store: &Store,
        report: &mut Report,
        mut done: impl FnMut(usize),
    ) -> Result<(), ReadError> {
        for (n, drawn) in self.drawn.into_values().enumerate() {
            drawn.compare(store, report).await?;
            report.sampled += 1;
            done(n + 1);
        }
        Ok(())
    }
}

impl Drawn {
    async fn compare(&self, store: &Store, report: &mut Report) -> Result<(), ReadError> {
        const PAGE: usize = 500;
        let (stream, mut of_log) = (Some(&self.stream), self.events.iter().zip(1_u64..));
        'pages: for first in (1..).step_by(PAGE) {
            let page = match store.read_stream(&self.stream, first, PAGE).await {
                Err(ReadError::Unreadable { what, source }) => {
                    let place = self.events.get(first as usize - 1).map_or(report.through, |event| event.0);
                    report.find(place, stream, Damage::Unreadable(format!("{what}: {source}")));
                    return Ok(());
                }
                page => page?,
            };
            for event in &page {
                match of_log.next() {
                    Some(((position, digested), version)) => {
                        if event.version != version || digest(event) != *digested {
                            report.find(*position, stream, Damage::NotInStream(version));
                            return Ok(());
                        }
                    }
                    // What came meanwhile was not asked about.
                    None if self.more || event.position > report.through => break 'pages,
                    None => report.find(event.position, stream, Damage::NotInLog(event.version)),
                }
            }
            if page.len() < PAGE {
                break;
            }
        }
        if let Some(((position, _), version)) = of_log.next() {
            report.find(*position, stream, Damage::NotInStream(version));
        }
        Ok(())
    }
}

/// All that an event says, in 64 bits; never 0.
pub(super) fn digest(event: &Recorded) -> u64 {
    let (hasher, envelope) = (&mut DefaultHasher::new(), &event.envelope);
    (event.position, event.stream.as_str(), event.version, event.at.as_microsecond()).hash(hasher);
    (envelope.id, &*envelope.kind, envelope.schema, envelope.public).hash(hasher);
    (envelope.meta.correlation, envelope.meta.causation, envelope.meta.deadline).hash(hasher);
    envelope.tags.hash(hasher);
    envelope.data.hash(hasher);
    hasher.finish().max(1)
}
