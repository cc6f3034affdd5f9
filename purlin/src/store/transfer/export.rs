//! A store as lines.

use ring::digest::{Context, SHA256};
use tokio::io::{AsyncWrite, AsyncWriteExt};

use super::line::{Defined, EventLine, FORMAT, Line, RecordLine, Trailer};
use super::unfinished::is_mark;
use super::{Header, Moved, Progress, unfinished};
use crate::store::{LogFilter, Position, Query, ReadError, Store};

/// Events that are read at once.
const PAGE: usize = 1024;

/// Bytes of records that are read at once, about.
const RECORDS: usize = 4 << 20;

/// A store was not exported; what was written is of no use.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// Somebody wrote to the store meanwhile: its records are not those of one instant.
    #[error(
        "the store was written to while it was exported: stop the process that uses it, or export a backup of it"
    )]
    Disturbed,
    /// An import into the store was cut off.
    #[error("the store is half imported: finish that import first")]
    Unfinished,
    /// The log has a gap.
    #[error("the log is damaged: behind the position {after} comes {found}")]
    Gap {
        /// The last event before it.
        after: Position,
        /// The first event behind it.
        found: Position,
    },
    /// The store cannot be read.
    #[error("the store cannot be read")]
    Read(#[from] ReadError),
    /// The lines cannot be written.
    #[error("the lines cannot be written")]
    Write(#[from] std::io::Error),
}

/// Writes a store as lines, in bounded memory, and tells `progress` now and then how far it has come.
pub async fn export<W: AsyncWrite + Unpin>(
    store: &Store,
    to: W,
    mut progress: impl FnMut(Progress),
) -> Result<Moved, ExportError> {
    // Personal data leave the store as they are at rest.
    let store = &store.sealed();
    if unfinished(store).await?.is_some() {
        return Err(ExportError::Unfinished);
    }
    let mut commits = store.watch();
    let head = *commits.borrow_and_update();
    let mut lines = Lines { to, hash: Context::new(&SHA256), page: Vec::new(), told: Progress::default() };
    lines.told.of = head.0;
    let collections = store.collections().await?;
    let collections: Vec<_> = collections.iter().filter(|collection| !is_mark(&collection.name)).collect();
    lines.add(&Line::Header(Header {
        format: FORMAT,
        log: store.log_id(),
        head,
        at: store.now(),
        collections: collections.iter().map(|collection| Defined::of(collection)).collect(),
    }))?;
    lines.events(store, head, &mut progress).await?;
    for collection in collections {
        lines.records(store, &collection.name, &mut progress).await?;
    }
    // What another process has appended may not have been heard of yet.
    if store.head_up_to(Position(head.0 + 1)).await? != head || commits.has_changed().unwrap_or(true) {
        return Err(ExportError::Disturbed);
    }
    lines.end().await
}

/// Where the lines go.
struct Lines<W> {
    to: W,
    hash: Context,
    /// What is not written yet.
    page: Vec<u8>,
    told: Progress,
}

impl<W: AsyncWrite + Unpin> Lines<W> {
    fn add(&mut self, line: &Line<'_>) -> Result<(), ExportError> {
        serde_json::to_writer(&mut self.page, line).map_err(std::io::Error::from)?;
        self.page.push(b'\n');
        Ok(())
    }

    async fn flush(&mut self) -> Result<(), ExportError> {
        self.hash.update(&self.page);
        self.to.write_all(&self.page).await?;
        self.told.bytes += self.page.len() as u64;
        self.page.clear();
        Ok(())
    }

    async fn events(
        &mut self,
        store: &Store,
        head: Position,
        progress: &mut impl FnMut(Progress),
    ) -> Result<(), ExportError> {
        let mut after = Position::START;
        while after < head {
            let page = store.read_known(after, &LogFilter::all(), PAGE).await?;
            for event in page.events.iter().filter(|event| event.position <= head) {
                if event.position.0 != after.0 + 1 {
                    return Err(ExportError::Gap { after, found: event.position });
                }
                after = event.position;
                self.add(&Line::Event(EventLine::of(event)))?;
            }
            if after < page.through.min(head) {
                return Err(ExportError::Gap { after, found: page.through });
            }
            self.told.events = after.0;
            self.flush().await?;
            progress(self.told);
        }
        Ok(())
    }

    async fn records(
        &mut self,
        store: &Store,
        collection: &str,
        progress: &mut impl FnMut(Progress),
    ) -> Result<(), ExportError> {
        let (mut after, mut limit) = (None, 64);
        loop {
            let page = store.list_records(collection, Query::all().after(after).limit(limit)).await?;
            for record in &page.records {
                self.add(&Line::Record(RecordLine::of(collection, record)))?;
            }
            self.told.records += page.records.len() as u64;
            // Small ones are read many at a time.
            let average = self.page.len() / page.records.len().max(1);
            limit = (RECORDS / average.max(1)).clamp(16, 1024);
            self.flush().await?;
            progress(self.told);
            after = page.next;
            if after.is_none() {
                return Ok(());
            }
        }
    }

    async fn end(mut self) -> Result<Moved, ExportError> {
        self.flush().await?;
        let Progress { events, records, .. } = self.told;
        let sha256 = hex(self.hash.clone());
        self.add(&Line::Trailer(Trailer { events, records, sha256 }))?;
        self.flush().await?;
        self.to.flush().await?;
        self.to.shutdown().await?;
        Ok(Moved { events, records, bytes: self.told.bytes })
    }
}

/// What a hash says of all that it was given.
pub(super) fn hex(hash: Context) -> String {
    hash.finish().as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}
