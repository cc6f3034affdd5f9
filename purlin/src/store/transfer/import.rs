//! Lines as a store.

use ring::digest::{Context, SHA256};
use tokio::io::{AsyncBufRead, AsyncBufReadExt, AsyncReadExt};

use super::export::hex;
use super::line::{EventLine, FORMAT, LONGEST, Line, RecordLine, Trailer};
use super::unfinished::{self, is_mark};
use super::{Header, Moved, Progress};
use crate::store::personal;
use crate::store::{
    Collection, Commit, CommitError, Expected, LogFilter, LogId, Position, Query, ReadError, Record,
    Recorded, Revision, Store,
};

/// Events or records of one commit.
const ITEMS: usize = 1000;

/// Bytes after which a commit takes no more.
const BYTES: usize = 4 << 20;

/// Lines were not imported, or not all of them.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// A line is not what it should be.
    #[error("line {line} cannot be imported: {what}")]
    Line {
        /// Which, from 1.
        line: u64,
        /// What is wrong with it.
        what: String,
    },
    /// A newer version of purlin wrote the lines.
    #[error("the export has format {0}, this program knows formats up to {FORMAT}: use a newer program")]
    Newer(u32),
    /// The export ends before its end. What came is in the store: import the whole export into it, or remove it.
    #[error(
        "the export is cut off behind line {0}: what came so far is kept, import the whole of it to go on"
    )]
    Cut(u64),
    /// The checksum does not fit, or the counts.
    #[error("the export is damaged: {0}; what was imported is not to be used, remove it")]
    Damaged(String),
    /// The store is not empty.
    #[error("the store has {0} already: an import needs a store that is empty")]
    NotEmpty(String),
    /// Another export was begun before.
    #[error(
        "the store is half imported from another export (of {at}, up to {head}): finish that one, or remove the store"
    )]
    Another {
        /// When that one was written.
        at: crate::message::Timestamp,
        /// How far it goes.
        head: Position,
    },
    /// The store has an identity of its own.
    #[error(
        "the store is the log {}-{}, the export is of the log {}-{}: let the import make the store, so that it goes on as the same log",
        .store.log, .store.incarnation, .export.log, .export.incarnation
    )]
    OtherLog {
        /// The store's.
        store: LogId,
        /// The export's.
        export: LogId,
    },
    /// Somebody else writes to the store.
    #[error("somebody else wrote to the store meanwhile: remove it and begin anew, with nobody else on it")]
    Disturbed,
    /// The lines cannot be read.
    #[error("the lines cannot be read")]
    Input(#[from] std::io::Error),
    /// The store refuses.
    #[error("the store does not take what is imported")]
    Commit(#[from] CommitError),
    /// The store cannot be read.
    #[error("the store cannot be read")]
    Read(#[from] ReadError),
}

/// Brings an export into an empty store of the same [`LogId`] (which the adapters' options give to a new store), with
/// positions, versions, ids and times as they were, in bounded memory; `progress` is told now and then how far it has
/// come. One that was cut off goes on where it stopped when the same export is imported again.
pub async fn import<R: AsyncBufRead + Unpin>(
    store: &Store,
    from: R,
    progress: impl FnMut(Progress),
) -> Result<Moved, ImportError> {
    Importer::begin(from).await?.into_store(store, progress).await
}

/// An import whose header is read: who makes the store needs to know which log it is to be.
pub struct Importer<R> {
    lines: Lines<R>,
    header: Header,
}

impl<R: AsyncBufRead + Unpin> Importer<R> {
    /// Reads the header.
    pub async fn begin(from: R) -> Result<Self, ImportError> {
        let mut lines = Lines { from, line: Vec::new(), number: 0, hash: Context::new(&SHA256), bytes: 0 };
        match lines.next().await? {
            None => Err(ImportError::Line { line: 1, what: "there is nothing".into() }),
            Some(Line::Header(header)) if header.format > FORMAT => Err(ImportError::Newer(header.format)),
            Some(Line::Header(header)) => Ok(Self { header, lines }),
            Some(_) => Err(ImportError::Line { line: 1, what: "it is not the header of an export".into() }),
        }
    }

    /// Which log it is, and how far it goes.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// Brings all into a store.
    pub async fn into_store(
        self,
        store: &Store,
        mut progress: impl FnMut(Progress),
    ) -> Result<Moved, ImportError> {
        let Self { mut lines, header } = self;
        if store.log_id() != header.log {
            return Err(ImportError::OtherLog { store: store.log_id(), export: header.log });
        }
        // Personal data are sealed already, under keys that are among the records.
        let store = &store.sealed();
        let mut import = Import::begin(store, &header).await?;
        let trailer = loop {
            let number = lines.number + 1;
            let wrong = |what: String| ImportError::Line { line: number, what };
            let before = lines.hash.clone();
            match lines.next().await? {
                None => return Err(ImportError::Cut(number - 1)),
                Some(Line::Event(line)) => import.event(line).map_err(wrong)?,
                Some(Line::Record(line)) => import.record(line).map_err(wrong)?,
                Some(Line::Trailer(trailer)) => break (trailer, before),
                Some(Line::Header(_)) => return Err(wrong("a second header".into())),
            }
            if import.is_full() {
                import.commit().await?;
                progress(Progress { bytes: lines.bytes, ..import.told });
            }
        };
        import.commit().await?;
        progress(Progress { bytes: lines.bytes, ..import.told });
        let (trailer, hash) = trailer;
        import.check(&trailer, hash)?;
        unfinished::end(store).await?;
        let Progress { events, records, .. } = import.told;
        Ok(Moved { events, records, bytes: lines.bytes })
    }
}

/// What is on its way into the store.
struct Import<'s> {
    store: &'s Store,
    collections: Vec<Collection>,
    told: Progress,
    /// What was there already, and its last event.
    there: Option<Recorded>,
    /// The last event that a line showed.
    seen: Position,
    commit: Commit,
    items: usize,
    bytes: usize,
}

impl<'s> Import<'s> {
    /// Looks whether the store may be taken, and marks it.
    async fn begin(store: &'s Store, header: &Header) -> Result<Self, ImportError> {
        let known = store.collections().await?;
        let mut there = None;
        match unfinished::unfinished(store).await? {
            // Another export of the same state is as good.
            Some(begun) if (Header { at: header.at, ..begun.clone() }) == *header => {
                there = last(store).await?;
                // Records come last, and as a whole: what an earlier attempt left may not be among them any more.
                for collection in known.iter().filter(|collection| !is_mark(&collection.name)) {
                    match personal::check_removal(&collection.name) {
                        Ok(()) => store.drop_collection(&collection.name).await?,
                        Err(_) => empty(store, collection).await?,
                    }
                }
            }
            Some(begun) => return Err(ImportError::Another { at: begun.at, head: begun.head }),
            None => is_empty(store, &known).await?,
        }
        unfinished::begin(store, header).await?;
        let read = header.collections.iter().map(|defined| defined.read(&known));
        let collections =
            read.collect::<Result<Vec<_>, _>>().map_err(|what| ImportError::Line { line: 1, what })?;
        for collection in &collections {
            store.define_collection(collection.clone()).await?;
        }
        let told = Progress { of: header.head.0, ..Progress::default() };
        let (commit, seen) = (Commit::new(), Position::START);
        Ok(Self { store, collections, told, there, seen, commit, items: 0, bytes: 0 })
    }

    fn event(&mut self, line: EventLine<'_>) -> Result<(), String> {
        let event = line.read()?;
        if event.position.0 != self.seen.0 + 1 {
            return Err(format!("the event at {} comes behind that at {}", event.position, self.seen));
        }
        if event.position.0 > self.told.of {
            return Err(format!("the header tells of {} events, and here is one more", self.told.of));
        }
        self.seen = event.position;
        if let Some(there) = &self.there
            && event.position <= there.position
        {
            if event.position == there.position && event != *there {
                return Err(format!("it is not the event that is at {} in the store", there.position));
            }
            return Ok(());
        }
        let expected = Expected::Version(event.version.saturating_sub(1));
        let Recorded { stream, at, envelope, .. } = event;
        self.items += 1;
        self.bytes += envelope.data.len();
        let last = self.commit.appends.last_mut();
        match last.filter(|last| last.stream == stream && last.at == Some(at)) {
            Some(append) => append.events.push(envelope),
            None => {
                self.commit = std::mem::take(&mut self.commit).append_at(stream, expected, [envelope], at);
            }
        }
        Ok(())
    }

    fn record(&mut self, mut line: RecordLine<'_>) -> Result<(), String> {
        if self.seen.0 != self.told.of {
            return Err(format!("only {} events came before the first record", self.seen));
        }
        let value = line.value()?;
        let RecordLine { collection, key, due, .. } = line;
        let known = self.collections.iter().find(|known| known.name == collection);
        let known =
            known.ok_or_else(|| format!("the header does not tell of a collection `{collection}`"))?;
        self.items += 1;
        self.bytes += value.get().len();
        self.told.records += 1;
        let commit = std::mem::take(&mut self.commit);
        self.commit = commit.put_in(known, key.into_owned(), &value, Revision::Any, due);
        Ok(())
    }

    fn is_full(&self) -> bool {
        self.items >= ITEMS || self.bytes >= BYTES
    }

    async fn commit(&mut self) -> Result<(), ImportError> {
        (self.items, self.bytes) = (0, 0);
        let commit = std::mem::take(&mut self.commit);
        if !commit.is_empty() {
            let committed = self.store.commit(commit).await?;
            if committed.position != self.seen {
                return Err(ImportError::Disturbed);
            }
        }
        self.told.events = self.seen.0;
        Ok(())
    }

    fn check(&self, trailer: &Trailer, hash: Context) -> Result<(), ImportError> {
        let Progress { events, records, of, .. } = self.told;
        if (trailer.events, trailer.records, of) != (events, records, events) {
            return Err(ImportError::Damaged(format!(
                "{} events and {} records are announced, and {events} and {records} came",
                trailer.events.max(of),
                trailer.records
            )));
        }
        match hex(hash) == trailer.sha256 {
            true => Ok(()),
            false => Err(ImportError::Damaged("its checksum does not fit what came".into())),
        }
    }
}

/// Refuses a store in which there is something.
async fn is_empty(store: &Store, known: &[Collection]) -> Result<(), ImportError> {
    if store.head() != Position::START {
        return Err(ImportError::NotEmpty(format!("{} events", store.head())));
    }
    for collection in known.iter().filter(|collection| !is_mark(&collection.name)) {
        if !store.list_records(&collection.name, Query::all().limit(1)).await?.records.is_empty() {
            return Err(ImportError::NotEmpty(format!("records of `{}`", collection.name)));
        }
    }
    Ok(())
}

/// Deletes the records of a collection one by one: a key is overwritten where it is deleted, and not where its
/// collection is dropped.
async fn empty(store: &Store, collection: &Collection) -> Result<(), ImportError> {
    loop {
        let records = store.list_records(&collection.name, Query::all().limit(ITEMS)).await?.records;
        if records.is_empty() {
            return Ok(());
        }
        let delete = |commit: Commit, record: Record| {
            commit.delete_in(collection, record.key, Revision::Exact(record.revision))
        };
        store.commit(records.into_iter().fold(Commit::new(), delete)).await?;
    }
}

/// The last event of a log.
async fn last(store: &Store) -> Result<Option<Recorded>, ReadError> {
    let before = Position(store.head().0.saturating_sub(1));
    Ok(store.read_log(before, &LogFilter::all(), 1).await?.events.pop())
}

/// Where the lines come from.
struct Lines<R> {
    from: R,
    line: Vec<u8>,
    number: u64,
    hash: Context,
    bytes: u64,
}

impl<R: AsyncBufRead + Unpin> Lines<R> {
    /// The next line; none when there is no further one, or only a part of it.
    async fn next(&mut self) -> Result<Option<Line<'_>>, ImportError> {
        self.line.clear();
        (&mut self.from).take(LONGEST).read_until(b'\n', &mut self.line).await?;
        let line = self.number + 1;
        let Some((b'\n', text)) = self.line.split_last() else {
            return match self.line.len() as u64 {
                LONGEST => {
                    Err(ImportError::Line { line, what: format!("it is longer than {LONGEST} bytes") })
                }
                _ => Ok(None),
            };
        };
        self.number = line;
        self.bytes += self.line.len() as u64;
        self.hash.update(&self.line);
        let read = serde_json::from_slice(text);
        read.map(Some).map_err(|error| ImportError::Line { line, what: error.to_string() })
    }
}
