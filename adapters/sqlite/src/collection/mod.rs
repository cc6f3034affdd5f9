//! Collections: a table each, a column for each indexed field, and a table for each field that has several values.

mod change;
mod texts;

use std::fmt::Write as _;

use purlin::message::Timestamp;
use purlin::store::{Collection, Field, FieldType, Indexed, Position, Query, ReadError, Record, Scalar};
use rusqlite::types::{ToSqlOutput, Value, ValueRef};
use rusqlite::{Connection, OptionalExtension, Params, Row, ToSql, params_from_iter};

use crate::checksum::of_record;
use crate::codec::{mismatch, unsigned};
use crate::error::{in_writer, is_damage, unreadable_as};
use crate::schema;

const COLUMNS: &str = "_key, _revision, _position, _due, _value, _sum";

pub(crate) use change::{add_checksums, complete, define, drop_table, rename, shrink_gone};

/// A collection as the engine knows it, with the statements that change it.
pub(crate) struct Table {
    pub(crate) definition: Collection,
    pub(crate) put: String,
    pub(crate) delete: String,
    get: String,
    /// The last revision of a record that may be without a checksum.
    unchecked: u64,
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
    pub(crate) fn new(definition: Collection, unchecked: u64) -> Self {
        let name = &definition.name;
        let (mut names, mut marks, mut sets) = (String::new(), String::new(), String::new());
        for (n, field) in columns(&definition).enumerate() {
            let _ = write!(names, ", \"{}\"", field.name);
            let _ = write!(marks, ", ?{}", n + 7);
            let _ = write!(sets, ", \"{0}\" = excluded.\"{0}\"", field.name);
        }
        Self {
            put: format!(
                "INSERT INTO \"{name}\"({COLUMNS}{names}) VALUES(?1, ?2, ?3, ?4, ?5, ?6{marks}) \
                 ON CONFLICT(_key) DO UPDATE SET _revision = excluded._revision, _position = excluded._position, \
                 _due = excluded._due, _value = excluded._value, _sum = excluded._sum{sets}"
            ),
            delete: format!("DELETE FROM \"{name}\" WHERE _key = ?1"),
            get: format!("SELECT {COLUMNS} FROM \"{name}\" WHERE _key = ?1"),
            unchecked,
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
        let get = || {
            let read = |row: &Row<'_>| read_record(row, self.unchecked);
            let found = connection.prepare_cached(&self.get)?.query_row([key], read).optional()?;
            if found.is_none() {
                self.check_neighbours(connection, key)?;
            }
            Ok(found)
        };
        get().map_err(|error| unreadable_as(error, || self.record(key)))
    }

    /// The revision of the record of a key.
    pub(crate) fn revision(&self, connection: &Connection, key: &str) -> rusqlite::Result<Option<u64>> {
        let read = |row: &Row<'_>| Ok(Intact::read(row, self.unchecked)?.revision);
        let found = connection.prepare_cached(&self.get)?.query_row([key], read).optional();
        found.map_err(|error| in_writer(error, || self.record(key)))
    }

    /// Where a record would stand, those beside it are what was written: a damaged key is not taken for an absent
    /// record.
    fn check_neighbours(&self, connection: &Connection, key: &str) -> rusqlite::Result<()> {
        let name = &self.definition.name;
        for (than, order) in [("<", "DESC"), (">", "ASC")] {
            let sql = format!(
                "SELECT {COLUMNS} FROM \"{name}\" WHERE _key {than} ?1 ORDER BY _key {order} LIMIT 1"
            );
            let read = |row: &Row<'_>| Intact::read(row, self.unchecked).map(drop);
            connection.prepare_cached(&sql)?.query_row([key], read).optional()?;
        }
        Ok(())
    }

    /// Looks through all records, and through the tables of their fields; names the first that is not what was written.
    pub(crate) fn first_damage(&self, connection: &Connection) -> rusqlite::Result<Option<String>> {
        let name = &self.definition.name;
        let looked = connection.prepare(&format!("SELECT {COLUMNS} FROM \"{name}\"")).and_then(|mut all| {
            let mut rows = all.query([])?;
            while let Some(row) = rows.next()? {
                if Intact::read(row, self.unchecked).is_err() {
                    return Ok(Some(
                        self.record(&row.get::<_, String>(0).unwrap_or_else(|_| "?".to_owned())),
                    ));
                }
            }
            for field in texts_of(&self.definition) {
                if !texts::is_in_step(connection, name, field.name)? {
                    return Ok(Some(format!("the index of `{}` of `{name}`", field.name)));
                }
            }
            Ok(None)
        });
        match looked {
            Err(error) if is_damage(&error) => Ok(Some(format!("the collection `{name}`"))),
            looked => looked,
        }
    }

    fn record(&self, key: &str) -> String {
        format!("the record `{key}` of `{}`", self.definition.name)
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
        let records = self.select(connection, &sql, (until.as_microsecond(), limit_of(limit), from, to))?;
        match records.iter().find(|record| record.due.is_none_or(|due| due > until)) {
            Some(wrong) => Err(unreadable_as(mismatch(), || self.record(&wrong.key))),
            None => Ok(records),
        }
    }

    /// What a query asks for, and one more.
    pub(crate) fn list(&self, connection: &Connection, query: &Query) -> Result<Vec<Record>, ReadError> {
        self.definition.check(query)?;
        let (sql, values) = self.statement_of(query);
        let records = self.select(connection, &sql, params_from_iter(values))?;
        let mut last: Option<&str> = None;
        for Record { key, value, .. } in &records {
            let follows = last.is_none_or(|last| last != key && (last < key.as_str()) != query.descending);
            let wanted = query.prefix.as_ref().is_none_or(|prefix| key.starts_with(prefix));
            if !(follows && wanted && self.admits(value, query)) {
                return Err(unreadable_as(mismatch(), || self.record(key)));
            }
            last = Some(key);
        }
        Ok(records)
    }

    /// Whether a record has what a query asks of its fields. What SQLite cannot look into it has taken for null.
    fn admits(&self, value: &[u8], query: &Query) -> bool {
        let wanted = query.equal.iter().filter(|(_, wanted)| *wanted != Scalar::Null);
        let fields = wanted.filter_map(|(name, wanted)| {
            self.definition.fields.iter().find(|field| field.name == name).map(|field| (field, wanted))
        });
        fields.into_iter().all(|(field, wanted)| {
            match (Field::indexed(std::slice::from_ref(field), value).pop(), wanted) {
                (Some(Indexed::One(value)), wanted) => value == *wanted,
                (Some(Indexed::Many(Some(texts))), Scalar::Text(wanted)) => texts.contains(wanted),
                _ => false,
            }
        })
    }

    fn select(
        &self,
        connection: &Connection,
        sql: &str,
        values: impl Params,
    ) -> Result<Vec<Record>, ReadError> {
        let some = |error| unreadable_as(error, || format!("a record of `{}`", self.definition.name));
        let mut select = connection.prepare_cached(sql).map_err(some)?;
        let mut rows = select.query(values).map_err(some)?;
        let mut records = Vec::new();
        while let Some(row) = rows.next().map_err(some)? {
            let key = || row.get::<_, String>(0).unwrap_or_else(|_| "?".to_owned());
            let record = read_record(row, self.unchecked);
            records.push(record.map_err(|error| unreadable_as(error, || self.record(&key())))?);
        }
        Ok(records)
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
            "SELECT r._key, r._revision, r._position, r._due, r._value, r._sum FROM {from} WHERE {conditions} \
             ORDER BY {key} {order} LIMIT ?"
        );
        (sql, values)
    }

