//! Collections: a table each, a column for each indexed field.

use std::fmt::Write as _;

use purlin::message::{Uuid, derived_id};
use purlin::store::{Collection, Field, FieldType, Indexed, Query, ReadError, Scalar};
use tokio_postgres::types::ToSql;

use crate::codec::limit;
use crate::names::{Schema, column};
use crate::reader::Select;

/// The columns that every collection has, in the order in which [`read_record`](crate::codec::read_record) wants them.
pub(crate) const COLUMNS: &str = "_key, _revision, _position, _due, _value::text";

/// Characters by which texts are indexed: an entry of an index must not be larger than a third of a page.
const INDEXED: usize = 128;

/// A collection as the engine knows it, with the statements that change it: each only where the number of the group
/// that it belongs to is written.
pub(crate) struct Table {
    pub(crate) definition: Collection,
    pub(crate) name: String,
    /// The record of a key.
    pub(crate) one: String,
    /// The records of some keys.
    pub(crate) many: String,
    pub(crate) put: String,
    pub(crate) delete: String,
    /// Removes a group's number again when a key has another revision.
    pub(crate) withdraw: String,
    pub(crate) revisions: String,
}

/// The values of one field, a row each.
#[derive(Debug)]
pub(crate) enum Column {
    Text(Vec<Option<String>>),
    Integer(Vec<Option<i64>>),
    Boolean(Vec<Option<bool>>),
    /// Arrays, written as PostgreSQL reads them.
    Texts(Vec<Option<String>>),
}

impl Table {
    pub(crate) fn new(schema: &Schema, definition: Collection) -> Self {
        let (name, batch) = (schema.table(&definition.name), schema.table("_batch"));
        // A row with the revision 0 says that the group did *not* happen.
        let guard = format!("EXISTS (SELECT FROM {batch} WHERE writer = $1 AND batch = $2 AND revision > 0)");
        let (mut names, mut values, mut arrays, mut aliases, mut sets) =
            (String::new(), String::new(), String::new(), String::new(), String::new());
        for (n, field) in definition.fields.iter().enumerate() {
            let column = column(field.name);
            let _ = write!(names, ", {column}");
            let _ = write!(values, ", {}", Column::value(field.kind, &format!("f{n}")));
            let _ = write!(arrays, ", ${}::{}[]", n + 8, Column::transport(field.kind));
            let _ = write!(aliases, ", f{n}");
            let _ = write!(sets, ", {column} = excluded.{column}");
        }
        Self {
            one: format!("SELECT {COLUMNS} FROM {name} WHERE _key = $1"),
            many: format!("SELECT {COLUMNS} FROM {name} WHERE _key = ANY ($1::text[])"),
            put: format!(
                "INSERT INTO {name}(_key, _revision, _position, _due, _value{names}) \
                 SELECT k, r, p, d, v::json{values} \
                 FROM unnest($3::text[], $4::bigint[], $5::bigint[], $6::bigint[], $7::text[]{arrays}) \
                 AS u(k, r, p, d, v{aliases}) WHERE {guard} \
                 ON CONFLICT (_key) DO UPDATE SET _revision = excluded._revision, _position = excluded._position, \
                 _due = excluded._due, _value = excluded._value{sets}"
            ),
            delete: format!("DELETE FROM {name} WHERE _key = ANY($3::text[]) AND {guard}"),
            withdraw: format!(
                "DELETE FROM {batch} WHERE writer = $1 AND batch = $2 AND revision > 0 AND EXISTS (\
                 SELECT FROM unnest($3::text[], $4::bigint[]) AS u(k, r) \
                 WHERE (SELECT _revision FROM {name} WHERE _key = u.k) IS DISTINCT FROM u.r)"
            ),
            revisions: format!(
                "SELECT (SELECT _revision FROM {name} WHERE _key = u.k) \
                 FROM unnest($1::text[]) WITH ORDINALITY AS u(k, n) ORDER BY n"
            ),
            name,
            definition,
        }
    }

    /// The record of a key.
    pub(crate) fn get(&self, key: String) -> Select {
        Select::new(self.one.clone()).with(key)
    }

    /// The records of keys.
    pub(crate) fn get_many(&self, keys: Vec<String>) -> Select {
        Select::new(self.many.clone()).with(keys)
    }

