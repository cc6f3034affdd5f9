//! Goes through the streams of a category, and archives those that are chosen.

use std::time::Duration;

use tokio::time::Instant;

use super::{Archived, Selection};
use crate::message::{Fault, FaultKind, Timestamp};
use crate::store::{CommitError, LogFilter, LogPage, Position, ReadError, Store, StreamId};

/// Streams that are looked at in one step.
const STREAMS: usize = 256;

/// Events that are moved in one step.
const EVENTS: usize = 2048;

/// Streams were not archived, or not all. What was archived stays so, and who asks again goes on from there.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// The selection cannot be meant.
    #[error("the streams to archive are not well said: {0}")]
    Invalid(String),
    /// The streams cannot be looked at.
    #[error("the streams to archive cannot be read")]
    Read(#[from] ReadError),
    /// Their events cannot be moved.
    #[error("the events cannot be moved to the archive")]
    Move(#[from] CommitError),
}

impl Fault for ArchiveError {
    fn kind(&self) -> FaultKind {
        match self {
            Self::Invalid(_) => FaultKind::Rejected,
            Self::Read(error) => error.kind(),
            Self::Move(error) => error.kind(),
        }
    }
}

/// How far archiving has come.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Progress {
    /// Streams that were looked at, and are done.
    pub seen: u64,
    /// Those of them that were chosen.
    pub chosen: u64,
    /// Events that were moved; in a dry run, those that the chosen streams have before their last.
    pub events: u64,
    /// Bytes of the data of the events that were moved.
    pub bytes: u64,
    /// All streams that began at or before this position are done.
    pub through: Position,
    /// Where the log ended when it began: it is done once `through` has come there.
    pub of: Position,
    /// Events that are damaged, by name, at most [`Progress::DAMAGED`]: they and what comes behind them in their streams
    /// stay where they are.
    #[serde(default)]
    pub damaged: Vec<String>,
    /// How long it has taken; whoever asks over a wire measures that himself.
    #[serde(skip)]
    pub took: Duration,
}

impl Progress {
    /// How many damaged events are named.
    pub const DAMAGED: usize = 64;

    /// Events a second.
    pub fn rate(&self) -> f64 {
        #[expect(clippy::cast_precision_loss, reason = "it is shown to a person")]
        let events = self.events as f64;
        let seconds = self.took.as_secs_f64();
        if seconds > 0.0 { events / seconds } else { 0.0 }
    }

    /// Whether all streams were looked at that began before it did.
    pub fn is_done(&self) -> bool {
        self.through >= self.of
    }
}

/// An archiving under way. Dropping it stops it; all that was moved stays where it is.
#[derive(Debug)]
pub struct Archiving {
    store: Store,
    selection: Selection,
    /// The time of the youngest last event that is old enough.
    until: Timestamp,
    began: Instant,
    progress: Progress,
    /// Streams that were chosen and are not moved yet.
    chosen: Vec<StreamId>,
    /// Up to where the log was looked through for them, how many streams were seen since `through`, and how many of
    /// them were chosen.
    looked: Position,
    page: (u64, u64),
}

impl Archiving {
    /// Begins; nothing happens before the first step.
    pub fn new(store: &Store, selection: &Selection) -> Result<Self, ArchiveError> {
        // What is personal moves as it lies.
        let store = store.sealed();
        let until = selection.check(store.limits(), store.now())?;
        let looked = selection.begins_after();
        let progress = Progress { through: looked, of: store.head(), ..Progress::default() };
        let (selection, began) = (selection.clone(), Instant::now());
        Ok(Self { store, selection, until, began, progress, chosen: Vec::new(), looked, page: (0, 0) })
    }

    /// How far it has come.
    pub fn progress(&self) -> Progress {
        Progress { took: self.began.elapsed(), ..self.progress.clone() }
    }

