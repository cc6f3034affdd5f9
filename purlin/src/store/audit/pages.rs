//! Reads a log page by page, past what cannot be read.

use crate::store::{LogFilter, LogPage, Position, ReadError, Store};

/// What is behind a position.
pub(super) enum Next {
    /// Events, and up to where there are no others.
    Page(LogPage),
    /// The next event cannot be read; behind it others may be.
    Unreadable(String),
    /// Nothing.
    End,
}

/// Reads on behind a position. A page that cannot be read is read one by one, until the event is found.
pub(super) async fn next(store: &Store, after: Position, limit: usize) -> Result<Next, ReadError> {
    let mut limit = limit.max(1);
    loop {
        match store.read_log(after, &LogFilter::all(), limit).await {
            Ok(page) if page.through <= after && page.events.is_empty() => return Ok(Next::End),
            Ok(page) => return Ok(Next::Page(page)),
            Err(ReadError::Unreadable { .. }) if limit > 1 => limit = 1,
            Err(ReadError::Unreadable { what, source }) => {
                return Ok(Next::Unreadable(format!("{what}: {source}")));
            }
            Err(other) => return Err(other),
        }
    }
}
