//! Collections: a table each, a column for each indexed field, and a table for each field that has several values.

mod texts;

use std::fmt::Write as _;

use purlin::message::Timestamp;
use purlin::store::{Collection, Field, FieldType, Position, Query, ReadError, Record, Scalar};
use rusqlite::types::{ToSqlOutput, Value, ValueRef};
use rusqlite::{Connection, OptionalExtension, Params, Row, ToSql, params_from_iter};

use crate::codec::unsigned;
use crate::error::unreadable_as;

const COLUMNS: &str = "_key, _revision, _position, _due, _value";

/// A collection as the engine knows it, with the statements that change it.
pub(crate) struct Table {
    pub(crate) definition: Collection,
    pub(crate) put: String,
    pub(crate) delete: String,
    pub(crate) revision: String,
}

/// The fields that have a column.
fn columns(definition: &Collection) -> impl Iterator<Item = &Field> {
    definition.fields.iter().filter(|field| field.kind != FieldType::Texts)
}

/// The fields whose values are in a table of their own (see `texts`).
fn texts(definition: &Collection) -> impl Iterator<Item = &Field> {
    definition.fields.iter().filter(|field| field.kind == FieldType::Texts)
}

impl Table {
    pub(crate) fn new(definition: Collection) -> Self {
        let name = &definition.name;
        let (mut names, mut marks, mut sets) = (String::new(), String::new(), String::new());
        for (n, field) in columns(&definition).enumerate() {
            let _ = write!(names, ", \"{}\"", field.name);
            let _ = write!(marks, ", ?{}", n + 6);
            let _ = write!(sets, ", \"{0}\" = excluded.\"{0}\"", field.name);
        }
        Self {
            put: format!(
                "INSERT INTO \"{name}\"({COLUMNS}{names}) VALUES(?1, ?2, ?3, ?4, ?5{marks}) \
                 ON CONFLICT(_key) DO UPDATE SET _revision = excluded._revision, _position = excluded._position, \
                 _due = excluded._due, _value = excluded._value{sets}"
            ),
            delete: format!("DELETE FROM \"{name}\" WHERE _key = ?1"),
            revision: format!("SELECT _revision FROM \"{name}\" WHERE _key = ?1"),
            definition,
        }
    }

    /// The values of a write's fields that have a column.
    pub(crate) fn columns_of<'a>(&'a self, fields: &'a [Scalar]) -> impl Iterator<Item = SqlScalar<'a>> {
        let with_column = |(field, _): &(&Field, &Scalar)| field.kind != FieldType::Texts;
        self.definition.fields.iter().zip(fields).filter(with_column).map(|(_, scalar)| SqlScalar(scalar))
    }

    /// The record of a key.
    pub(crate) fn get(&self, connection: &Connection, key: &str) -> Result<Option<Record>, ReadError> {
        let name = &self.definition.name;
        let sql = format!("SELECT {COLUMNS} FROM \"{name}\" WHERE _key = ?1");
        let get = || connection.prepare_cached(&sql)?.query_row([key], read_record).optional();
        get().map_err(|error| unreadable_as(error, || format!("the record `{key}` of `{name}`")))
    }

    /// At most `limit` records that are due.
    pub(crate) fn due(
        &self,
        connection: &Connection,
        until: Timestamp,
        limit: usize,
    ) -> Result<Vec<Record>, ReadError> {
        let name = &self.definition.name;
        let sql = format!(
            "SELECT {COLUMNS} FROM \"{name}\" WHERE _due IS NOT NULL AND _due <= ?1 ORDER BY _due, _key LIMIT ?2"
        );
        let values = (until.as_microsecond(), limit_of(limit));
        select(connection, &sql, values)
            .map_err(|error| unreadable_as(error, || format!("a due record of `{name}`")))
    }

    /// What a query asks for, and one more.
    pub(crate) fn list(&self, connection: &Connection, query: &Query) -> Result<Vec<Record>, ReadError> {
        self.definition.check(query)?;
        let name = &self.definition.name;
        let (sql, values) = self.statement_of(query);
        let records = select(connection, &sql, params_from_iter(values));
        records.map_err(|error| unreadable_as(error, || format!("a record of `{name}`")))
    }

    /// The statement of a query. The values of the first field of [`FieldType::Texts`] lead: they are sorted by value
    /// and key, so that a page costs what is on it, and not what the collection holds.
    fn statement_of(&self, query: &Query) -> (String, Vec<Value>) {
        let name = &self.definition.name;
        let (mut from, mut key) = (format!("\"{name}\" AS r"), "r._key");
        let (mut conditions, mut values) = (Vec::new(), Vec::<Value>::new());
        for (field, wanted) in &query.equal {
            conditions.push(if !self.is_texts(field) {
                let is = if *wanted == Scalar::Null { "IS" } else { "=" };
                format!("r.\"{field}\" {is} ?")
            } else if key == "r._key" {
                key = "t._key";
                from = format!("\"{name}.{field}\" AS t CROSS JOIN \"{name}\" AS r ON r._key = t._key");
                "t.value = ?".to_owned()
            } else {
                format!("EXISTS (SELECT 1 FROM \"{name}.{field}\" WHERE value = ? AND _key = r._key)")
            });
            values.push(owned(wanted));
        }
        if let Some(prefix) = &query.prefix {
            conditions.push(format!("{key} >= ?"));
            conditions.push(format!("{key} < ?"));
            values.extend([Value::Text(prefix.clone()), Value::Text(format!("{prefix}{}", char::MAX))]);
        }
        let (than, order) = if query.descending { ("<", "DESC") } else { (">", "ASC") };
        if let Some(after) = &query.after {
            conditions.push(format!("{key} {than} ?"));
            values.push(Value::Text(after.clone()));
        }
        let conditions = if conditions.is_empty() { "TRUE".to_owned() } else { conditions.join(" AND ") };
        values.push(Value::Integer(limit_of(query.effective_limit().saturating_add(1))));
        let sql = format!(
            "SELECT r._key, r._revision, r._position, r._due, r._value FROM {from} WHERE {conditions} \
             ORDER BY {key} {order} LIMIT ?"
        );
        (sql, values)
    }