    /// Does a part of it that is never long, and tells whether there is more to do.
    pub async fn step(&mut self) -> Result<bool, ArchiveError> {
        if self.chosen.is_empty() && self.looked < self.progress.of {
            self.choose().await?;
        } else if !self.chosen.is_empty() {
            self.archive().await?;
        }
        if self.chosen.is_empty() {
            let (seen, chosen) = std::mem::take(&mut self.page);
            self.progress.seen += seen;
            self.progress.chosen += chosen;
            self.progress.through = self.looked;
        }
        Ok(!self.progress.is_done())
    }

    /// Looks at some streams.
    async fn choose(&mut self) -> Result<(), ArchiveError> {
        let mut damaged = Vec::new();
        let page = self.births(&mut damaged).await?;
        let mut found = Vec::new();
        let mut seen = 0;
        for born in page.events.into_iter().take_while(|born| born.position <= self.progress.of) {
            seen += 1;
            let last = match self.store.read_stream_back(&born.stream, u64::MAX, 1).await {
                Err(ReadError::Unreadable { what, .. }) => {
                    damaged.push(what);
                    continue;
                }
                read => read?.pop(),
            };
            // A stream of one event has nothing to move.
            if let Some(last) = last.filter(|last| self.selection.admits(last, self.until)) {
                found.push((born.stream, last.version - 1));
            }
        }
        // Nothing above is counted if it is dropped on the way.
        self.page = (seen, found.len() as u64);
        self.tell(damaged);
        if self.selection.is_dry() {
            self.progress.events += found.iter().map(|(_, before)| before).sum::<u64>();
        } else {
            let moving = found.into_iter().filter(|(_, before)| *before > 0);
            self.chosen = moving.map(|(stream, _)| stream).collect();
        }
        self.looked = page.through.max(self.looked);
        Ok(())
    }

    /// The first events of some streams. Where the log cannot be read, it is gone through event by event, past the damaged
    /// one.
    async fn births(&self, damaged: &mut Vec<String>) -> Result<LogPage, ReadError> {
        let births = self.selection.births();
        let (after, every) = (self.looked, LogFilter::all());
        match self.store.read_known(after, &births, STREAMS).await {
            Err(ReadError::Unreadable { .. }) => {}
            read => return read,
        }
        let mut page = LogPage { events: Vec::new(), through: after };
        while damaged.is_empty() && page.events.len() < STREAMS && page.through < self.progress.of {
            match self.store.read_known(page.through, &every, 1).await {
                Ok(one) => {
                    page.through = one.through;
                    page.events.extend(one.events.into_iter().filter(|event| births.admits(event)));
                }
                Err(ReadError::Unreadable { what, .. }) => {
                    damaged.push(what);
                    page.through = Position(page.through.0 + 1);
                }
                Err(error) => return Err(error),
            }
        }
        Ok(page)
    }

    /// Names what is damaged; who asks for the same streams again is told again.
    fn tell(&mut self, damaged: Vec<String>) {
        let named = &mut self.progress.damaged;
        for damaged in damaged {
            if named.len() < Progress::DAMAGED && !named.contains(&damaged) {
                named.push(damaged);
            }
        }
    }

    /// Moves some events of the streams that were chosen.
    async fn archive(&mut self) -> Result<(), ArchiveError> {
        let archived = self.store.engine.archive(self.chosen.clone(), EVENTS).await?;
        let Archived { events, bytes, more, damaged } = archived;
        self.progress.events += events;
        self.progress.bytes += bytes;
        self.tell(damaged);
        if !more {
            self.chosen.clear();
        }
        Ok(())
    }
}

impl Store {
    /// Moves the events of streams that are chosen, all but the last of each, to the store's archive, and tells
    /// `progress` after each step how far it has come; see [`archive`](super).
    ///
    /// Others may read and write meanwhile: what they find is the same before, during and after. A run that was stopped,
    /// by dropping the future or by a crash, is simply begun again: what was moved is not moved twice.
    pub async fn archive(
        &self,
        selection: &Selection,
        mut progress: impl FnMut(Progress),
    ) -> Result<Progress, ArchiveError> {
        let mut archiving = Archiving::new(self, selection)?;
        while archiving.step().await? {
            progress(archiving.progress());
        }
        progress(archiving.progress());
        Ok(archiving.progress())
    }
}
