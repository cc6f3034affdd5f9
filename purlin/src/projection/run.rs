//! The life of a view: what its records say is to be done, until they say something else.

use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::Instant;

use crate::bus::Backoff;
use crate::message::Fault;
use crate::store::{Commit, CommitError, ReadError, Store};

use super::advance::{advance, halt};
use super::checkpoint::{Stored, Target};
use super::control::{Control, Inline, Seen};
use super::fold::Definition;
use super::inner::Inner;
use super::{ViewError, inline, retry, swap};

/// What only waits to be wanted otherwise looks for that no more often.
const LOOK: Duration = Duration::from_millis(20);

/// Why a part of a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Turn {
    /// Something is wanted otherwise than before: look again.
    Again,
    /// The store is closed.
    Closed,
}

/// Runs a view until it meets what a person must look at. A store that is away only delays it.
pub(super) async fn run(view: &Inner) -> Result<(), ViewError> {
    if let Some(tenant) = view.store.tenant_name() {
        return Err(ViewError::Tenant { view: view.definition.name, tenant: tenant.to_owned() });
    }
    let mut backoff = Backoff::store();
    loop {
        match turn(view).await {
            Ok(Turn::Closed) => return Ok(()),
            // Or another life of this view, or an operator, wrote last: go on from where that one was.
            Ok(_) | Err(ViewError::Write(CommitError::Conflict(_))) => {}
            Err(error) if error.kind().is_transient() => {
                view.show_lag();
                let name = view.definition.name;
                tracing::warn!(
                    view = name,
                    error = &error as &dyn std::error::Error,
                    "the view waits for its store"
                );
                backoff.pause().await;
            }
            Err(error) => return Err(error),
        }
    }
}

/// Does what the stored records say, until they say something else.
async fn turn(view: &Inner) -> Result<Turn, ViewError> {
    let Inner { store, definition, .. } = view;
    view.prepare().await?;
    let mut control = Seen::read(store, definition.name).await?;
    let live = Stored::read(store, definition.name).await?;
    let stored = live.as_ref().map_or(definition.version, |live| live.checkpoint.version);
    if stored > definition.version {
        return Err(ViewError::Newer { view: definition.name, stored, known: definition.version });
    }
    let newer = stored < definition.version;
    let building = newer || control.row.rebuild;
    if control.row.inline != Inline::Off {
        let wanted = view.writes_inline.load(Ordering::Acquire) && !building && !control.row.paused;
        if control.row.inline == Inline::Closing && inline::settled(view, &control).await? {
            return Ok(Turn::Again);
        }
        if !wanted || control.row.inline == Inline::Closing {
            store.commit(control.demote(store, control.row.clone()).await?).await?;
            return Ok(Turn::Again);
        }
        return inline::stand_by(view, &control).await;
    }
    register(view, &mut control).await?;
    if control.row.paused {
        view.publish_paused(live.map(|live| live.checkpoint.position));
        return Ok(until_changed(store, &control, Duration::ZERO).await?);
    }
    swap::clear_away(definition, store, &mut control, live.as_ref()).await?;
    let room = live.as_ref().map_or(0, |live| live.checkpoint.room);
    if !building {
        let mut target = Target::live(definition, store, live.as_ref()).await?;
        return follow(view, &mut target, &mut control).await;
    }
    let mut built = Target::building(definition, store, &mut control, room, view.clock.now()).await?;
    if newer {
        view.publish_rebuilding();
        return match build(view, &mut built, &control).await {
            Err(ViewError::Misfit { misfit, .. }) => Err(halt(view, &control, misfit).await),
            end => end,
        };
    }
    let mut target = Target::live(definition, store, live.as_ref()).await?;
    let mut following = control.clone();
    tokio::select! {
        biased;
        end = build_beside(view, &mut built, &control) => end,
        end = follow(view, &mut target, &mut following) => end,
    }
}