    fn is_texts(&self, name: &str) -> bool {
        texts_of(&self.definition).any(|field| field.name == name)
    }
}

/// A limit as SQLite takes it.
fn limit_of(limit: usize) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX)
}

/// A record of a row of [`COLUMNS`] that is what was written.
struct Intact<'r> {
    key: &'r str,
    revision: u64,
    position: u64,
    due: Option<i64>,
    value: &'r [u8],
}

impl<'r> Intact<'r> {
    fn read(row: &'r Row<'_>, unchecked: u64) -> rusqlite::Result<Self> {
        let (key, value) = (row.get_ref(0)?.as_str()?, row.get_ref(4)?.as_bytes()?);
        let (revision, position, due) = (unsigned(row.get(1)?), unsigned(row.get(2)?), row.get(3)?);
        let fits = match row.get::<_, Option<i64>>(5)? {
            Some(sum) => of_record(key, due, value).numbers([revision, position]).stored() == sum,
            None => revision <= unchecked,
        };
        if fits { Ok(Self { key, revision, position, due, value }) } else { Err(mismatch()) }
    }
}

fn read_record(row: &Row<'_>, unchecked: u64) -> rusqlite::Result<Record> {
    let Intact { key, revision, position, due, value } = Intact::read(row, unchecked)?;
    let due = due.map(Timestamp::from_microsecond).transpose().map_err(|error| {
        rusqlite::Error::FromSqlConversionFailure(3, rusqlite::types::Type::Integer, Box::new(error))
    })?;
    Ok(Record {
        key: key.to_owned(),
        revision,
        position: Position(position),
        due,
        value: value.to_vec().into(),
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
    let unchecked = schema::unchecked_revision(connection)?;
    let mut select = connection.prepare("SELECT name, fields FROM _collection")?;
    let stored = select.query_map([], |row| Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?)))?;
    stored
        .map(|stored| {
            let (name, fields) = stored?;
            let fields =
                fields.split_whitespace().filter_map(|field| Field::parse(field, &[])).collect::<Vec<_>>();
            Ok(Table::new(Collection { name: name.into(), fields: fields.into() }, unchecked))
        })
        .collect()
}
