//! Pages of the log that are read before they are asked for: who goes through the log decodes one page while a thread
//! reads the next.
//!
//! One is begun only for a reader who was seen to go on where he stood, and only where the log has a whole page: who reads
//! once, or follows the end of the log, causes none. Where all events are wanted it is known where the pages behind the
//! next one begin, and while pages are small some of them are begun too, so that whoever decodes and the thread that reads
//! seldom wait for each other (`cargo xtask bench store --only "replay sqlite"`). Each of those is cut when it turns out
//! to be larger: what nobody fetches has, for each reader, [`Limits::PAGE`] bytes at the most, be it one page or several,
//! and of each page the event that came to its bound. The memory in which they lie may be up to a third more (`chunks`).

use purlin::store::{Limits, ahead};

use crate::part::Part;
use crate::reader::Begun;

/// Pages that are begun for a reader, while they are small.
pub(crate) const SMALL_PAGES: usize = 4;

/// Bytes at which each of them is cut. Those behind one that is cut do not begin where it ends, and are thrown away.
pub(crate) const CUT_AT: usize = Limits::PAGE / SMALL_PAGES;

/// Bytes up to which a page is small: the next ones may have twice as many before one is cut.
pub(crate) const SMALL: usize = CUT_AT / 2;

/// The next pages of those who read lately.
pub(crate) type Ahead = ahead::Ahead<Begun<Part>>;

/// What somebody is expected to ask for.
pub(crate) type Next = ahead::Next<Begun<Part>>;

#[cfg(test)]
mod tests {
    use purlin::message::{Envelope, new_id};
    use purlin::store::{Commit, Engine, Expected, LogFilter, Position, StreamId};

    use crate::{Options, Sqlite};

    #[tokio::test]
    async fn a_page_is_begun_for_who_goes_on_and_for_nobody_else() {
        let folder = std::env::temp_dir().join(format!("purlin-ahead-{}", new_id()));
        let engine = Sqlite::open(Options::new(folder.join("a.db"))).await.unwrap();
        let stream = StreamId::new("thing", 1).unwrap();
        let events = (0..100).map(|n| Envelope::raw("thing.counted", n.to_string()));
        engine.commit(Commit::new().append(stream, Expected::Any, events)).await.unwrap();
        let begun = || engine.ahead.begun().iter().filter(|pages| **pages > 0).count();
        let read = async |after: u64| {
            let page = engine.read_log(Position(after), LogFilter::all(), 30).await.unwrap();
            assert_eq!(page.events[0].position, Position(after + 1));
            page.through.0
        };
        assert_eq!((read(0).await, begun()), (30, 0), "it may be the only one");
        assert_eq!((read(0).await, begun()), (30, 0), "as this one");
        assert_eq!((read(30).await, begun()), (60, 1), "it is the second");
        assert_eq!((read(60).await, begun()), (90, 0), "there is no whole page behind it");
        assert_eq!((read(90).await, begun()), (100, 0));
        // Who takes small pages of all has some of them begun, as far as there are whole ones.
        let pages = || engine.ahead.begun().last().copied().unwrap_or_default();
        for (after, ahead) in [(0, 0), (10, 4), (20, 4), (30, 4), (40, 4), (50, 4), (60, 3), (70, 2), (80, 1)]
        {
            let page = engine.read_log(Position(after), LogFilter::all(), 10).await.unwrap();
            let positions: Vec<u64> = page.events.iter().map(|event| event.position.0).collect();
            assert_eq!((positions, pages()), ((after + 1..after + 11).collect(), ahead), "behind {after}");
        }
        for after in 0..10 {
            read(after).await;
        }
        assert_eq!(engine.ahead.begun().len(), 4, "of so many readers something is kept in mind");
        engine.close().await;
        assert!(engine.ahead.begun().is_empty());
        std::fs::remove_dir_all(folder).unwrap();
    }
}
