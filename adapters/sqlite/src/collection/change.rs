//! Making, renaming and removing collections.
//!
//! Commits wait for all of it, so nothing here that takes a name away from rows touches the rows.

use purlin::store::personal::KEYS;
use purlin::store::{Collection, Field, FieldType};
use rusqlite::{Connection, OptionalExtension};

use super::{Table, load_all, texts, texts_of};

/// Makes the table, or gives it exactly the columns of the definition; inside a transaction of the caller.
///
/// Indexes have names of their own, which do not change when the table gets another: `_<random>.<field>`.
pub(crate) fn define(
    connection: &Connection,
    before: Option<&Table>,
    definition: &Collection,
) -> rusqlite::Result<()> {
    let name = &definition.name;
    if before.is_none() {
        // A row that is moved to another page leaves its bytes in the one where it was, whatever SQLite overwrites. With
        // numbers for rows new ones go to the end, and none is ever moved: a key must be where it was made, or nowhere.
        let rowid = if *name == KEYS { "" } else { " WITHOUT ROWID" };
        connection.execute_batch(&format!(
            "CREATE TABLE \"{name}\"(_key TEXT PRIMARY KEY, _revision INTEGER NOT NULL, _position INTEGER NOT NULL, \
             _due INTEGER, _value TEXT NOT NULL, _sum INTEGER){rowid};
             CREATE INDEX \"{}._due\" ON \"{name}\"(_due) WHERE _due IS NOT NULL;",
            random_name()
        ))?;
    }
    let none = Collection { name: name.clone(), fields: [].as_slice().into() };
    let old = before.map_or(&none, |table| &table.definition);
    for field in old.fields.iter().filter(|field| !definition.fields.contains(field)) {
        match field.kind {
            FieldType::Texts => texts::drop_field(connection, name, field.name)?,
            _ => drop_column(connection, name, field.name)?,
        }
    }
    for field in definition.fields.iter().filter(|field| !old.fields.contains(field)) {
        match field.kind {
            FieldType::Texts => texts::add_field(connection, name, field.name)?,
            _ => add_column(connection, name, field)?,
        }
    }
    let fields: Vec<String> = definition.fields.iter().map(Field::to_string).collect();
    connection.execute(
        "INSERT OR REPLACE INTO _collection(name, fields) VALUES(?1, ?2)",
        (name.as_ref(), fields.join(" ")),
    )?;
    Ok(())
}

fn add_column(connection: &Connection, name: &str, field: &Field) -> rusqlite::Result<()> {
    let (kind, is_kind) = match field.kind {
        FieldType::Integer => ("INTEGER", "= 'integer'"),
        FieldType::Boolean => ("INTEGER", "IN ('true', 'false')"),
        FieldType::Text | FieldType::Texts => ("TEXT", "= 'text'"),
    };
    let (field, index) = (field.name, random_name());
    let value = readable("_value");
    connection.execute_batch(&format!(
        "ALTER TABLE \"{name}\" ADD COLUMN \"{field}\" {kind};
         UPDATE \"{name}\" SET \"{field}\" = json_extract({value}, '$.{field}')
             WHERE json_type({value}, '$.{field}') {is_kind};
         CREATE INDEX \"{index}.{field}\" ON \"{name}\"(\"{field}\");"
    ))
}

fn drop_column(connection: &Connection, name: &str, field: &str) -> rusqlite::Result<()> {
    let index = "SELECT name FROM sqlite_schema WHERE type = 'index' AND tbl_name = ?1 \
                 AND substr(name, instr(name, '.') + 1) = ?2";
    let index: String = connection.query_row(index, (name, field), |row| row.get(0))?;
    connection
        .execute_batch(&format!("DROP INDEX \"{index}\"; ALTER TABLE \"{name}\" DROP COLUMN \"{field}\";"))
}

/// A record's JSON as SQLite's functions take it. What is nested deeper than they read (1,000) is null to them instead
/// of an error that stops everybody: such a record is kept and found by its key, and has no values in its fields.
pub(super) fn readable(value: &str) -> String {
    format!("CASE WHEN json_valid({value}) THEN {value} END")
}