    fn is_texts(&self, name: &str) -> bool {
        texts(&self.definition).any(|field| field.name == name)
    }
}

fn select(connection: &Connection, sql: &str, values: impl Params) -> rusqlite::Result<Vec<Record>> {
    connection.prepare_cached(sql)?.query_map(values, read_record)?.collect()
}

/// A limit as SQLite takes it.
fn limit_of(limit: usize) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX)
}

fn read_record(row: &Row<'_>) -> rusqlite::Result<Record> {
    let due: Option<i64> = row.get(3)?;
    let due = due.map(Timestamp::from_microsecond).transpose().map_err(|error| {
        rusqlite::Error::FromSqlConversionFailure(3, rusqlite::types::Type::Integer, Box::new(error))
    })?;
    Ok(Record {
        key: row.get(0)?,
        revision: unsigned(row.get(1)?),
        position: Position(unsigned(row.get(2)?)),
        due,
        value: row.get_ref(4)?.as_bytes()?.to_vec().into(),
    })
}

fn owned(scalar: &Scalar) -> Value {
    match scalar {
        Scalar::Null => Value::Null,
        Scalar::Text(text) => Value::Text(text.clone()),
        Scalar::Integer(number) => Value::Integer(*number),
        Scalar::Boolean(truth) => Value::Integer(i64::from(*truth)),
    }
}

/// A field's value as SQLite takes it.
pub(crate) struct SqlScalar<'a>(&'a Scalar);

impl ToSql for SqlScalar<'_> {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(match self.0 {
            Scalar::Null => ValueRef::Null,
            Scalar::Text(text) => ValueRef::Text(text.as_bytes()),
            Scalar::Integer(number) => ValueRef::Integer(*number),
            Scalar::Boolean(truth) => ValueRef::Integer(i64::from(*truth)),
        }))
    }
}

/// The definitions that a store has. Those of fields that no program defined since are read back from the file.
pub(crate) fn load_all(connection: &Connection) -> rusqlite::Result<Vec<Table>> {
    let mut select = connection.prepare("SELECT name, fields FROM _collection")?;
    let stored = select.query_map([], |row| Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?)))?;
    stored
        .map(|stored| {
            let (name, fields) = stored?;
            let fields = fields.split_whitespace().filter_map(parse_field).collect::<Vec<_>>();
            Ok(Table::new(Collection { name: name.into(), fields: fields.into() }))
        })
        .collect()
}

/// A field as it is written into the file: `name:kind`.
fn print_field(field: &Field) -> String {
    let kind = match field.kind {
        FieldType::Text => "text",
        FieldType::Integer => "integer",
        FieldType::Boolean => "boolean",
        FieldType::Texts => "texts",
    };
    format!("{}:{kind}", field.name)
}

fn parse_field(text: &str) -> Option<Field> {
    let (name, kind) = text.split_once(':')?;
    let kind = match kind {
        "text" => FieldType::Text,
        "integer" => FieldType::Integer,
        "boolean" => FieldType::Boolean,
        "texts" => FieldType::Texts,
        _ => return None,
    };
    // A handful of names for the life of the program.
    Some(Field { name: Box::leak(name.to_owned().into_boxed_str()), kind })
}

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
        connection.execute_batch(&format!(
            "CREATE TABLE \"{name}\"(_key TEXT PRIMARY KEY, _revision INTEGER NOT NULL, _position INTEGER NOT NULL, \
             _due INTEGER, _value TEXT NOT NULL) WITHOUT ROWID;
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
    let fields: Vec<String> = definition.fields.iter().map(print_field).collect();
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
    connection.execute_batch(&format!(
        "ALTER TABLE \"{name}\" ADD COLUMN \"{field}\" {kind};
         UPDATE \"{name}\" SET \"{field}\" = json_extract(_value, '$.{field}')
             WHERE json_type(_value, '$.{field}') {is_kind};
         CREATE INDEX \"{index}.{field}\" ON \"{name}\"(\"{field}\");"
    ))
}

fn drop_column(connection: &Connection, name: &str, field: &str) -> rusqlite::Result<()> {
    let index =
        "SELECT name FROM sqlite_schema WHERE type = 'index' AND tbl_name = ?1 AND name LIKE '%.' || ?2";
    let index: String = connection.query_row(index, (name, field), |row| row.get(0))?;
    connection
        .execute_batch(&format!("DROP INDEX \"{index}\"; ALTER TABLE \"{name}\" DROP COLUMN \"{field}\";"))
}

/// A name that nothing in the file has.
pub(crate) fn random_name() -> String {
    format!("_{}", purlin::message::new_id().simple())
}

/// Gives collections of an older program what they lack; inside a transaction of the caller.
pub(crate) fn complete(connection: &Connection) -> rusqlite::Result<()> {
    for table in load_all(connection)? {
        let name = &table.definition.name;
        for field in texts(&table.definition) {
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
