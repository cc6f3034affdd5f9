//! The newest events of the log, read once for all who follow it.

use std::collections::VecDeque;

use tokio::sync::Mutex;

use super::{Engine, LogFilter, LogPage, Position, ReadError, Recorded};

/// How many events are kept.
const EVENTS: usize = 4096;
/// Bytes of data that are kept.
const BYTES: usize = 4 << 20;
/// How many events are read at once.
const PAGE: usize = 1024;

/// Who follows the log close to its end finds here what somebody else has read already. Whoever is far behind, or
/// meets something that cannot be read, reads by himself.
#[derive(Default)]
pub(super) struct Tail {
    kept: Mutex<Kept>,
}

/// All events behind `from`, up to `through`.
#[derive(Default)]
struct Kept {
    from: Position,
    through: Position,
    events: VecDeque<Recorded>,
    bytes: usize,
}

impl Tail {
    /// The wanted events behind a position, if they are among the newest.
    pub(super) async fn page(
        &self,
        engine: &dyn Engine,
        after: Position,
        filter: &LogFilter,
        limit: usize,
    ) -> Option<LogPage> {
        // Held while the engine reads: who comes meanwhile finds what was read.
        let mut kept = self.kept.lock().await;
        let head = *engine.watch().borrow();
        let far = |position: Position| head.0.saturating_sub(position.0) > EVENTS as u64;
        if far(after) || head <= after {
            return None;
        }
        if kept.events.is_empty() || far(kept.through) {
            *kept = Kept { from: after, through: after, ..Kept::default() };
        }
        if after < kept.from {
            return None;
        }
        while kept.through <= after {
            // What one cannot read does not concern all: each asks for what he wants himself.
            let read: Result<LogPage, ReadError> =
                engine.read_log(kept.through, LogFilter::all(), PAGE).await;
            let through = kept.through;
            kept.add(read.ok().filter(|page| page.through > through)?);
        }
        if after < kept.from {
            return None;
        }
        Some(kept.page(after, filter, limit))
    }
}

impl Kept {
    fn add(&mut self, page: LogPage) {
        self.through = page.through;
        self.bytes += page.events.iter().map(size).sum::<usize>();
        self.events.extend(page.events);
        while (self.events.len() > EVENTS || self.bytes > BYTES)
            && let Some(oldest) = self.events.pop_front()
        {
            self.bytes -= size(&oldest);
            self.from = oldest.position;
        }
    }

    fn page(&self, after: Position, filter: &LogFilter, limit: usize) -> LogPage {
        let mut page = LogPage { events: Vec::new(), through: after };
        // A tenant's events are not dense: the first behind `after` is searched for.
        let behind = self.events.partition_point(|event| event.position <= after);
        for event in self.events.range(behind..) {
            if page.events.len() == limit {
                return page;
            }
            page.through = event.position;
            if filter.admits(event) {
                page.events.push(event.clone());
            }
        }
        page.through = self.through.max(page.through);
        page
    }
}

fn size(event: &Recorded) -> usize {
    event.envelope.data.len()
}