    /// At most `most` records that are due and whose keys begin with a prefix.
    pub(crate) fn due(&self, until: i64, prefix: Option<&str>, most: usize) -> Select {
        let mut select = Select::new(String::new());
        let until = select.mark(until);
        let begins =
            prefix.map_or_else(String::new, |prefix| format!(" AND {}", begins(&mut select, prefix)));
        let most = select.mark(limit(most));
        let name = &self.name;
        select.sql = format!(
            "SELECT {COLUMNS} FROM {name} WHERE _due IS NOT NULL AND _due <= {until}{begins} \
             ORDER BY _due, _key LIMIT {most}"
        );
        select
    }

    /// What a query asks for, and one more.
    pub(crate) fn list(&self, query: &Query) -> Result<Select, ReadError> {
        self.definition.check(query)?;
        let mut select = Select::new(String::new());
        let mut conditions = Vec::new();
        for (name, wanted) in &query.equal {
            let field = self.definition.fields.iter().find(|field| field.name == name);
            conditions.extend(field.map(|field| equal(&mut select, *field, wanted)));
        }
        if let Some(prefix) = &query.prefix {
            conditions.push(begins(&mut select, prefix));
        }
        let (than, order) = if query.descending { ("<", "DESC") } else { (">", "ASC") };
        if let Some(after) = &query.after {
            conditions.push(format!("_key {than} {}", select.mark(after.clone())));
        }
        let conditions = if conditions.is_empty() { "TRUE".to_owned() } else { conditions.join(" AND ") };
        let most = select.mark(limit(query.effective_limit().saturating_add(1)));
        let name = &self.name;
        select.sql =
            format!("SELECT {COLUMNS} FROM {name} WHERE {conditions} ORDER BY _key {order} LIMIT {most}");
        Ok(select)
    }
}

/// The condition that a key begins with a prefix.
fn begins(select: &mut Select, prefix: &str) -> String {
    let (from, to) = (select.mark(prefix.to_owned()), select.mark(format!("{prefix}{}", char::MAX)));
    format!("_key >= {from} AND _key < {to}")
}

/// The condition that a field has a value; one of another type it never has.
fn equal(select: &mut Select, field: Field, wanted: &Scalar) -> String {
    let column = column(field.name);
    match (field.kind, wanted) {
        (FieldType::Texts, Scalar::Text(text)) => {
            format!("{column} @> ARRAY[{}::text]", select.mark(element(text)))
        }
        (FieldType::Text, Scalar::Text(text)) => {
            let mark = select.mark(text.clone());
            format!("left({column}, {INDEXED}) = left({mark}::text, {INDEXED}) AND {column} = {mark}::text")
        }
        (FieldType::Integer, Scalar::Integer(number)) => format!("{column} = {}", select.mark(*number)),
        (FieldType::Boolean, Scalar::Boolean(truth)) => format!("{column} = {}", select.mark(*truth)),
        (FieldType::Text | FieldType::Integer | FieldType::Boolean, Scalar::Null) => {
            format!("{column} IS NULL")
        }
        _ => "FALSE".to_owned(),
    }
}

impl Column {
    pub(crate) fn new(kind: FieldType) -> Self {
        match kind {
            FieldType::Text => Self::Text(Vec::new()),
            FieldType::Integer => Self::Integer(Vec::new()),
            FieldType::Boolean => Self::Boolean(Vec::new()),
            FieldType::Texts => Self::Texts(Vec::new()),
        }
    }

