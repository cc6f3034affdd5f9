//! Tries parked events again: those of the keys that an operator named, or of all when the program begins.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;

use crate::bus::chain;
use crate::store::{Commit, CommitError};

use super::ViewError;
use super::advance::{event_at, is_of_the_rows};
use super::batch::Batch;
use super::checkpoint::Target;
use super::control::Seen;
use super::inner::Inner;
use super::parked::{Held, Parked, ParkedEvent, ParkedKey};

/// Tries what is parked for these rows and is to be tried, each key in order, until one of its events does not fit.
pub(super) async fn all(view: &Inner, target: &mut Target, control: &Seen) -> Result<(), ViewError> {
    let tried = if target.building { &view.tried_beside } else { &view.tried };
    // A program that has begun just now may know what an earlier one did not.
    let anew = !tried.load(Ordering::Acquire);
    let keys = target.parked.keys.values().filter(|held| anew || held.row.retry);
    for key in keys.map(|held| held.row.key.clone()).collect::<Vec<_>>() {
        while first(view, target, control, &key).await? {}
    }
    tried.store(true, Ordering::Release);
    Ok(())
}

/// Tries the first event of a key; whether there may be another one behind it that can be tried.
async fn first(view: &Inner, target: &mut Target, control: &Seen, key: &str) -> Result<bool, ViewError> {
    let mut again = false;
    let next = loop {
        let Some(held) = target.parked.keys.get(key).cloned() else { return Ok(false) };
        let Some(event) = event_at(view, held.row.head).await? else {
            let reason = "the log has no event here any more".to_owned();
            return failed(view, target, control, held, reason).await;
        };
        let batch = Batch {
            definition: &view.definition,
            store: &view.store,
            events: &[event],
            parked: &|_| false,
            unfit: BTreeMap::new(),
            cores: None,
        };
        let folded = batch.fold(&mut target.loaded).await?;
        if let Some(reason) = folded.left.into_iter().find_map(|left| left.reason) {
            return failed(view, target, control, held, reason).await;
        }
        let (commit, next) = Parked::advance(&view.store, &target.parked.room, &held).await?;
        match target.commit(&view.store, control, commit, target.position, view.clock.now()).await {
            Ok(()) => break next,
            // The event and its rows may have been read before somebody was forgotten: once more.
            Err(CommitError::Forgotten(_)) if !again => again = true,
            Err(error) if is_of_the_rows(&error) => {
                return failed(view, target, control, held, chain(&error)).await;
            }
            Err(error) => return Err(error.into()),
        }
    };
    match next {
        Some(next) => target.parked(BTreeMap::from([(key.to_owned(), next)])),
        None => drop(target.parked.keys.remove(key)),
    }
    view.publish(target);
    Ok(true)
}

/// The first event of a key does not fit yet.
async fn failed(
    view: &Inner,
    target: &mut Target,
    control: &Seen,
    held: Held,
    reason: String,
) -> Result<bool, ViewError> {
    let (id, now) = (target.parked.room.event_id(held.row.head), view.clock.now());
    let row = ParkedKey { retry: false, ..held.row.clone() };
    let mut commit = held.replace(Commit::new(), &target.parked.room, &row);
    if let Some(event) = view.store.get::<ParkedEvent>(&id).await? {
        commit = commit.put(id, &event.failed(reason, now));
    }
    target.commit(&view.store, control, commit, target.position, now).await?;
    target.parked(BTreeMap::from([(row.key.clone(), row)]));
    Ok(false)
}
