//! For engines: what those who go through the log are expected to ask for next, and what was begun of it.
//!
//! Nothing that is committed changes, so that a page is as good as it was when it was read, and may be read before it is
//! asked for: who goes through the log decodes one page while the next one is on its way.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard};

use super::{LogFilter, Position};

/// Readers who are kept in mind. Each may have left pages that nobody fetches.
const READERS: usize = 4;

/// The next pages of those who read lately; `B` is a page that was begun.
#[derive(Debug)]
pub struct Ahead<B>(Mutex<VecDeque<Next<B>>>);

/// What somebody is expected to ask for.
#[derive(Debug)]
pub struct Next<B> {
    /// As in [`Engine::read_log`](super::Engine::read_log).
    pub after: Position,
    /// As there.
    pub filter: LogFilter,
    /// As there.
    pub limit: usize,
    /// The page, and those behind it, as far as they are begun: where each begins, if those before it are whole.
    pub pages: VecDeque<(Position, B)>,
}

impl<B> Default for Ahead<B> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<B> Ahead<B> {
    /// What is asked for, if it was expected.
    pub fn take(&self, after: Position, filter: &LogFilter, limit: usize) -> Option<Next<B>> {
        let mut expected = self.expected();
        let asked = |next: &Next<B>| next.after == after && next.limit == limit && next.filter == *filter;
        let at = expected.iter().position(asked)?;
        expected.remove(at)
    }

    /// Expects something, in place of what has been expected longest.
    pub fn expect(&self, next: Next<B>) {
        let mut expected = self.expected();
        if expected.len() == READERS {
            expected.pop_front();
        }
        expected.push_back(next);
    }

    /// Expects nothing any more.
    pub fn clear(&self) {
        self.expected().clear();
    }

    /// How many pages are begun for each of those that are expected, the latest last.
    pub fn begun(&self) -> Vec<usize> {
        self.expected().iter().map(|next| next.pages.len()).collect()
    }

    fn expected(&self) -> MutexGuard<'_, VecDeque<Next<B>>> {
        self.0.lock().expect("no panic holds what is expected")
    }
}