/// Notes which program runs the view. An older one that still does leaves the newer one's word alone.
async fn register(view: &Inner, control: &mut Seen) -> Result<(), ViewError> {
    let Definition { version, categories, collections, .. } = &view.definition;
    if control.row.version >= *version {
        return Ok(());
    }
    let row = Control {
        version: *version,
        categories: categories.iter().map(|category| (*category).to_owned()).collect(),
        collections: collections.iter().map(|collection| collection.name.to_string()).collect(),
        ..control.row.clone()
    };
    let committed = view.store.commit(control.replace(Commit::new(), &row)).await?;
    control.replaced(row, committed.revision);
    Ok(())
}

/// Builds rows beside the live ones until they have seen the whole log, and gives them the live name.
async fn build(view: &Inner, target: &mut Target, control: &Seen) -> Result<Turn, ViewError> {
    retry::all(view, target, control).await?;
    let mut to = None;
    loop {
        advance(view, target, control, to).await?;
        to = swap::go_live(view, control, target).await?;
        if to.is_none() {
            break;
        }
    }
    let Definition { name, version, .. } = view.definition;
    tracing::info!(view = name, version, "the view was built anew and is live");
    Ok(Turn::Again)
}

/// As [`build`], while the live rows are followed: an event that cannot be got past ends only the building, until something
/// is wanted otherwise.
async fn build_beside(view: &Inner, target: &mut Target, control: &Seen) -> Result<Turn, ViewError> {
    match build(view, target, control).await {
        Err(ViewError::Misfit { view, misfit }) => {
            tracing::error!(
                view,
                error = &misfit as &dyn std::error::Error,
                "the rows beside the live ones cannot be built on"
            );
            std::future::pending().await
        }
        end => end,
    }
}

/// Keeps the live rows up with the log; hands them over to the commits when they are to be written inline.
async fn follow(view: &Inner, target: &mut Target, control: &mut Seen) -> Result<Turn, ViewError> {
    retry::all(view, target, control).await?;
    loop {
        let before = target.revision;
        advance(view, target, control, None).await?;
        // The rows of an older program than the one that ran last are about to be replaced.
        let newest = control.row.version <= view.definition.version;
        let inline = view.writes_inline.load(Ordering::Acquire) && !control.row.rebuild && newest;
        if inline && inline::take_over(view, target, control).await? {
            return Ok(Turn::Again);
        }
        if control.row.stopped.is_some() {
            let row = Control { stopped: None, ..control.row.clone() };
            let committed = view.store.commit(control.replace(Commit::new(), &row)).await?;
            control.replaced(row, committed.revision);
        }
        // A commit that was applied has shown that nothing is wanted otherwise.
        let looked = (target.revision != before).then(Instant::now);
        if let Some(turn) = until_written(view, target, control, looked).await? {
            return Ok(turn);
        }
    }
}

/// Waits until the log has grown; otherwise, why that is not waited for any longer.
async fn until_written(
    view: &Inner,
    target: &Target,
    control: &Seen,
    mut looked: Option<Instant>,
) -> Result<Option<Turn>, ViewError> {
    let mut watch = view.store.watch();
    loop {
        if *watch.borrow_and_update() > target.position {
            return Ok(None);
        }
        // Every commit of the store wakes this, whatever it is about.
        let again = looked.map(|looked| looked + LOOK).filter(|again| *again > Instant::now());
        if again.is_none() {
            if control.changed(&view.store).await? {
                return Ok(Some(Turn::Again));
            }
            looked = Some(Instant::now());
        }
        let time = async {
            match again {
                Some(again) => tokio::time::sleep_until(again).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            changed = watch.changed() => if changed.is_err() { return Ok(Some(Turn::Closed)) },
            () = time => {}
        }
    }
}

/// Waits until the view is wanted otherwise.
pub(super) async fn until_changed(
    store: &Store,
    control: &Seen,
    between: Duration,
) -> Result<Turn, ReadError> {
    let mut watch = store.watch();
    loop {
        watch.borrow_and_update();
        if control.changed(store).await? {
            return Ok(Turn::Again);
        }
        if watch.changed().await.is_err() {
            return Ok(Turn::Closed);
        }
        tokio::time::sleep(between.max(LOOK)).await;
    }
}
