//! How a file is opened.

use std::path::PathBuf;

use purlin::message::Clock;
use purlin::store::LogId;

use crate::synchronous::Synchronous;

/// How a store is opened.
#[derive(Debug, Clone)]
pub struct Options {
    /// The file; its folder is made when it is not there.
    pub file: PathBuf,
    /// Commits that may wait for the writer; one more is answered with `Overloaded`.
    pub queue: usize,
    /// Bytes of commits that may wait for the writer; more are answered with `Overloaded`.
    pub queue_bytes: usize,
    /// Threads that read.
    pub readers: usize,
    /// Streams whose last version the writer keeps in mind; never fewer than fit into two of its transactions, 16,384.
    pub heads: usize,
    /// Events whose places are kept in memory before they become a run of the stream index.
    pub run: usize,
    /// Positions of the log that one read looks through for the events that it wants.
    pub window: u64,
    /// What a commit waits for.
    pub synchronous: Synchronous,
    /// Tells when a commit happens.
    pub clock: Clock,
    /// Where the archive is, for what [`Engine::archive`](purlin::store::Engine::archive) moves; none: where it was last,
    /// and beside the store, as `<file>.archive`, if there was none. What is said here is remembered as soon as the archive was found there, or if
    /// nothing was archived yet. An archive is carried to another place while the store is closed. It must be on a local
    /// disk, in a folder that can be written to even for reading: SQLite keeps its log beside it, which no network file
    /// system shares.
    pub archive: Option<PathBuf>,
    /// Which log a store that is made anew is to go on as (for imports); a new one when none is said.
    pub log: Option<LogId>,
    /// Opens a store into which an import was cut off, too: for that import to go on, and to look at what came. It is
    /// refused otherwise, because it has half of a log.
    pub half_imported: bool,
}

impl Options {
    /// The defaults for a file.
    pub fn new(file: impl Into<PathBuf>) -> Self {
        Self {
            file: file.into(),
            queue: 16 * 1024,
            queue_bytes: 64 << 20,
            readers: 2,
            heads: 256 * 1024,
            run: 50_000,
            window: 50_000,
            synchronous: Synchronous::Full,
            clock: Clock::system(),
            archive: None,
            log: None,
            half_imported: false,
        }
    }
}
