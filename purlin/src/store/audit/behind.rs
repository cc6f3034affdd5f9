//! What a follower remembers of the events that it has passed.

use std::collections::VecDeque;

use crate::store::{Position, ReadError, Recorded, Store};

use super::pages::{Next, next};
use super::sample::digest;
use super::{Damage, Report};

/// The events behind a cursor: the last ones by one digest each, all before them by one of all.
pub(super) struct Behind {
    /// Behind this position the follower began.
    from: Position,
    /// How many events are not known one by one any more, and their digest.
    older: (u64, u64),
    /// The digests of those that follow; 0 where no event was.
    known: VecDeque<u64>,
    most: usize,
}

impl Behind {
    pub(super) fn new(from: Position, most: usize) -> Self {
        Self { from, older: (0, 0), known: VecDeque::new(), most: most.max(1) }
    }

    /// The follower's cursor.
    pub(super) fn cursor(&self) -> Position {
        Position(self.from.0 + self.older.0 + self.known.len() as u64)
    }

    /// Passes events, up to a position.
    pub(super) fn pass(&mut self, events: &[Recorded], through: Position) {
        let mut events = events.iter().peekable();
        while self.cursor() < through {
            let place = Position(self.cursor().0 + 1);
            while events.next_if(|event| event.position < place).is_some() {}
            let here = events.next_if(|event| event.position == place);
            self.known.push_back(here.map_or(0, digest));
            if self.known.len() > self.most {
                let oldest = self.known.pop_front().unwrap_or(0);
                self.older = (self.older.0 + 1, chain(self.older.1, oldest));
            }
        }
    }

    /// Reads again the events that are known one by one, and tells what is not as it was. From then on it is known as it is,
    /// so that it is told once.
    pub(super) async fn look_back(
        &mut self,
        store: &Store,
        page: usize,
        report: &mut Report,
    ) -> Result<(), ReadError> {
        let from = Position(self.from.0 + self.older.0);
        let mut again = Again::new(from, self.cursor());
        again
            .read(store, page, |position, found| {
                let (known, seen) =
                    (&mut self.known[(position.0 - from.0 - 1) as usize], found.map_or(0, digest));
                let damage = match (*known, seen) {
                    (known, seen) if known == seen => return,
                    (0, _) => Damage::Late,
                    (_, 0) => Damage::Gone,
                    _ => Damage::Changed,
                };
                *known = seen;
                report.find(position, found.map(|event| &event.stream), damage);
            })
            .await
    }

    /// Reads all again that was before those.
    pub(super) async fn look_far_back(
        &self,
        store: &Store,
        page: usize,
        report: &mut Report,
    ) -> Result<(), ReadError> {
        let (last, mut all) = (Position(self.from.0 + self.older.0), 0);
        let mut again = Again::new(self.from, last);
        again.read(store, page, |_, found| all = chain(all, found.map_or(0, digest))).await?;
        if all != self.older.1 {
            report.find(last, None, Damage::Changed);
        }
        Ok(())
    }
}

/// Reads a part of the log again.
struct Again {
    at: Position,
    last: Position,
}

impl Again {
    fn new(from: Position, last: Position) -> Self {
        Self { at: from, last }
    }

    /// Tells of each position what is there.
    async fn read(
        &mut self,
        store: &Store,
        page: usize,
        mut tell: impl FnMut(Position, Option<&Recorded>),
    ) -> Result<(), ReadError> {
        while self.at < self.last {
            let (events, through) = match next(store, self.at, page).await? {
                Next::Page(page) if page.through > self.at => (page.events, page.through.min(self.last)),
                Next::Unreadable(_) => (Vec::new(), Position(self.at.0 + 1)),
                Next::Page(_) | Next::End => (Vec::new(), self.last),
            };
            let mut events = events.iter().peekable();
            while self.at < through {
                self.at = Position(self.at.0 + 1);
                while events.next_if(|event| event.position < self.at).is_some() {}
                tell(self.at, events.next_if(|event| event.position == self.at));
            }
        }
        Ok(())
    }
}

/// The digest of what was before and one more (the step of FNV-1a, by whole words).
fn chain(before: u64, next: u64) -> u64 {
    (before ^ next).wrapping_mul(0x0000_0100_0000_01b3).rotate_left(17)
}
