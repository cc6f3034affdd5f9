//! Collections: a table each, a column for each indexed field, and a table for each field that has several values.

mod change;
mod texts;

use std::fmt::Write as _;

use purlin::message::Timestamp;
use purlin::store::{Collection, Field, FieldType, Position, Query, ReadError, Record, Scalar};
use rusqlite::types::{ToSqlOutput, Value, ValueRef};
use rusqlite::{Connection, OptionalExtension, Params, Row, ToSql, params_from_iter};

use crate::codec::unsigned;
use crate::error::unreadable_as;

const COLUMNS: &str = "_key, _revision, _position, _due, _value";

pub(crate) use change::{complete, define, drop_table, rename, shrink_gone};

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
fn texts_of(definition: &Collection) -> impl Iterator<Item = &Field> {
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
        prefix: Option<String>,
        limit: usize,
    ) -> Result<Vec<Record>, ReadError> {
        let name = &self.definition.name;
        let begins = if prefix.is_some() { "_key >= ?3 AND _key < ?4" } else { "?3 = ?4" };
        let sql = format!(
            "SELECT {COLUMNS} FROM \"{name}\" WHERE _due IS NOT NULL AND _due <= ?1 AND {begins} \
             ORDER BY _due, _key LIMIT ?2"
        );
        let from = prefix.unwrap_or_default();
        let to = if begins.starts_with('?') { from.clone() } else { format!("{from}{}", char::MAX) };
        let values = (until.as_microsecond(), limit_of(limit), from, to);
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
        texts_of(&self.definition).any(|field| field.name == name)
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
            let fields =
                fields.split_whitespace().filter_map(|field| Field::parse(field, &[])).collect::<Vec<_>>();
            Ok(Table::new(Collection { name: name.into(), fields: fields.into() }))
        })
        .collect()
}
