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

#[cfg(test)]
mod tests {
    use std::path::Path;

    use purlin::message::{Envelope, new_id};
    use purlin::store::{Commit, Engine as _, Expected};

    use super::*;
    use crate::engine::Options;
    use crate::schema;

    /// Events of a run.
    const RUN: u64 = 4;

    /// Appends a run of the index, an event to each stream; or, with a tag, fails.
    async fn append(store: &Sqlite, tag: Option<&'static str>) {
        let commit = (0..RUN).fold(Commit::new(), |commit, n| {
            let stream = StreamId::new("thing", n).unwrap();
            commit.append(stream, Expected::Any, [Envelope::raw("thing.counted", "{}").tagged(tag)])
        });
        assert_eq!(store.commit(commit).await.is_err(), tag.is_some());
    }

    /// Appends so many runs, and waits until the last of them was merged into another and is gone.
    async fn merge(store: &Sqlite, file: &Path, runs: u64) {
        for _ in 0..runs {
            append(store, None).await;
        }
        let (connection, head) = (schema::open_reader(file).unwrap(), store.shared.head.borrow().0);
        let is_there = "SELECT EXISTS (SELECT 1 FROM _run WHERE level <= 0 AND through = ?1)";
        let is_merged = "SELECT EXISTS (SELECT 1 FROM _run WHERE level > 0 AND through = ?1)";
        let ask = |sql| connection.query_row(sql, [head.cast_signed()], |row| row.get::<_, bool>(0)).unwrap();
        while ask(is_there) || !ask(is_merged) {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn what_a_reader_looked_up_stays_there_through_failed_transactions_and_merges() {
        let folder = std::env::temp_dir().join(format!("purlin-read-{}", new_id()));
        let file = folder.join("a.db");
        let options = Options { run: RUN as usize, ..Options::new(&file) };
        let store = Sqlite::open(options).await.unwrap();
        let other = rusqlite::Connection::open(&file).unwrap();
        other
            .execute_batch(
                "CREATE TRIGGER fails BEFORE INSERT ON _tag BEGIN SELECT RAISE(ABORT, 'as the test wants'); END",
            )
            .unwrap();
        for _ in 0..7 {
            append(&store, None).await;
        }
        let key = store.shared.keys.of("thing-1");
        let lookup = || store.shared.index.read().unwrap().lookup(key, 1, u64::MAX);
        let reader = schema::open_reader(&file).unwrap();
        let positions = |lookup: &crate::index::Lookup| lookup.positions(&reader, 1, u64::MAX);
        let (first, before) = (lookup(), positions(&lookup()).unwrap());
        // Runs that are live when a transaction fails, and merged after it.
        append(&store, Some("fails")).await;
        merge(&store, &file, 1).await;
        assert_eq!(positions(&first).unwrap(), before);
        // Runs that are merged when a transaction fails, and wait to be deleted.
        append(&store, Some("fails")).await;
        merge(&store, &file, 8).await;
        assert_eq!(positions(&first).unwrap(), before);
        // Runs that wait to be deleted when the index is made anew.
        other
            .execute_batch("UPDATE _block SET entries = x'00' WHERE block = (SELECT max(block) FROM _block)")
            .unwrap();
        let read = async || store.read_stream(StreamId::new("thing", 1).unwrap(), 1, 100).await;
        assert!(read().await.is_err(), "a block is damaged");
        while read().await.is_err() {
            tokio::task::yield_now().await;
        }
        append(&store, Some("fails")).await;
        // 15 runs were made, and the next one has what was left behind them.
        merge(&store, &file, 9).await;
        assert_eq!(positions(&first).unwrap(), before);
        drop(first);
        store.close().await;
        std::fs::remove_dir_all(folder).unwrap();
    }
}
