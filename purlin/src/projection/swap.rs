//! The way of rows that were built beside the live ones to their name, and what is cleared away on it.

use std::cmp::Ordering;

use crate::store::{Commit, CommitError, Position, ReadError, Record, Revision, Row, Store};

use super::ViewError;
use super::checkpoint::{Checkpoint, Stored, Target, beside};
use super::control::{Control, Seen};
use super::fold::Definition;
use super::inner::Inner;
use super::parked::{ParkedEvent, ParkedKey, Room, records};

/// Gives the rows that were built the live name, in one commit with all that says so; or says how far they must be first,
/// as what was live has gone on meanwhile, and nobody is to see less than he has seen. It fences whoever else writes: the
/// checkpoint that their commits expect is replaced.
pub(super) async fn go_live(
    view: &Inner,
    control: &Seen,
    built: &Target,
) -> Result<Option<Position>, ViewError> {
    let Inner { store, definition, .. } = view;
    let live = Stored::read(store, definition.name).await?;
    let seen = live.as_ref().map_or(Position::START, |live| live.checkpoint.position).max(view.position());
    if built.position < seen {
        return Ok(Some(seen));
    }
    let expected = live.map_or(Revision::Absent, |live| Revision::Exact(live.revision));
    let checkpoint = Checkpoint { pace: None, beside: Vec::new(), ..built.checkpoint(built.position) };
    let wanted = Control { rebuild: false, stopped: None, ..control.row.clone() };
    let commit = control
        .replace(Commit::new(), &wanted)
        .put_expecting(definition.name, &checkpoint, expected, None)
        .delete::<Checkpoint>(&built.key, built.revision);
    let names = definition.collections.iter().zip(beside(definition, checkpoint.room));
    let commit = names.fold(commit, |commit, (live, beside)| commit.swap(beside.name, &*live.name));
    match store.commit(commit).await {
        Ok(_) => {}
        Err(CommitError::Conflict(conflict))
            if conflict.is_record(Checkpoint::COLLECTION, definition.name) =>
        {
            return Ok(Some(built.position));
        }
        Err(error) => return Err(error.into()),
    }
    view.publish_swapped(built.position);
    Ok(None)
}

/// Removes what was built and cannot go live any more, and what was parked for rows that are gone; if nobody has changed the
/// view: who was away for long has no say in what others build.
pub(super) async fn clear_away(
    definition: &Definition,
    store: &Store,
    control: &mut Seen,
    live: Option<&Stored>,
) -> Result<(), ViewError> {
    let name = definition.name;
    let mut commit = Commit::new();
    let mut rooms = vec![Room::new(name, live.map_or(0, |live| live.checkpoint.room))];
    for record in records::<Checkpoint>(store, &format!("{name}@")).await? {
        let Checkpoint { version, room, beside, .. } = record.decode()?;
        // Other programs build theirs at the same time: whatever goes live first ends what is no newer.
        let may_go_live = live.is_none_or(|live| match version.cmp(&live.checkpoint.version) {
            Ordering::Less => false,
            Ordering::Equal => control.row.rebuild,
            Ordering::Greater => true,
        });
        if may_go_live {
            rooms.push(Room::new(name, room));
            continue;
        }
        commit = commit.delete::<Checkpoint>(&record.key, Revision::Exact(record.revision));
        commit = beside.into_iter().fold(commit, Commit::drop_collection);
    }
    if !commit.is_empty() {
        let row = control.row.clone();
        let committed = store.commit(control.replace(commit, &row)).await?;
        control.replaced(row, committed.revision);
    }
    clear_rooms::<ParkedKey>(store, control, name, &rooms).await?;
    clear_rooms::<ParkedEvent>(store, control, name, &rooms).await
}

async fn clear_rooms<R: Row>(
    store: &Store,
    control: &Seen,
    name: &str,
    rooms: &[Room],
) -> Result<(), ViewError> {
    let all = records::<R>(store, &Room::all(name)).await?;
    let gone: Vec<_> =
        all.iter().filter(|record| !rooms.iter().any(|room| room.holds(&record.key))).collect();
    for some in gone.chunks(1000) {
        let delete = |commit: Commit, record: &&Record| {
            commit.delete::<R>(&record.key, Revision::Exact(record.revision))
        };
        store.commit(control.require(some.iter().fold(Commit::new(), delete))).await?;
    }
    Ok(())
}

/// The checkpoint of the rows that are built beside the live ones, if any are.
pub(super) async fn built(store: &Store, name: &str) -> Result<Option<Checkpoint>, ReadError> {
    let mut newest: Option<Checkpoint> = None;
    for record in records::<Checkpoint>(store, &format!("{name}@")).await? {
        let checkpoint = record.decode::<Checkpoint>()?;
        if newest.as_ref().is_none_or(|newest| newest.version < checkpoint.version) {
            newest = Some(checkpoint);
        }
    }
    Ok(newest)
}
