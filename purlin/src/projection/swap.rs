//! The way of rows that were built beside the live ones to their name, and what is cleared away on it.

use crate::store::{Commit, CommitError, Position, Query, ReadError, Record, Revision, Row, Store};

use super::ViewError;
use super::checkpoint::{Checkpoint, Stored, Target, building_name};
use super::control::{Control, Seen};
use super::fold::Definition;
use super::inner::Inner;
use super::parked::{ParkedEvent, ParkedKey, Room, records};

/// Gives the rows that were built the live name; or says how far they must be first, as what was live has gone on
/// meanwhile, and nobody is to see less than he has seen. Other writers of the live rows are fenced first: the checkpoint
/// that their commits expect is replaced.
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
    let checkpoint = Checkpoint { swapping: true, pace: None, ..built.checkpoint(built.position) };
    let wanted = Control { rebuild: false, stopped: None, ..control.row.clone() };
    let commit = control
        .replace(Commit::new(), &wanted)
        .put_expecting(definition.name, &checkpoint, expected, None)
        .delete::<Checkpoint>(&built.key, built.revision);
    match store.commit(commit).await {
        Ok(_) => {}
        Err(CommitError::Conflict(conflict))
            if conflict.is_record(Checkpoint::COLLECTION, definition.name) =>
        {
            return Ok(Some(built.position));
        }
        Err(error) => return Err(error.into()),
    }
    finish(definition, store).await?;
    view.publish_swapped(built.position);
    Ok(None)
}

/// Does what is left to do when a run ended between deciding on a swap and having done it.
pub(super) async fn finish(definition: &Definition, store: &Store) -> Result<(), ViewError> {
    let Some(live) = Stored::read(store, definition.name).await? else { return Ok(()) };
    if !live.checkpoint.swapping {
        return Ok(());
    }
    // A reader of several kinds never meets new rows of one and then old ones of another.
    let mut pairs = left_to_swap(definition, store, live.checkpoint.room).await?;
    loop {
        let swapped = store.swap_all(&by_name(&pairs)).await;
        let Err(error) = swapped else { break };
        let left = match error {
            // Another run does the same meanwhile; an older program swaps one after another. What is done is done.
            CommitError::Invalid(_) => left_to_swap(definition, store, live.checkpoint.room).await?,
            _ => return Err(error.into()),
        };
        if left.len() >= pairs.len() {
            return Err(error.into());
        }
        pairs = left;
    }
    let checkpoint = Checkpoint { swapping: false, ..live.checkpoint };
    let done =
        Commit::new().put_expecting(definition.name, &checkpoint, Revision::Exact(live.revision), None);
    store.commit(done).await?;
    Ok(())
}

/// Removes what was built of versions other than `wanted`, and what was parked for rows that are gone. Nothing is removed
/// before a commit has shown that nobody has changed the view: who was away for long has no say in what others build.
pub(super) async fn clear_away(
    definition: &Definition,
    store: &Store,
    control: &mut Seen,
    live: Option<&Stored>,
    wanted: Option<u32>,
) -> Result<(), ViewError> {
    let name = definition.name;
    let (mut row, mut commit) = (control.row.clone(), Commit::new());
    let mut rooms = vec![Room::new(name, live.map_or(0, |live| live.checkpoint.room))];
    for record in records::<Checkpoint>(store, &format!("{name}@")).await? {
        let Checkpoint { version, room, .. } = record.decode()?;
        // What a later program builds is its own.
        if Some(version) == wanted || version > definition.version {
            rooms.push(Room::new(name, room));
            continue;
        }
        row.gone.push(room);
        commit = commit.delete::<Checkpoint>(&record.key, Revision::Exact(record.revision));
    }
    if !commit.is_empty() {
        let committed = store.commit(control.replace(commit, &row)).await?;
        control.replaced(row.clone(), committed.revision);
    }
    if !row.gone.is_empty() {
        for room in row.gone.drain(..) {
            for collection in &definition.collections {
                store.drop_collection(&building_name(&collection.name, room)).await?;
            }
        }
        let committed = store.commit(control.replace(Commit::new(), &row)).await?;
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

/// The collections that were built and do not have their live names yet, with those. An older program may have ended
/// after it had swapped some of them.
async fn left_to_swap<'a>(
    definition: &'a Definition,
    store: &Store,
    room: u32,
) -> Result<Vec<(String, &'a str)>, ReadError> {
    let mut left = Vec::new();
    for collection in &definition.collections {
        let from = building_name(&collection.name, room);
        if exists(store, &from).await? {
            left.push((from, &*collection.name));
        }
    }
    Ok(left)
}

fn by_name<'a>(pairs: &'a [(String, &'a str)]) -> Vec<(&'a str, &'a str)> {
    pairs.iter().map(|(from, to)| (from.as_str(), *to)).collect()
}

async fn exists(store: &Store, collection: &str) -> Result<bool, ReadError> {
    match store.list_records(collection, Query::all().limit(1)).await {
        Ok(_) => Ok(true),
        Err(ReadError::Invalid(_)) => Ok(false),
        Err(error) => Err(error),
    }
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
