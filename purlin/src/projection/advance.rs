//! Follows the log: reads, folds, commits rows and checkpoint, and parks what does not fit.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::future::join;

use crate::bus::chain;
use crate::store::{Commit, CommitError, LogFilter, LogPage, Position, ReadError, Recorded, Store};

use super::batch::Batch;
use super::checkpoint::Target;
use super::control::{Control, Seen};
use super::fold::Definition;
use super::inner::Inner;
use super::{Misfit, ViewError};

/// How many events are folded into one commit at most.
const BATCH: usize = 256;
/// As [`BATCH`], for rows that nobody waits for: those beside the live ones, and those that are far behind.
const BUILD: usize = 1024;
/// How many positions are far.
const FAR: u64 = 4096;
/// After so many positions without an event of the category the checkpoint is stored all the same.
const SKIPPED: u64 = 1024;

/// How long one waits for events that the log is said to have, and that cannot be read yet; and how often, until the view
/// says so and looks whether anything else is wanted of it.
pub(super) const LAG: Duration = Duration::from_millis(100);
const LAGS: u32 = 20;

/// Folds all that the log has, or all up to a position. The next page is read while one is committed.
pub(super) async fn advance(
    view: &Inner,
    target: &mut Target,
    control: &Seen,
    to: Option<Position>,
) -> Result<(), ViewError> {
    let (mut next, mut lags) = (None, 0);
    loop {
        let head = to.unwrap_or_else(|| view.store.head());
        view.publish(target);
        // A page may be short long before the end of the log: only its position says how far it has come.
        if head <= target.position {
            return Ok(());
        }
        let far = target.building || head.0 - target.position.0 >= FAR;
        let size = if far { BUILD } else { BATCH };
        let page = match next.take() {
            Some(page) => page,
            None => read_page(&view.definition, &view.store, target.position, size).await?,
        };
        if page.through <= target.position {
            // Who answers lags behind whoever told of the end, or has lost it.
            tokio::time::sleep(LAG).await;
            lags += 1;
            if lags % LAGS == 0 {
                view.show_lag();
                tracing::warn!(view = view.definition.name, %head, "the log cannot be read as far as it is said to go yet");
                view.store.commit(control.require(Commit::new())).await?;
            }
            continue;
        }
        view.oldest(target, page.events.first());
        let through = page.through;
        let ahead = async {
            match head > through {
                true => read_page(&view.definition, &view.store, through, size).await.map(Some),
                false => Ok(None),
            }
        };
        let (taken, page) = join(take(view, target, control, page), ahead).await;
        taken?;
        next = page?;
        if target.unstored() >= SKIPPED {
            target.commit(&view.store, control, Commit::new(), target.position, view.clock.now()).await?;
        }
        if target.building {
            // The live rows are followed by the same task.
            tokio::task::yield_now().await;
        }
    }
}

/// The events of a view behind a position.
pub(super) async fn read_page(
    definition: &Definition,
    store: &Store,
    after: Position,
    limit: usize,
) -> Result<LogPage, ReadError> {
    if let [category] = definition.categories {
        return store.read_log(after, &LogFilter::category(*category), limit).await;
    }
    let mut page = store.read_log(after, &LogFilter::all(), limit).await?;
    page.events.retain(|event| definition.wants_category(event.stream.category()));
    Ok(page)
}

/// The event of a view at a position.
pub(super) async fn event_at(view: &Inner, position: Position) -> Result<Option<Recorded>, ReadError> {
    let before = Position(position.0.saturating_sub(1));
    let page = read_page(&view.definition, &view.store, before, 1).await?;
    Ok(page.events.into_iter().next().filter(|event| event.position == position))
}

/// Folds a page, in as many commits as its rows need.
async fn take(view: &Inner, target: &mut Target, control: &Seen, page: LogPage) -> Result<(), ViewError> {
    let (mut events, mut size) = (&page.events[..], page.events.len());
    while !events.is_empty() {
        let (batch, rest) = events.split_at(size.min(events.len()));
        // Behind the last event the checkpoint may stand where the page ends.
        let to = if rest.is_empty() { page.through } else { last(batch) };
        match commit(view, target, control, batch, to, BTreeMap::new()).await {
            Ok(()) => events = rest,
            // The rows are too large for one commit: with fewer events there are fewer rows.
            Err(ViewError::Write(error)) if is_of_the_rows(&error) => match batch {
                [event] => {
                    alone(view, target, control, event, to, error).await?;
                    (events, size) = (rest, page.events.len());
                }
                _ => size = batch.len() / 2,
            },
            Err(error) => return Err(error),
        }
    }
    target.position = page.through;
    Ok(())
}

