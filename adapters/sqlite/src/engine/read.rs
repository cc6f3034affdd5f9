//! Parts of the log and of streams, and what is read ahead.

use std::ops::Range;
use std::sync::Arc;

use purlin::store::{LogFilter, Position, ReadError, Recorded, StreamId};

use crate::ahead::{FEW_BYTES, Next, PAGES};
use crate::error::{is_damage, unreadable_as};
use crate::log::{self, Unread};
use crate::part::Part;
use crate::reader::Reader;
use crate::writer::Job;

use super::{Shared, Sqlite};

impl Sqlite {
    /// A page of the log.
    pub(super) fn part_of_log(
        &self,
        after: Position,
        filter: LogFilter,
        limit: usize,
    ) -> impl FnOnce(&mut Reader) -> Result<Part, ReadError> + Send + use<> {
        // What is committed and not yet made known is left for the next read.
        let head = *self.shared.head.borrow();
        let until = Position(head.0.min(after.0.saturating_add(self.window)));
        let older = self.shared.older;
        move |reader| log::page(reader, after, (until, head), &filter, limit, older)
    }

    /// Begins what is expected behind a page that was just read, which had so many bytes and `step` positions: the next
    /// page, and some behind that, if this one had all events that it could have.
    pub(super) fn read_ahead(&self, bytes: usize, step: u64, expected: &mut Next) {
        let Next { after, filter, limit, pages } = expected;
        if pages.front().is_some_and(|(begun, _)| *begun != *after) {
            pages.clear();
        }
        let was_whole = *filter == LogFilter::all() && step == self.window.min(*limit as u64);
        let count = if was_whole && bytes <= FEW_BYTES { PAGES } else { 1 };
        while pages.len() < count {
            let next = pages.back().map_or(*after, |(last, _)| Position(last.0 + step));
            if !self.has_page(next, *limit) {
                break;
            }
            let Some(begun) = self.readers.begin(self.part_of_log(next, filter.clone(), *limit)) else {
                break;
            };
            pages.push_back((next, begun));
        }
    }

    /// Whether the log has so many events behind a position.
    pub(super) fn has_page(&self, after: Position, limit: usize) -> bool {
        self.shared.head.borrow().0 >= after.0.saturating_add(limit as u64)
    }

    /// The events of a stream with some versions. An index that turns out to be damaged is made anew by the writer.
    pub(super) fn part_of_stream(
        &self,
        stream: StreamId,
        versions: impl FnOnce(&Shared, &Reader, &StreamId) -> rusqlite::Result<Range<u64>> + Send + 'static,
        backwards: bool,
    ) -> impl Future<Output = Result<Vec<Recorded>, ReadError>> + Send + '_ {
        let shared = Arc::clone(&self.shared);
        let read = self.readers.read(move |reader| {
            let index = |error| {
                if is_damage(&error) {
                    shared.index.read().expect("no panic holds the index").suspect();
                }
                unreadable_as(error, || format!("the index of the stream `{stream}`"))
            };
            let versions = versions(&shared, reader, &stream).map_err(index)?;
            let key = shared.keys.of(stream.as_str());
            let known = shared.index.read().expect("no panic holds the index");
            let lookup = known.lookup(key, versions.start, versions.end);
            drop(known);
            log::read_stream(reader, &stream, &lookup, versions, backwards, shared.older).map_err(|unread| {
                match unread {
                    Unread::Index(error) => index(error),
                    Unread::Event(error) => error,
                }
            })
        });
        async move {
            let read = read.await;
            if matches!(read, Err(ReadError::Unreadable { .. })) {
                // The writer may have nothing else to do. If its queue is full, the next read tells it again.
                let _ = self.jobs.try_send(Job::Mend);
            }
            read
        }
    }
}
