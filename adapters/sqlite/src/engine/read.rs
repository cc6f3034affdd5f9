//! Parts of the log and of streams, and what is read ahead.

use std::ops::Range;
use std::sync::Arc;

use purlin::store::{LogFilter, Position, ReadError, Recorded, StreamId};

use crate::ahead::{CUT_AT, Next, SMALL, SMALL_PAGES};
use crate::error::{is_damage, unreadable_as};
use crate::log::{self, Unread};
use crate::part::{Most, Part};
use crate::reader::Reader;
use crate::writer::Job;

use super::{Shared, Sqlite};

impl Sqlite {
    /// A page of the log.
    pub(super) fn part_of_log(
        &self,
        after: Position,
        filter: LogFilter,
        most: Most,
    ) -> impl FnOnce(&mut Reader) -> Result<Part, ReadError> + Send + use<> {
        // What is committed and not yet made known is left for the next read.
        let head = *self.shared.head.borrow();
        let until = Position(head.0.min(after.0.saturating_add(self.window)));
        let older = self.shared.older;
        move |reader| log::page(reader, after, (until, head), &filter, most, older)
    }

    /// Begins what is expected behind a page that was just read, which took so many bytes and `step` positions: the next
    /// page, and some behind that, if this one was small and had all events that it could have. Those are cut so that
    /// together they take no more than one page does, however large the events are that come.
    pub(super) fn read_ahead(&self, bytes: usize, step: u64, expected: &mut Next) {
        let Next { after, filter, limit, pages } = expected;
        if pages.front().is_some_and(|(begun, _)| *begun != *after) {
            pages.clear();
        }
        let was_whole = *filter == LogFilter::all() && step == self.window.min(*limit as u64);
        let (count, most) = match was_whole && bytes <= SMALL {
            true => (SMALL_PAGES, Most { events: *limit, bytes: CUT_AT }),
            false => (1, Most::page(*limit)),
        };
        while pages.len() < count {
            let next = pages.back().map_or(*after, |(last, _)| Position(last.0 + step));
            if !self.has_page(next, *limit) {
                break;
            }
            let Some(begun) = self.readers.begin(self.part_of_log(next, filter.clone(), most)) else {
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
    use std::future::poll_fn;
    use std::path::PathBuf;
    use std::pin::pin;
    use std::task::Poll;

    use purlin::message::{Envelope, new_id};
    use purlin::store::{Commit, Engine, Expected, Limits, LogPage};
    use tokio::sync::oneshot;

    use super::*;
    use crate::{Options, Synchronous};

    struct Log {
        folder: PathBuf,
        engine: Sqlite,
    }

    impl Log {
        /// With one thread that reads: what is begun is read in its turn.
        async fn new() -> Self {
            let folder = std::env::temp_dir().join(format!("purlin-read-{}", new_id()));
            let options = Options::new(folder.join("a.db"));
            let options = Options { readers: 1, synchronous: Synchronous::Off, ..options };
            Self { folder, engine: Sqlite::open(options).await.unwrap() }
        }

        async fn append(&self, events: usize, len: usize) {
            let events = (0..events).map(|_| Envelope::raw("thing.counted", "7".repeat(len)));
            let commit = Commit::new().append(StreamId::new("thing", 1).unwrap(), Expected::Any, events);
            self.engine.commit(commit).await.unwrap();
        }

        async fn read(&self, after: u64, limit: usize) -> Result<LogPage, ReadError> {
            self.engine.read_log(Position(after), LogFilter::all(), limit).await
        }

        /// Up to where a page goes that has all events from where it begins.
        async fn through(&self, after: u64, limit: usize) -> u64 {
            let page = self.read(after, limit).await.unwrap();
            let positions: Vec<u64> = page.events.iter().map(|event| event.position.0).collect();
            assert_eq!(positions, (after + 1..=page.through.0).collect::<Vec<_>>());
            page.through.0
        }

        /// Waits until all that was begun is read.
        async fn begun_is_read(&self) {
            let (read, is_read) = oneshot::channel();
            let begun = self.engine.readers.begin(|_| read.send(()).map_err(|()| unreachable!()));
            is_read.await.unwrap();
            drop(begun);
        }

        fn write(&self, sql: &str) {
            rusqlite::Connection::open(self.folder.join("a.db")).unwrap().execute_batch(sql).unwrap();
        }

        async fn close(self) {
            self.engine.close().await;
            assert_eq!((self.engine.readers.waiting(), self.engine.ahead.begun()), (0, vec![]));
            std::fs::remove_dir_all(self.folder).unwrap();
        }
    }

    #[tokio::test]
    async fn what_is_begun_is_about_a_page_however_large_the_events_behind_small_ones_are() {
        const LARGE: usize = 300 << 10;
        let log = Log::new().await;
        log.append(20, 10).await;
        log.append(40, LARGE).await;
        assert_eq!((log.through(0, 10).await, log.through(10, 10).await), (10, 20));
        let next = log.engine.ahead.take(Position(20), &LogFilter::all(), 10).unwrap();
        assert_eq!(next.pages.len(), SMALL_PAGES);
        let mut bytes = 0;
        for (_, begun) in next.pages {
            bytes += log.engine.readers.finish(begun).await.unwrap().unwrap().bytes;
        }
        assert!(bytes <= Limits::PAGE + SMALL_PAGES * (LARGE + 200), "{bytes} bytes");
        // One is cut, and those behind it do not fit; then there is one at a time.
        let (mut after, mut throughs) = (0, Vec::new());
        while after < 60 {
            after = log.through(after, 10).await;
            throughs.push(after);
        }
        assert_eq!(throughs, [10, 20, 27, 37, 47, 57, 60]);
        log.close().await;
    }

    #[tokio::test]
    async fn a_begun_page_that_failed_is_read_again_and_damage_that_stays_is_named() {
        let log = Log::new().await;
        log.append(60, 1).await;
        for stays in [false, true] {
            log.write("UPDATE _event SET data = '8' WHERE position = 35");
            assert_eq!((log.through(0, 10).await, log.through(10, 10).await), (10, 20));
            log.begun_is_read().await;
            if !stays {
                log.write("UPDATE _event SET data = '7' WHERE position = 35");
            }
            assert_eq!(log.through(20, 10).await, 30);
            if !stays {
                assert_eq!((log.through(30, 10).await, log.through(40, 10).await), (40, 50));
            }
        }
        for _ in 0..2 {
            let Err(ReadError::Unreadable { what, .. }) = log.read(30, 10).await else {
                panic!("it was read")
            };
            assert_eq!(what, "the event at 35 (`thing.counted` of the stream `thing-1`)");
        }
        assert_eq!((log.through(35, 10).await, log.through(45, 10).await), (45, 55));
        log.close().await;
    }

    #[tokio::test]
    async fn a_read_that_is_dropped_wherever_it_waits_leaves_nothing_and_the_next_one_is_right() {
        const LIMIT: usize = 2_500;
        let log = Log::new().await;
        log.append(4 * LIMIT, 1).await;
        // Not expected, expected, and one of several that are begun.
        for (before, after) in [(vec![], 0), (vec![0], 2_500), (vec![0, 2_500], 5_000)] {
            for waits in 0.. {
                for before in &before {
                    log.through(*before, LIMIT).await;
                }
                if before.len() == 2 {
                    log.begun_is_read().await;
                }
                let was_dropped = {
                    let (mut read, mut waited) = (pin!(log.read(after, LIMIT)), 0);
                    poll_fn(|cx| match read.as_mut().poll(cx) {
                        Poll::Ready(_) => Poll::Ready(false),
                        Poll::Pending if waited == waits => Poll::Ready(true),
                        Poll::Pending => {
                            waited += 1;
                            Poll::Pending
                        }
                    })
                    .await
                };
                assert_eq!(log.through(after, LIMIT).await, after + LIMIT as u64);
                if !was_dropped {
                    assert!(waits > 1, "it waits while its events are made");
                    break;
                }
            }
        }
        log.close().await;
    }

    #[tokio::test]
    async fn data_that_are_wanted_lie_side_by_side_whatever_is_between_them_in_the_log() {
        const LEN: usize = 500;
        let log = Log::new().await;
        let (acme, other) = (StreamId::new("thing", "acme~1").unwrap(), StreamId::new("thing", 1).unwrap());
        for _ in 0..200 {
            let events = |n| (0..n).map(|_| Envelope::raw("thing.counted", "7".repeat(LEN)));
            let commit = Commit::new().append(acme.clone(), Expected::Any, events(1));
            log.engine.commit(commit.append(other.clone(), Expected::Any, events(9))).await.unwrap();
        }
        let filter = LogFilter { tenant: Some("acme".into()), ..LogFilter::all() };
        let page = log.engine.read_log(Position::START, filter, 1000).await.unwrap();
        assert_eq!((page.events.len(), page.through), (200, Position(2000)));
        let data: Vec<_> = page.events.iter().map(|event| &event.envelope.data).collect();
        let apart = data.windows(2).filter(|pair| pair[0].as_ptr_range().end != pair[1].as_ptr()).count();
        assert!(apart <= 6, "they are in {} pieces", apart + 1);
        log.close().await;
    }
}