/// Whether a commit was refused for what is in its rows, and will be as often as they are the same.
pub(super) fn is_of_the_rows(error: &CommitError) -> bool {
    matches!(error, CommitError::Invalid(_) | CommitError::Forgotten(_))
}

/// Parks an event whose rows were refused. If somebody was forgotten whom it or its rows were about when they were read,
/// they are read and folded once more: they may say nothing of him now.
async fn alone(
    view: &Inner,
    target: &mut Target,
    control: &Seen,
    event: &Recorded,
    to: Position,
    mut refused: CommitError,
) -> Result<(), ViewError> {
    if let CommitError::Forgotten(_) = refused
        && let Some(anew) = event_at(view, event.position).await?
    {
        match commit(view, target, control, &[anew], to, BTreeMap::new()).await {
            Err(ViewError::Write(error)) if is_of_the_rows(&error) => refused = error,
            done => return done,
        }
    }
    let unfit = BTreeMap::from([(0, chain(&refused))]);
    commit(view, target, control, std::slice::from_ref(event), to, unfit).await
}

/// Folds a batch in one commit, and parks in it what cannot be folded. When too much is parked already, the view stops
/// before the event, with all that stands before it.
async fn commit(
    view: &Inner,
    target: &mut Target,
    control: &Seen,
    batch: &[Recorded],
    to: Position,
    unfit: BTreeMap<usize, String>,
) -> Result<(), ViewError> {
    let Target { loaded, parked, .. } = &mut *target;
    let known = |key: &str| parked.keys.contains_key(key);
    let (definition, store) = (&view.definition, &view.store);
    let cores = Some(&view.cores);
    let folded =
        Batch { definition, store, events: batch, parked: &known, unfit, cores }.fold(loaded).await?;
    let now = view.clock.now();
    let room = view.park_at_most.load(Ordering::Relaxed).saturating_sub(target.parked.events());
    if let Some(left) = folded.left.get(usize::try_from(room).unwrap_or(usize::MAX)) {
        let event = &batch[left.index];
        let why = match &left.reason {
            Some(reason) => reason.clone(),
            None => {
                format!("it would wait behind others of the key `{}`, and no more can be parked", left.key)
            }
        };
        let misfit = Misfit::of(event, why);
        target.loaded.restart();
        let good = &batch[..left.index];
        if !good.is_empty() {
            Box::pin(commit(view, target, control, good, last(good), BTreeMap::new())).await?;
        }
        return Err(stop(view, target, control, misfit).await);
    }
    for left in &folded.left {
        if let Some(reason) = &left.reason {
            let misfit = Misfit::of(&batch[left.index], reason.as_str());
            tracing::error!(
                view = view.definition.name,
                key = left.key,
                error = &misfit as &dyn std::error::Error,
                "an event cannot be folded and is parked"
            );
        }
    }
    let (parking, keys) = target.parked.park(Commit::new(), folded.left, batch, now);
    target.commit(&view.store, control, parking, to, now).await?;
    target.parked(keys);
    Ok(())
}

/// Stops before an event. Rows beside the live ones are no reason for these to stop: word of them is left with their
/// checkpoint.
async fn stop(view: &Inner, target: &mut Target, control: &Seen, misfit: Misfit) -> ViewError {
    if !target.building {
        return halt(view, control, misfit).await;
    }
    match target.stop(&view.store, control, misfit.clone()).await {
        Ok(()) => ViewError::Misfit { view: view.definition.name, misfit },
        Err(error) => error.into(),
    }
}

/// Leaves word for an operator of the event before which the view stops.
pub(super) async fn halt(view: &Inner, control: &Seen, misfit: Misfit) -> ViewError {
    let name = view.definition.name;
    tracing::error!(view = name, error = &misfit as &dyn std::error::Error, "the view stops");
    if control.row.stopped.as_ref() != Some(&misfit) {
        let row = Control { stopped: Some(misfit.clone()), ..control.row.clone() };
        if let Err(error) = view.store.commit(control.replace(Commit::new(), &row)).await {
            return error.into();
        }
    }
    view.show_stopped();
    ViewError::Misfit { view: name, misfit }
}

fn last(events: &[Recorded]) -> Position {
    events.last().map_or(Position::START, |event| event.position)
}
