//! Rows that are written by the commits that append the events.
//!
//! Who commits requires the view's control record at the revision that he has seen, whatever it says, so that the way
//! from following to inline has no gap: once the record says `Closing`, commits with events of the view wait; the view
//! folds the last of them, and the record that says `On` is one commit with the checkpoint behind them. From then on
//! every such commit bears the rows, and writes the checkpoint's record too: the position that the store notes with
//! it is where the view goes on when it is to follow again.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::store::{Commit, ReadError, Revision, Store};

use super::ViewError;
use super::advance::{LAG, advance, read_page};
use super::checkpoint::{Checkpoint, Stored, Target};
use super::control::{Control, Inline, Seen};
use super::inlined::Inlined;
use super::inner::Inner;
use super::run::{Turn, until_changed};

/// How long a commit waits for a view that is about to go inline. One that dies over it is not waited for any longer.
pub(super) const PATIENCE: Duration = Duration::from_secs(2);
/// How often a commit waits for events that the log is said to have, and that cannot be read yet.
const LAGS: u32 = 5;
/// How often an inline view looks whether it is wanted otherwise.
const LOOK: Duration = Duration::from_millis(50);

/// The store whose commits write the rows of a view.
pub(super) fn store(view: &Arc<Inner>) -> Store {
    view.writes_inline.store(true, Ordering::Release);
    view.store.under(Inlined::new(Arc::clone(view)))
}

/// Hands live rows that have caught up over to the commits; false when some of them are stale.
pub(super) async fn take_over(
    view: &Inner,
    target: &mut Target,
    control: &mut Seen,
) -> Result<bool, ViewError> {
    if !target.parked.keys.is_empty() {
        return Ok(false);
    }
    let closing = Control { inline: Inline::Closing, ..control.row.clone() };
    let committed = view.store.commit(control.replace(Commit::new(), &closing)).await?;
    control.replaced(closing, committed.revision);
    advance(view, target, control, Some(committed.position)).await?;
    let inline = if target.parked.keys.is_empty() { Inline::On } else { Inline::Off };
    let row = Control { inline, stopped: None, ..control.row.clone() };
    let checkpoint = target.checkpoint(target.position);
    let commit =
        control.replace(Commit::new(), &row).put_expecting(&target.key, &checkpoint, target.revision, None);
    let committed = view.store.commit(commit).await?;
    control.replaced(row, committed.revision);
    target.revision = Revision::Exact(committed.revision);
    Ok(inline == Inline::On)
}

/// Whether another life of the view that is about to go inline comes to an end with it; false: it died over it.
pub(super) async fn settled(view: &Inner, control: &Seen) -> Result<bool, ReadError> {
    let changed = until_changed(&view.store, control, Duration::ZERO);
    match tokio::time::timeout(PATIENCE, changed).await {
        Ok(changed) => changed.map(|_| true),
        Err(_) => Ok(false),
    }
}

/// Waits while the commits write the rows.
pub(super) async fn stand_by(view: &Inner, control: &Seen) -> Result<Turn, ViewError> {
    if let Some(commit) = missed(view, control).await? {
        view.store.commit(commit).await?;
        return Ok(Turn::Again);
    }
    view.publish_inline();
    Ok(until_changed(&view.store, control, LOOK).await?)
}

/// The commit by which the view follows again, if events are behind its rows that a program without it committed
/// since. Asked once in each process, before it commits any itself.
pub(super) async fn missed(view: &Inner, control: &Seen) -> Result<Option<Commit>, ReadError> {
    let Inner { store, definition, .. } = view;
    if view.verified.load(Ordering::Acquire) {
        return Ok(None);
    }
    let Some(stored) = Stored::read(store, definition.name).await? else { return Ok(None) };
    let (mut position, mut lags) = (stored.written_at, 0);
    while position < store.head() {
        let page = read_page(definition, store, position, 1).await?;
        if !page.events.is_empty() {
            let row = Control { inline: Inline::Off, ..control.row.clone() };
            let checkpoint = Checkpoint { position: stored.written_at, ..stored.checkpoint };
            let expected = Revision::Exact(stored.revision);
            let commit = control.replace(Commit::new(), &row);
            return Ok(Some(commit.put_expecting(definition.name, &checkpoint, expected, None)));
        }
        if page.through <= position {
            if lags == LAGS {
                let lag = "the log cannot be read as far as it is said to go yet";
                return Err(ReadError::Unavailable(lag.into()));
            }
            lags += 1;
            tokio::time::sleep(LAG).await;
        }
        position = page.through;
    }
    view.verified.store(true, Ordering::Release);
    Ok(None)
}
