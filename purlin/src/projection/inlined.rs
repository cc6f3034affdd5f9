//! The engine behind a store whose commits write the rows of a view.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::bus::{Backoff, chain};
use crate::store::{
    Append, BoxFuture, Commit, CommitError, Committed, Conflict, Engine, Expected, Layer, Limits, Position,
    ReadError, Recorded, Row, StreamId,
};

use super::Misfit;
use super::batch::Batch;
use super::checkpoint::{Checkpoint, Stored};
use super::control::{Control, Inline, Seen};
use super::fold::Definition;
use super::inline::{PATIENCE, missed};
use super::inner::Inner;
use super::loaded::Loaded;

/// An engine whose commits write the rows of a view; all else goes straight through.
pub(super) struct Inlined {
    view: Arc<Inner>,
    engine: Arc<dyn Engine>,
    /// What the control record said last.
    seen: Mutex<Option<Arc<Wanted>>>,
    /// Who has lost a race for a row waits here for his next try: one at a time gets through.
    turns: Mutex<()>,
}

/// How the view wants commits to be.
struct Wanted {
    control: Seen,
    checkpoint: Option<Checkpoint>,
}

impl Inlined {
    pub(super) fn new(view: Arc<Inner>) -> Self {
        let engine = view.store.engine();
        Self { view, engine, seen: Mutex::default(), turns: Mutex::default() }
    }

    async fn commit_with_rows(&self, commit: Commit) -> Result<Committed, CommitError> {
        let mut turn = None;
        let mut races = Backoff::conflict();
        loop {
            let wanted = self.wanted().await.map_err(unreadable)?;
            let with = match wanted.control.row.inline {
                Inline::Off => wanted.control.require(commit.clone()),
                Inline::Closing => {
                    self.opened(&wanted.control).await?;
                    self.seen.lock().await.take();
                    continue;
                }
                Inline::On => match self.with_rows(&commit, &wanted).await {
                    Ok(with) => with,
                    Err(refused) => {
                        // Its rows may be of another version by now, and nobody's who commits.
                        if !wanted.control.changed(&self.view.store).await.map_err(unreadable)? {
                            return Err(refused);
                        }
                        self.seen.lock().await.take();
                        continue;
                    }
                },
            };
            Limits::default().check(&with)?;
            match self.engine.commit(with).await {
                Err(CommitError::Conflict(conflict)) if self.is_control(&conflict) => {
                    self.seen.lock().await.take();
                }
                Err(CommitError::Conflict(conflict)) if self.is_row(&conflict) => {
                    if turn.is_none() {
                        turn = Some(self.turns.lock().await);
                    } else if !races.pause().await {
                        return Err(CommitError::Conflict(conflict));
                    }
                }
                end => return end,
            }
        }
    }

    async fn wanted(&self) -> Result<Arc<Wanted>, ReadError> {
        let mut seen = self.seen.lock().await;
        if let Some(wanted) = &*seen {
            return Ok(Arc::clone(wanted));
        }
        let view = &self.view;
        view.prepare().await?;
        let wanted = loop {
            let control = Seen::read(&view.store, view.definition.name).await?;
            if control.row.inline == Inline::On
                && let Some(commit) = missed(view, &control).await?
            {
                match view.store.commit(commit).await {
                    Ok(_) | Err(CommitError::Conflict(_)) => continue,
                    Err(error) => return Err(ReadError::Unavailable(error.into())),
                }
            }
            let stored = Stored::read(&view.store, view.definition.name).await?;
            break Arc::new(Wanted { control, checkpoint: stored.map(|stored| stored.checkpoint) });
        };
        if wanted.control.row.inline != Inline::On {
            view.publish_following();
        }
        *seen = Some(Arc::clone(&wanted));
        Ok(wanted)
    }

    /// Waits until the view has gone inline. One that does not come to it is told to go on following.
    async fn opened(&self, control: &Seen) -> Result<(), CommitError> {
        let (mut watch, deadline) = (self.engine.watch(), Instant::now() + PATIENCE);
        loop {
            watch.borrow_and_update();
            if control.changed(&self.view.store).await.map_err(unreadable)? {
                return Ok(());
            }
            if tokio::time::timeout_at(deadline, watch.changed()).await.is_err() {
                let row = Control { inline: Inline::Off, ..control.row.clone() };
                return match self.view.store.commit(control.replace(Commit::new(), &row)).await {
                    Ok(_) | Err(CommitError::Conflict(_)) => Ok(()),
                    Err(error) => Err(error),
                };
            }
        }
    }