/// A name that nothing in the file has.
pub(super) fn random_name() -> String {
    format!("_{}", purlin::message::new_id().simple())
}

/// Gives the collections of a file that has none room for checksums; inside a transaction of the caller.
pub(crate) fn add_checksums(connection: &Connection) -> rusqlite::Result<()> {
    let mut select = connection.prepare("SELECT name FROM _collection")?;
    let names: Vec<String> = select.query_map([], |row| row.get(0))?.collect::<rusqlite::Result<_>>()?;
    for name in names {
        connection.execute_batch(&format!("ALTER TABLE \"{name}\" ADD COLUMN _sum INTEGER"))?;
    }
    Ok(())
}

/// Gives collections of an older program what they lack; inside a transaction of the caller.
pub(crate) fn complete(connection: &Connection) -> rusqlite::Result<()> {
    for table in load_all(connection)? {
        let name = &table.definition.name;
        for field in texts_of(&table.definition) {
            if !exists(connection, &format!("{name}.{}", field.name))? {
                texts::add_field(connection, name, field.name)?;
            }
        }
    }
    Ok(())
}

fn exists(connection: &Connection, table: &str) -> rusqlite::Result<bool> {
    let sql = "SELECT EXISTS (SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = ?1)";
    connection.query_row(sql, [table], |row| row.get(0))
}

/// Removes a collection; inside a transaction of the caller. Its rows are out of sight at once, and go away later, a
/// few at a time ([`shrink_gone`]): commits wait for this transaction, however many rows there are.
pub(crate) fn drop_table(connection: &Connection, name: &str) -> rusqlite::Result<()> {
    if exists(connection, name)? {
        move_tables(connection, name, &format!("{GONE}{}", purlin::message::new_id().simple()))?;
    }
    connection.execute("DELETE FROM _collection WHERE name = ?1", [name])?;
    Ok(())
}

/// Gives a table another name, in place of what had it; inside a transaction of the caller.
pub(crate) fn rename(connection: &Connection, from: &Table, to: &str) -> rusqlite::Result<()> {
    drop_table(connection, to)?;
    let name = &from.definition.name;
    move_tables(connection, name, to)?;
    connection.execute("UPDATE _collection SET name = ?2 WHERE name = ?1", (name.as_ref(), to))?;
    Ok(())
}

/// Renames a table and those of its fields.
fn move_tables(connection: &Connection, from: &str, to: &str) -> rusqlite::Result<()> {
    connection.execute_batch(&format!("ALTER TABLE \"{from}\" RENAME TO \"{to}\""))?;
    for field in texts::fields_of(connection, from)? {
        connection.execute_batch(&format!("ALTER TABLE \"{from}.{field}\" RENAME TO \"{to}.{field}\""))?;
    }
    Ok(())
}

/// How the tables of collections that were removed are called.
const GONE: &str = "_gone_";

/// Rows that [`shrink_gone`] removes at a time.
const SLICE: usize = 500;

/// Removes some rows of collections that were dropped or swapped out, inside a transaction of the caller. Whether
/// there may be more.
pub(crate) fn shrink_gone(connection: &Connection) -> rusqlite::Result<bool> {
    let sql = "SELECT name FROM sqlite_schema WHERE type = 'table' AND substr(name, 1, 6) = ?1 \
               AND instr(name, '.') = 0 LIMIT 1";
    let gone: Option<String> = connection.query_row(sql, [GONE], |row| row.get(0)).optional()?;
    let Some(gone) = gone else { return Ok(false) };
    // What the rows have in the tables of their fields goes with them: see `texts`.
    let some = format!("DELETE FROM \"{gone}\" WHERE _key IN (SELECT _key FROM \"{gone}\" LIMIT {SLICE})");
    if connection.execute(&some, [])? < SLICE {
        for field in texts::fields_of(connection, &gone)? {
            connection.execute_batch(&format!("DROP TABLE \"{gone}.{field}\""))?;
        }
        connection.execute_batch(&format!("DROP TABLE \"{gone}\""))?;
    }
    Ok(true)
}
