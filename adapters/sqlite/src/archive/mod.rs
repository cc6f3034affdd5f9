//! The archive: a second file, for events that are seldom read.
//!
//! It has the same table of events. An event is copied there, durably, before the writer takes it out of the store's own
//! file; so it is in one of the two, or in both, and never in neither. Who reads looks into the store's file first and
//! only for what is not there into the archive ([`Cold`]): as the archive is looked at later than the store, and nothing
//! ever leaves it, a reader finds in it all that had left the store. Reads of what did not leave never touch it.
//!
//! Only what the sealed runs of the index cover leaves the store, and never the last event of a stream: heads are known,
//! and the log's end is there, without the archive.

mod cold;
mod file;
mod mover;

use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use purlin::store::LogId;
use rusqlite::Connection;

use crate::files;
use crate::older::Older;
use crate::schema::{self, SchemaError};
use crate::synchronous::Synchronous;
pub(crate) use cold::{Cold, Scan};
pub(crate) use file::{Counted, Refused, count_both, open, open_writable, prepare_copy};
pub(crate) use mover::move_events;

/// Where the archive of a store is, and whether there is one.
pub(crate) struct Archive {
    file: PathBuf,
    log: LogId,
    /// Of the store: its events lie as they lie there.
    older: Older,
    /// Of the log that was copied, if this one began with the copy.
    before: Option<u32>,
    made: AtomicBool,
    /// How many events left the store: it has at least as many.
    left: AtomicU64,
    /// Which file it was when it was first opened.
    which: OnceLock<(u64, u64)>,
}

impl Archive {
    /// Of a store that is open.
    pub(crate) fn find(
        connection: &Connection,
        log: LogId,
        said: Option<&Path>,
        store: &Path,
    ) -> Result<Self, SchemaError> {
        let (file, made) = schema::find_archive(connection, said, store)?;
        let (older, before) = (schema::read_older(connection)?, schema::incarnation_before(connection)?);
        let left = schema::left(connection)?.into();
        Ok(Self { file, log, older, before, made: made.into(), left, which: OnceLock::new() })
    }

    /// What a store's file says of its archive, if that is not said; none when it has none.
    pub(crate) fn of(
        store: &Path,
        connection: &Connection,
        said: Option<&Path>,
    ) -> Result<Option<Self>, SchemaError> {
        if schema::archive(connection)?.is_none() {
            return Ok(None);
        }
        let (_, log, _) = schema::described(connection)?;
        Self::find(connection, log, said, store).map(Some)
    }

    pub(crate) fn file(&self) -> &Path {
        &self.file
    }

    /// How the store remembers where it is; nothing when that is beside it.
    pub(crate) fn remembered(&self, store: &Path) -> &str {
        let beside = place(store, None);
        match self.file == beside || std::path::absolute(&beside).is_ok_and(|beside| self.file == beside) {
            true => "",
            false => self.file.to_str().unwrap_or_default(),
        }
    }

    pub(crate) fn log(&self) -> LogId {
        self.log
    }

    /// Whether events may have left the store.
    pub(crate) fn is_made(&self) -> bool {
        self.made.load(Ordering::SeqCst)
    }

    /// From now on events leave the store; known before the first one is gone.
    pub(crate) fn make(&self) {
        self.made.store(true, Ordering::SeqCst);
    }

    /// How many events left the store.
    pub(crate) fn left(&self) -> u64 {
        self.left.load(Ordering::SeqCst)
    }

    /// So many have left by now.
    pub(crate) fn set_left(&self, left: u64) {
        self.left.store(left, Ordering::SeqCst);
    }

    /// Refuses a file that was put in the place of the one that is used: what moves to it is not found in the other.
    pub(crate) fn is_same(&self) -> Result<(), Refused> {
        let now = files::which(&self.file).ok();
        match (self.which.get(), now) {
            (Some(known), Some(now)) if *known != now => Err(Refused::Replaced(self.file.clone())),
            _ => Ok(()),
        }
    }

    /// The file was opened, and is this store's.
    fn known(&self) -> Result<(), Refused> {
        if let Ok(which) = files::which(&self.file) {
            self.which.get_or_init(|| which);
        }
        self.is_same()
    }
}

/// When a store is opened: refuses an archive that is not its own, and takes over one that was copied with it. Without its
/// archive a store opens all the same; whether it is there, if it was made.
pub(crate) fn settle(archive: &Archive, synchronous: Synchronous) -> Result<bool, Refused> {
    if !archive.is_made() {
        return Ok(true);
    }
    match open_writable(archive, synchronous) {
        Ok(_) => Ok(true),
        Err(wrong @ Refused::Wrong { .. }) => Err(wrong),
        Err(away) => {
            tracing::warn!("{away}; until then, what was archived cannot be read");
            Ok(false)
        }
    }
}

/// When a store closes: leaves nothing of the archive but its file.
pub(crate) fn tidy(archive: &Archive, synchronous: Synchronous) {
    if archive.is_made()
        && let Err(error) = open_writable(archive, synchronous)
        && !matches!(error, Refused::Missing(_))
    {
        tracing::warn!(%error, "the archive could not be tidied up");
    }
}

/// Where a store's archive is, when this is remembered of it: beside the store if nothing else is.
pub(crate) fn place(store: &Path, remembered: Option<&str>) -> PathBuf {
    match remembered.filter(|path| !path.is_empty()) {
        Some(path) => path.into(),
        None => files::beside(store, ".archive"),
    }
}
