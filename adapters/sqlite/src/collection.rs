//! Collections: a table each, a column for each indexed field.

use std::fmt::Write as _;

use purlin::message::Timestamp;
use purlin::store::{Collection, Field, FieldType, Position, Query, ReadError, Record, Scalar};
use rusqlite::types::{ToSqlOutput, Value, ValueRef};
use rusqlite::{Connection, OptionalExtension, Row, ToSql, params_from_iter};

use crate::codec::unsigned;
use crate::error::unreadable;

const COLUMNS: &str = "_key, _revision, _position, _due, _value";

/// A collection as the engine knows it, with the statements that change it.
pub(crate) struct Table {
    pub(crate) definition: Collection,
    pub(crate) put: String,
    pub(crate) delete: String,
    pub(crate) revision: String,
}

/// The fields that have a column; of [`FieldType::Texts`] the values stay in the record.
fn columns(definition: &Collection) -> impl Iterator<Item = &Field> {
    definition.fields.iter().filter(|field| field.kind != FieldType::Texts)
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
    pub(crate) fn get(&self, connection: &Connection, key: &str) -> rusqlite::Result<Option<Record>> {
        let sql = format!("SELECT {COLUMNS} FROM \"{}\" WHERE _key = ?1", self.definition.name);
        connection.prepare_cached(&sql)?.query_row([key], read_record).optional()
    }

    /// At most `limit` records that are due.
    pub(crate) fn due(
        &self,
        connection: &Connection,
        until: Timestamp,
        limit: usize,
    ) -> rusqlite::Result<Vec<Record>> {
        let sql = format!(
            "SELECT {COLUMNS} FROM \"{}\" WHERE _due IS NOT NULL AND _due <= ?1 ORDER BY _due, _key LIMIT ?2",
            self.definition.name
        );
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        connection.prepare_cached(&sql)?.query_map((until.as_microsecond(), limit), read_record)?.collect()
    }

    /// What a query asks for, and one more.
    pub(crate) fn list(&self, connection: &Connection, query: &Query) -> Result<Vec<Record>, ReadError> {
        let (mut conditions, mut values) = (Vec::new(), Vec::<Value>::new());
        for (name, wanted) in &query.equal {
            let field = self.definition.fields.iter().find(|field| field.name == name).ok_or_else(|| {
                ReadError::Invalid(format!("the collection `{}` has no field `{name}`", self.definition.name))
            })?;
            conditions.push(match field.kind {
                FieldType::Texts => {
                    format!("EXISTS (SELECT 1 FROM json_each(_value, '$.{name}') WHERE value = ?)")
                }
                _ if *wanted == Scalar::Null => format!("\"{name}\" IS ?"),
                _ => format!("\"{name}\" = ?"),
            });
            values.push(owned(wanted));
        }
        if let Some(prefix) = &query.prefix {
            conditions.push("_key >= ?".to_owned());
            conditions.push("_key < ?".to_owned());
            values.extend([Value::Text(prefix.clone()), Value::Text(format!("{prefix}{}", char::MAX))]);
        }
        let (than, order) = if query.descending { ("<", "DESC") } else { (">", "ASC") };
        if let Some(after) = &query.after {
            conditions.push(format!("_key {than} ?"));
            values.push(Value::Text(after.clone()));
        }
        let conditions = if conditions.is_empty() { "TRUE".to_owned() } else { conditions.join(" AND ") };
        let limit = query.effective_limit().saturating_add(1);
        let name = &self.definition.name;
        let sql = format!(
            "SELECT {COLUMNS} FROM \"{name}\" WHERE {conditions} ORDER BY _key {order} LIMIT {limit}"
        );
        let mut select = connection.prepare_cached(&sql).map_err(unreadable)?;
        let rows = select.query_map(params_from_iter(values), read_record).map_err(unreadable)?;
        rows.collect::<Result<_, _>>().map_err(unreadable)
    }
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
             CREATE INDEX \"{name}._due\" ON \"{name}\"(_due) WHERE _due IS NOT NULL;"
        ))?;
    }
    let old: Vec<&Field> = before.map(|table| columns(&table.definition).collect()).unwrap_or_default();
    let new: Vec<&Field> = columns(definition).collect();
    for field in old.iter().filter(|field| !new.contains(field)) {
        connection.execute_batch(&format!(
            "DROP INDEX \"{name}.{0}\"; ALTER TABLE \"{name}\" DROP COLUMN \"{0}\";",
            field.name
        ))?;
    }
    for field in new.iter().filter(|field| !old.contains(field)) {
        let (kind, is_kind) = match field.kind {
            FieldType::Integer => ("INTEGER", "= 'integer'"),
            FieldType::Boolean => ("INTEGER", "IN ('true', 'false')"),
            FieldType::Text | FieldType::Texts => ("TEXT", "= 'text'"),
        };
        let field = field.name;
        connection.execute_batch(&format!(
            "ALTER TABLE \"{name}\" ADD COLUMN \"{field}\" {kind};
             UPDATE \"{name}\" SET \"{field}\" = json_extract(_value, '$.{field}')
                 WHERE json_type(_value, '$.{field}') {is_kind};
             CREATE INDEX \"{name}.{field}\" ON \"{name}\"(\"{field}\");"
        ))?;
    }
    let fields: Vec<String> = definition.fields.iter().map(print_field).collect();
    connection.execute(
        "INSERT OR REPLACE INTO _collection(name, fields) VALUES(?1, ?2)",
        (name.as_ref(), fields.join(" ")),
    )?;
    Ok(())
}

/// Removes a table; inside a transaction of the caller.
pub(crate) fn drop_table(connection: &Connection, name: &str) -> rusqlite::Result<()> {
    connection.execute_batch(&format!("DROP TABLE IF EXISTS \"{name}\""))?;
    connection.execute("DELETE FROM _collection WHERE name = ?1", [name])?;
    Ok(())
}

/// Gives a table another name, in place of what had it; inside a transaction of the caller.
pub(crate) fn rename(connection: &Connection, from: &Table, to: &str) -> rusqlite::Result<()> {
    drop_table(connection, to)?;
    let name = &from.definition.name;
    connection.execute_batch(&format!("ALTER TABLE \"{name}\" RENAME TO \"{to}\""))?;
    // An index keeps its name when its table gets another.
    let fields = columns(&from.definition).map(|field| (field.name, format!("\"{}\"", field.name)));
    for (index, on) in fields.chain([("_due", "_due) WHERE (_due IS NOT NULL".to_owned())]) {
        connection.execute_batch(&format!(
            "DROP INDEX \"{name}.{index}\"; CREATE INDEX \"{to}.{index}\" ON \"{to}\"({on});"
        ))?;
    }
    connection.execute("UPDATE _collection SET name = ?2 WHERE name = ?1", (name.as_ref(), to))?;
    Ok(())
}
