//! Follows the log: reads, folds, commits rows and checkpoint, and wakes those who wait for a position.

use crate::bus::{Backoff, chain};
use crate::message::Fault;
use crate::store::{Commit, CommitError, LogFilter, LogPage, Position, Recorded};

use super::checkpoint::Target;
use super::fold::{Unfolded, fold};
use super::view::{Inner, Progress};
use super::{Misfit, Projection, ViewError, ViewState};

/// How many events are folded into one commit at most.
const BATCH: usize = 256;
/// After so many positions without an event of the category the checkpoint is stored all the same.
const SKIPPED: u64 = 1024;

/// Runs a view until it meets what a person must look at. A store that is away only delays it.
pub(super) async fn run<P: Projection>(view: &Inner<P>) -> Result<(), ViewError> {
    let mut backoff = Backoff::store();
    loop {
        match follow(view).await {
            // Another life of this view wrote last: go on from where that one was.
            Err(ViewError::Write(CommitError::Conflict(_))) => {}
            Err(error) if error.kind().is_transient() => {
                let view = P::NAME;
                tracing::warn!(
                    view,
                    error = &error as &dyn std::error::Error,
                    "the view waits for its store"
                );
                backoff.pause().await;
            }
            end => return end,
        }
    }
}

async fn follow<P: Projection>(view: &Inner<P>) -> Result<(), ViewError> {
    let mut target = Target::open(view).await?;
    let mut watch = view.store.watch();
    loop {
        view.publish(&target);
        let head = *watch.borrow_and_update();
        if head > target.position {
            let filter = LogFilter::category(P::CATEGORY);
            let page = view.store.read_log(target.position, &filter, BATCH).await?;
            view.take(&mut target, page).await?;
            // Nothing of the page may have been wanted: then no commit of the view itself wakes this loop again.
            view.publish(&target);
        }
        // A page may be short long before the end of the log: only its position says how far it has come.
        let caught_up = head <= target.position;
        if caught_up && target.building {
            target.go_live::<P>(&view.store).await?;
            tracing::info!(view = P::NAME, version = P::VERSION, "the view was built anew and is live");
            target = Target::open(view).await?;
        } else if caught_up && watch.changed().await.is_err() {
            return Ok(());
        }
    }
}

impl<P: Projection> Inner<P> {
    fn publish(&self, target: &Target) {
        let position = target.position;
        self.progress.send_if_modified(|progress| {
            let before = progress.clone();
            match target.building {
                true => progress.state = ViewState::Rebuilding { position },
                false => *progress = Progress { position, state: ViewState::Live },
            }
            before.position != progress.position || before.state != progress.state
        });
        if let Some(gauges) = self.gauges.get() {
            let lag = self.store.head().0.saturating_sub(position.0);
            gauges.lag.set(i64::try_from(lag).unwrap_or(i64::MAX));
            gauges.stopped.set(0);
        }
    }

    /// Folds a page, in as many commits as its rows need.
    async fn take(&self, target: &mut Target, page: LogPage) -> Result<(), ViewError> {
        let (mut events, mut size) = (&page.events[..], page.events.len());
        while !events.is_empty() {
            let (batch, rest) = events.split_at(size.min(events.len()));
            // Behind the last event the checkpoint may stand where the page ends.
            let to = if rest.is_empty() { page.through } else { last(batch) };
            match self.commit(target, batch, to).await {
                Ok(()) => events = rest,
                // The rows are too large for one commit: with fewer events there are fewer rows.
                Err(ViewError::Write(CommitError::Invalid(_))) if batch.len() > 1 => size = batch.len() / 2,
                Err(ViewError::Write(error @ CommitError::Invalid(_))) => {
                    return Err(self.stop(Misfit::of(&batch[0], chain(&error))));
                }
                Err(error) => return Err(error),
            }
        }
        target.position = page.through;
        if target.unstored() >= SKIPPED {
            target.commit(&self.store, Commit::new(), page.through).await?;
        }
        Ok(())
    }

    /// Folds a batch in one commit. Before one that does not fit, the view stops, with all that stands before it.
    async fn commit(&self, target: &mut Target, batch: &[Recorded], to: Position) -> Result<(), ViewError> {
        let good = match fold(&self.projection, &self.store, &target.collection, batch).await {
            Ok(rows) => return Ok(target.commit(&self.store, rows, to).await?),
            Err(Unfolded::Read(error)) => return Err(error.into()),
            Err(Unfolded::Misfit(0, misfit)) => return Err(self.stop(misfit)),
            Err(Unfolded::Misfit(index, _)) => &batch[..index],
        };
        Box::pin(self.commit(target, good, last(good))).await?;
        Box::pin(self.commit(target, &batch[good.len()..], to)).await
    }

    fn stop(&self, misfit: Misfit) -> ViewError {
        tracing::error!(view = P::NAME, error = &misfit as &dyn std::error::Error, "the view stops");
        self.progress.send_modify(|progress| progress.state = ViewState::Stopped(misfit.clone()));
        if let Some(gauges) = self.gauges.get() {
            gauges.stopped.set(1);
        }
        ViewError::Misfit { view: P::NAME, misfit }
    }
}

fn last(events: &[Recorded]) -> Position {
    events.last().map_or(Position::START, |event| event.position)
}