    async fn with_rows(&self, commit: &Commit, wanted: &Wanted) -> Result<Commit, CommitError> {
        let Definition { name, version, collections, .. } = &self.view.definition;
        let checkpoint = wanted.checkpoint.as_ref().filter(|checkpoint| checkpoint.version == *version);
        let Some(checkpoint) = checkpoint else {
            let what = format!(
                "the inline view `{name}` is stored in another version than {version}, which this program knows"
            );
            return Err(CommitError::Invalid(what));
        };
        let events = self.events(commit)?;
        let live = collections.iter().map(|live| (live.name.to_string(), live.clone()));
        let mut loaded = Loaded::new(live, false);
        let batch = Batch {
            definition: &self.view.definition,
            store: &self.view.store,
            events: &events,
            parked: &|_| false,
            unfit: BTreeMap::new(),
            cores: None,
        };
        let left = batch.fold(&mut loaded).await.map_err(unreadable)?.left;
        if let Some((index, reason)) = left.iter().find_map(|left| Some((left.index, left.reason.clone()?))) {
            let misfit = Misfit::of(&events[index], reason);
            return Err(CommitError::Invalid(format!("the inline view `{name}`: {misfit}")));
        }
        let with = commit.clone().and(loaded.commit(true));
        Ok(wanted.control.require(with).put(*name, checkpoint))
    }

    /// The commit's events for the view, as they will stand in the log, except for their positions.
    fn events(&self, commit: &Commit) -> Result<Vec<Recorded>, CommitError> {
        let at = self.engine.clock().now();
        let mut events = Vec::new();
        for Append { stream, expected, events: envelopes, at: dated } in &commit.appends {
            if !self.view.definition.wants_category(stream.category()) {
                continue;
            }
            let earlier = events.iter().filter(|event: &&Recorded| event.stream == *stream).count() as u64;
            let version = match expected {
                Expected::NoStream => 0,
                Expected::Version(version) => *version,
                Expected::Any if earlier > 0 => earlier_version(&events, stream),
                Expected::Any => {
                    return Err(CommitError::Invalid(format!(
                        "an append to `{stream}` must say which version it expects: the view `{}` is written with it",
                        self.view.definition.name
                    )));
                }
            };
            for (version, envelope) in (version + 1..).zip(envelopes) {
                let (stream, envelope) = (stream.clone(), envelope.clone());
                let at = dated.unwrap_or(at);
                events.push(Recorded { position: Position::START, stream, version, at, envelope });
            }
        }
        Ok(events)
    }

    fn is_control(&self, conflict: &Conflict) -> bool {
        conflict.is_record(Control::COLLECTION, self.view.definition.name)
    }

    fn is_row(&self, conflict: &Conflict) -> bool {
        let collections = &self.view.definition.collections;
        matches!(conflict, Conflict::Record { collection, .. }
            if collections.iter().any(|live| live.name == collection.as_str()))
    }
}

fn earlier_version(events: &[Recorded], stream: &StreamId) -> u64 {
    events.iter().rev().find(|event| event.stream == *stream).map_or(0, |event| event.version)
}

fn unreadable(error: ReadError) -> CommitError {
    match error {
        ReadError::Unavailable(cause) => CommitError::Unavailable(cause),
        error => CommitError::Invalid(chain(&error)),
    }
}

impl Layer for Inlined {
    fn inner(&self) -> &dyn Engine {
        &*self.engine
    }

    fn commit(&self, commit: Commit) -> BoxFuture<'_, Result<Committed, CommitError>> {
        let definition = &self.view.definition;
        let wanted = |append: &Append| definition.wants_category(append.stream.category());
        if commit.appends.iter().any(wanted) {
            return Box::pin(self.commit_with_rows(commit));
        }
        self.engine.commit(commit)
    }
}