    /// The field's type in the table.
    pub(crate) fn of(kind: FieldType) -> &'static str {
        match kind {
            FieldType::Text => "text COLLATE \"C\"",
            FieldType::Integer => "bigint",
            FieldType::Boolean => "boolean",
            FieldType::Texts => "text[] COLLATE \"C\"",
        }
    }

    /// The field's type on its way there.
    pub(crate) fn transport(kind: FieldType) -> &'static str {
        match kind {
            FieldType::Text | FieldType::Texts => "text",
            FieldType::Integer => "bigint",
            FieldType::Boolean => "boolean",
        }
    }

    /// What came, as it is stored.
    pub(crate) fn value(kind: FieldType, name: &str) -> String {
        if kind == FieldType::Texts { format!("{name}::text[]") } else { name.to_owned() }
    }

    /// What is indexed: all of it, or of a text its beginning.
    pub(crate) fn index(field: Field, name: &str, table: &str) -> String {
        let column = column(field.name);
        match field.kind {
            FieldType::Text => {
                format!("CREATE INDEX {name} ON {table}(left({column}, {INDEXED}), _key)")
            }
            FieldType::Integer | FieldType::Boolean => {
                format!("CREATE INDEX {name} ON {table}({column}, _key)")
            }
            FieldType::Texts => format!("CREATE INDEX {name} ON {table} USING gin ({column})"),
        }
    }

    /// Adds a record's value.
    pub(crate) fn push(&mut self, value: Indexed) {
        match (self, value) {
            (Self::Text(all), Indexed::One(Scalar::Text(text))) if !text.contains('\0') => {
                all.push(Some(text));
            }
            (Self::Text(all), _) => all.push(None),
            (Self::Integer(all), Indexed::One(Scalar::Integer(number))) => all.push(Some(number)),
            (Self::Integer(all), _) => all.push(None),
            (Self::Boolean(all), Indexed::One(Scalar::Boolean(truth))) => all.push(Some(truth)),
            (Self::Boolean(all), _) => all.push(None),
            (Self::Texts(all), Indexed::Many(texts)) => all.push(texts.as_deref().map(array)),
            (Self::Texts(all), Indexed::One(_)) => all.push(None),
        }
    }

    /// The fields of records, as a write brings them; what an array holds is read from the record's JSON.
    pub(crate) fn all<'a>(
        table: &Table,
        records: impl Iterator<Item = (&'a [u8], &'a [Scalar])>,
    ) -> Vec<Self> {
        let fields = &table.definition.fields;
        let mut columns: Vec<Self> = fields.iter().map(|field| Self::new(field.kind)).collect();
        let arrays = fields.iter().any(|field| field.kind == FieldType::Texts);
        for (value, scalars) in records {
            let values = match arrays {
                true => Field::indexed(fields, value),
                false => scalars.iter().cloned().map(Indexed::One).collect(),
            };
            columns.iter_mut().zip(values).for_each(|(column, value)| column.push(value));
        }
        columns
    }

    /// The fields of records, read from their JSON.
    pub(crate) fn read<'a>(fields: &[Field], records: impl Iterator<Item = &'a [u8]>) -> Vec<Self> {
        let mut columns: Vec<Self> = fields.iter().map(|field| Self::new(field.kind)).collect();
        for value in records {
            let values = Field::indexed(fields, value);
            columns.iter_mut().zip(values).for_each(|(column, value)| column.push(value));
        }
        columns
    }

    pub(crate) fn into_sql<'a>(self) -> Box<dyn ToSql + Sync + Send + 'a> {
        match self {
            Self::Text(all) | Self::Texts(all) => Box::new(all),
            Self::Integer(all) => Box::new(all),
            Self::Boolean(all) => Box::new(all),
        }
    }

    pub(crate) fn as_sql(&self) -> &(dyn ToSql + Sync) {
        match self {
            Self::Text(all) | Self::Texts(all) => all,
            Self::Integer(all) => all,
            Self::Boolean(all) => all,
        }
    }
}

/// A text of an array, as it is indexed: what is too long for an index is told apart by a hash of all of it.
fn element(text: &str) -> String {
    match text.char_indices().nth(INDEXED) {
        None => text.to_owned(),
        Some(_) => {
            let begin = text.char_indices().nth(INDEXED / 2).map_or(text.len(), |(index, _)| index);
            format!("{}#{}", &text[..begin], derived_id(Uuid::nil(), text).simple())
        }
    }
}

/// The texts of a JSON array as PostgreSQL writes an array.
fn array(texts: &[String]) -> String {
    let mut literal = String::from("{");
    for text in texts.iter().filter(|text| !text.contains('\0')) {
        if literal.len() > 1 {
            literal.push(',');
        }
        literal.push('"');
        for char in element(text).chars() {
            if matches!(char, '"' | '\\') {
                literal.push('\\');
            }
            literal.push(char);
        }
        literal.push('"');
    }
    literal.push('}');
    literal
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_array_is_written_so_that_nothing_in_it_is_taken_for_syntax() {
        let texts = [r#"a"b"#, "c\\d", "{e,f}", "NULL", ""].map(str::to_owned);
        assert_eq!(array(&texts), r#"{"a\"b","c\\d","{e,f}","NULL",""}"#);
        assert_eq!(array(&[]), "{}");
    }

    #[test]
    fn long_texts_of_an_array_that_begin_alike_are_told_apart() {
        let (one, two) = (format!("{}1", "x".repeat(300)), format!("{}2", "x".repeat(300)));
        assert_ne!(element(&one), element(&two));
        assert!(element(&one).len() < INDEXED && element("short") == "short");
    }
}
