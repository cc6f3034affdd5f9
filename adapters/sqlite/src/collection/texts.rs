//! Fields of [`FieldType::Texts`](purlin::store::FieldType): a table `collection.field` each, of values and keys.
//!
//! Triggers keep it in step with the records, so that whatever writes a record keeps it right, and it is renamed with
//! them. A text that a record has twice stands in it once.

use rusqlite::Connection;

use super::change::{random_name, readable};

/// The texts of a record's field: the rows of `json_each` that are strings, when the member is an array at all.
fn texts_of(record: &str, field: &str) -> String {
    let value = readable(&format!("{record}._value"));
    format!(
        "json_each({value}, '$.{field}') AS j WHERE j.type = 'text' AND json_type({value}, '$.{field}') = 'array'"
    )
}

/// Makes the table of a field and fills it.
pub(super) fn add_field(connection: &Connection, name: &str, field: &str) -> rusqlite::Result<()> {
    let table = format!("\"{name}.{field}\"");
    let member =
        |record: &str| format!("json_extract({}, '$.{field}')", readable(&format!("{record}._value")));
    let (add, changed) = (random_name(), format!("{} IS NOT {}", member("old"), member("new")));
    let insert =
        format!("INSERT INTO {table} SELECT DISTINCT j.value, new._key FROM {};", texts_of("new", field));
    let delete = format!(
        "DELETE FROM {table} WHERE _key = old._key AND value IN (SELECT j.value FROM {});",
        texts_of("old", field)
    );
    connection.execute_batch(&format!(
        "CREATE TABLE {table}(value TEXT NOT NULL, _key TEXT NOT NULL, PRIMARY KEY(value, _key)) WITHOUT ROWID;
         INSERT INTO {table} SELECT DISTINCT j.value, r._key FROM \"{name}\" AS r, {of_all};
         CREATE TRIGGER \"{add}.insert\" AFTER INSERT ON \"{name}\" BEGIN {insert} END;
         CREATE TRIGGER \"{add}.update\" AFTER UPDATE ON \"{name}\" WHEN {changed} BEGIN {delete} {insert} END;
         CREATE TRIGGER \"{add}.delete\" AFTER DELETE ON \"{name}\" BEGIN {delete} END;",
        of_all = texts_of("r", field),
    ))
}

/// Whether the table of a field holds what the records say, and nothing else.
pub(super) fn is_in_step(connection: &Connection, name: &str, field: &str) -> rusqlite::Result<bool> {
    let has = format!("SELECT value, _key FROM \"{name}.{field}\"");
    let shall = format!("SELECT DISTINCT j.value, r._key FROM \"{name}\" AS r, {}", texts_of("r", field));
    let sql = format!("SELECT NOT EXISTS ({has} EXCEPT {shall}) AND NOT EXISTS ({shall} EXCEPT {has})");
    connection.query_row(&sql, [], |row| row.get(0))
}

/// Removes the table of a field, and what kept it in step.
pub(super) fn drop_field(connection: &Connection, name: &str, field: &str) -> rusqlite::Result<()> {
    let of_table =
        "SELECT name FROM sqlite_schema WHERE type = 'trigger' AND tbl_name = ?1 AND instr(sql, ?2) > 0";
    let table = format!("\"{name}.{field}\"");
    let mut select = connection.prepare(of_table)?;
    let triggers: Vec<String> =
        select.query_map((name, &table), |row| row.get(0))?.collect::<rusqlite::Result<_>>()?;
    for trigger in triggers {
        connection.execute_batch(&format!("DROP TRIGGER \"{trigger}\""))?;
    }
    connection.execute_batch(&format!("DROP TABLE {table}"))
}

/// The fields that have a table, of a collection that may have lost its name.
pub(super) fn fields_of(connection: &Connection, name: &str) -> rusqlite::Result<Vec<String>> {
    let sql = "SELECT substr(name, length(?1) + 2) FROM sqlite_schema \
               WHERE type = 'table' AND substr(name, 1, length(?1) + 1) = ?1 || '.'";
    connection.prepare(sql)?.query_map([name], |row| row.get(0))?.collect()
}
