//! Looks through a whole store and names what is damaged.

use std::path::{Path, PathBuf};

use rusqlite::Connection;

use crate::archive::{self, Archive, Scan};
use crate::codec::{read_event, select, whose};
use crate::collection;
use crate::copy::on_a_thread;
use crate::error::{Closed, OpenError, is_damage};
use crate::index::merge::Upkeep;
use crate::older::Older;
use crate::schema::{self, SchemaError};
use crate::tag;

/// So many faults of SQLite's structure are named at the most.
const FAULTS: usize = 100;

/// Names everything that is damaged in a store's file; nothing when it is whole.
///
/// It reads all of the file and changes nothing; the store may be open meanwhile. A store that serves tells of damage
/// only when it comes upon it, and cannot see that a record is missing from a large file: this does.
pub async fn check(file: impl Into<PathBuf>) -> Result<Vec<String>, OpenError> {
    let file = file.into();
    let name = file.clone();
    let checked =
        on_a_thread("sqlite-check", move || check_now(&file).map_err(|error| error.of(&file))).await;
    checked
        .map_err(|source| OpenError::File { file: name.clone(), source })?
        .unwrap_or_else(|| Err(OpenError::Database { file: name, source: Closed.into() }))
}

/// Looks at a part of a store, and adds what is damaged of it.
type Look<'a> = &'a dyn Fn(&mut Vec<String>) -> rusqlite::Result<()>;

fn check_now(file: &Path) -> Result<Vec<String>, SchemaError> {
    if !schema::look(file)? {
        return Err(SchemaError::Empty);
    }
    let mut connection = schema::open_reader(file)?;
    let connection = connection.transaction()?;
    let (format, ..) = schema::described(&connection)?;
    if format == 1 {
        return Err(SchemaError::Older(format));
    }
    let older = schema::read_older(&connection)?;
    let mut found = Vec::new();
    let archive = Archive::of(file, &connection, None)?;
    // Looked at after the store's file, so that it has what left that.
    let archived = archive.as_ref().map(archive::open).transpose().unwrap_or_else(|refused| {
        found.push(format!("the archive: {refused}"));
        None
    });
    let is_away = archive.is_some() && archived.is_none();
    let parts: [(&str, Look<'_>); 5] = [
        ("the structure of the file", &|found| structure(&connection, "the file", found)),
        ("the structure of the archive", &|found| {
            archived.as_ref().map_or(Ok(()), |archived| structure(archived, "the archive", found))
        }),
        ("the log", &|found| log((&connection, archived.as_ref()), is_away, older, found)),
        // One of an older format is not read any more, but made anew.
        ("the index of the streams", &|_| {
            if schema::has_index(format) { index(&connection) } else { Ok(()) }
        }),
        ("the collections", &|found| collections(&connection, found)),
    ];
    for (what, look) in parts {
        match look(&mut found) {
            Err(error) if is_damage(&error) => found.push(format!("{what}: {error}")),
            looked => looked?,
        }
    }
    Ok(found)
}

fn structure(connection: &Connection, of: &str, found: &mut Vec<String>) -> rusqlite::Result<()> {
    let mut check = connection.prepare(&format!("PRAGMA integrity_check({FAULTS})"))?;
    let mut rows = check.query([])?;
    while let Some(row) = rows.next()? {
        let said: String = row.get(0)?;
        if said != "ok" {
            found.push(format!("the structure of {of}: {said}"));
        }
    }
    Ok(())
}

fn log(
    (connection, archived): (&Connection, Option<&Connection>),
    is_away: bool,
    older: Older,
    found: &mut Vec<String>,
) -> rusqlite::Result<()> {
    let scan = select(older.shape(1), "data", "ORDER BY position");
    let mut select = connection.prepare(&scan)?;
    let mut rows = Scan::new(select.query([])?);
    // Begun here, so that the archive is seen as it is later than the store.
    rows.is_over()?;
    let mut select = archived.map(|archived| archived.prepare(&scan)).transpose()?;
    let mut archived = select.as_mut().map(|select| select.query([]).map(Scan::new)).transpose()?;
    let (mut tags, mut gap, mut all) = (0, None, true);
    for position in 1..=schema::head(connection)? {
        let (row, place) = match (rows.at(position)?, &mut archived) {
            (Some(row), _) => (Some(row), ""),
            (None, Some(archived)) => (archived.at(position)?, " in the archive"),
            (None, None) => (None, ""),
        };
        let Some(row) = row else {
            gap.get_or_insert(position);
            all = false;
            continue;
        };
        tell_gap(gap.take(), position, is_away, found);
        match read_event(row, older) {
            Err(error) if is_damage(&error) => {
                found.push(format!("{}{place}", whose(position, row, older)));
            }
            read => {
                let event = read?;
                tags += event.envelope.tags.len();
                if !tag::has_all(connection, &event)? {
                    found.push(format!("a tag of {}", whose(position, row, older)));
                }
            }
        }
    }
    match tag::count(connection)?.saturating_sub(tags) {
        0 => {}
        // What is away has tags too.
        _ if is_away && !all => {}
        more => found.push(format!("{more} tags of no event")),
    }
    Ok(())
}

/// Tells that events are missing, up to where there is one again. Without the archive nobody knows.
fn tell_gap(gap: Option<u64>, position: u64, is_away: bool, found: &mut Vec<String>) {
    if let Some(gap) = gap.filter(|_| !is_away) {
        found.push(format!("the events from {gap} to {} are missing", position - 1));
    }
}

fn index(connection: &Connection) -> rusqlite::Result<()> {
    let (_, runs) = Upkeep::recover(connection, &[])?;
    runs.iter().try_for_each(|run| run.check(connection))
}

fn collections(connection: &Connection, found: &mut Vec<String>) -> rusqlite::Result<()> {
    for table in collection::load_all(connection)? {
        found.extend(table.first_damage(connection)?);
    }
    Ok(())
}
