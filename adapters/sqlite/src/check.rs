//! Looks through a whole store and names what is damaged.

use std::path::{Path, PathBuf};

use rusqlite::Connection;

use crate::checksum::Unchecked;
use crate::codec::{HEADER, read_event, whose};
use crate::collection;
use crate::copy::on_a_thread;
use crate::error::{Closed, OpenError, is_damage};
use crate::index::merge::Upkeep;
use crate::schema::{self, FORMAT, SchemaError};
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
    let unchecked = schema::read_unchecked(&connection)?;
    let mut found = Vec::new();
    let parts: [(&str, Look<'_>); 4] = [
        ("the structure of the file", &|found| structure(&connection, found)),
        ("the log", &|found| log(&connection, unchecked, found)),
        // One of an older format is not read any more, but made anew.
        ("the index of the streams", &|_| if format < FORMAT { Ok(()) } else { index(&connection) }),
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

fn structure(connection: &Connection, found: &mut Vec<String>) -> rusqlite::Result<()> {
    let mut check = connection.prepare(&format!("PRAGMA integrity_check({FAULTS})"))?;
    let mut rows = check.query([])?;
    while let Some(row) = rows.next()? {
        let said: String = row.get(0)?;
        if said != "ok" {
            found.push(format!("the structure of the file: {said}"));
        }
    }
    Ok(())
}

fn log(connection: &Connection, unchecked: Unchecked, found: &mut Vec<String>) -> rusqlite::Result<()> {
    let mut select = connection.prepare(&format!("SELECT {HEADER}, data FROM _event ORDER BY position"))?;
    let mut rows = select.query([])?;
    let (mut next, mut tags) = (1, 0);
    while let Some(row) = rows.next()? {
        let position = row.get::<_, i64>(0)?.unsigned_abs();
        if position > next {
            found.push(format!("the events from {next} to {} are missing", position - 1));
        }
        match read_event(row, unchecked) {
            Err(error) if is_damage(&error) => found.push(whose(position, row)),
            read => {
                let event = read?;
                tags += event.envelope.tags.len();
                if !tag::has_all(connection, &event)? {
                    found.push(format!("a tag of {}", whose(position, row)));
                }
            }
        }
        next = position + 1;
    }
    match tag::count(connection)?.saturating_sub(tags) {
        0 => {}
        more => found.push(format!("{more} tags of no event")),
    }
    Ok(())
}

fn index(connection: &Connection) -> rusqlite::Result<()> {
    let (_, runs) = Upkeep::recover(connection)?;
    runs.iter().try_for_each(|run| run.check(connection))
}

fn collections(connection: &Connection, found: &mut Vec<String>) -> rusqlite::Result<()> {
    for table in collection::load_all(connection)? {
        found.extend(table.first_damage(connection)?);
    }
    Ok(())
}
