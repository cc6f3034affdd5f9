//! Records: values under a key in a collection, found again by key, by indexed fields, or by the time they are due.

use std::borrow::Cow;
use std::collections::HashMap;

use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::message::{Timestamp, storing};

use super::{Field, Position, ReadError, Scalar};

/// A value that is kept as a record: which collection it lives in, and which of its fields are indexed.
///
/// ```
/// use purlin::store::{Field, Row};
///
/// #[derive(serde::Serialize, serde::Deserialize)]
/// struct OrderRow { status: String, total: i64 }
/// impl Row for OrderRow {
///     const COLLECTION: &'static str = "orders_view";
///     const FIELDS: &'static [Field] = &[Field::text("status")];
/// }
/// ```
pub trait Row: Serialize + DeserializeOwned + Send + Sync + 'static {
    /// The collection's name: lower-case letters, digits and `_`, at most 48 bytes, beginning with a letter.
    const COLLECTION: &'static str;
    /// The fields that queries may ask for.
    const FIELDS: &'static [Field] = &[];

    /// The definition of the collection.
    fn collection() -> Collection {
        Collection { name: Cow::Borrowed(Self::COLLECTION), fields: Cow::Borrowed(Self::FIELDS) }
    }
}

/// The definition of a collection. A collection is a table, an indexed field is a column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Collection {
    /// As [`Row::COLLECTION`].
    pub name: Cow<'static, str>,
    /// As [`Row::FIELDS`].
    pub fields: Cow<'static, [Field]>,
}

impl Collection {
    /// The same fields under another name (a read model that is built beside the live one).
    pub fn named(&self, name: impl Into<String>) -> Self {
        Self { name: Cow::Owned(name.into()), fields: self.fields.clone() }
    }

    /// Refuses a query for a field that is not indexed, or for a value that the field cannot have. Engines ask this
    /// before they look for records, so that the answer does not hang on which there are.
    pub fn check(&self, query: &Query) -> Result<(), ReadError> {
        for (name, wanted) in &query.equal {
            let field = self.fields.iter().find(|field| field.name == name).ok_or_else(|| {
                ReadError::Invalid(format!("the collection `{}` has no field `{name}`", self.name))
            })?;
            if !field.kind.can_be(wanted) {
                let (kind, name) = (field.kind, &self.name);
                return Err(ReadError::Invalid(format!(
                    "the field `{}` of the collection `{name}` is of type {kind:?} and cannot be {wanted:?}",
                    field.name
                )));
            }
        }
        Ok(())
    }
}

/// A record as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Its key in the collection.
    pub key: String,
    /// Changes with every write, and is never used twice in a store.
    pub revision: u64,
    /// The last position of the log when the record was written (its own commit's appends included).
    pub position: Position,
    /// When it wants attention, if at all.
    pub due: Option<Timestamp>,
    /// The value: JSON.
    pub value: Bytes,
}

impl Record {
    /// The value as the type that was written.
    pub fn decode<T: DeserializeOwned>(&self) -> Result<T, ReadError> {
        storing(|| serde_json::from_slice(&self.value)).map_err(|source| ReadError::Unreadable {
            what: format!("the record `{}`", self.key),
            source: source.into(),
        })
    }

    /// Puts records in the order of the keys that were asked for; none where there is none. (For engines.)
    pub fn by_keys(keys: &[String], records: &[Self]) -> Vec<Option<Self>> {
        let found: HashMap<&str, &Self> = records.iter().map(|record| (&*record.key, record)).collect();
        keys.iter().map(|key| found.get(&**key).map(|record| (*record).clone())).collect()
    }
}

/// What a write expects of the record it replaces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Revision {
    /// Whatever is there.
    Any,
    /// No record has the key.
    Absent,
    /// The record is there and has this revision.
    Exact(u64),
}

impl Revision {
    /// Whether a record of this revision (none: no record) is as expected.
    pub fn admits(self, actual: Option<u64>) -> bool {
        match self {
            Self::Any => true,
            Self::Absent => actual.is_none(),
            Self::Exact(revision) => actual == Some(revision),
        }
    }
}

/// Which records of a collection, in the order of their keys.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Query {
    /// Fields that must have a value.
    pub equal: Vec<(String, Scalar)>,
    /// Only keys that begin so.
    pub prefix: Option<String>,
    /// Only keys behind this one (in the direction of reading).
    pub after: Option<String>,
    /// From the last key to the first.
    pub descending: bool,
    /// How many at most; 0 means [`Query::DEFAULT_LIMIT`].
    pub limit: usize,
}

impl Query {
    /// How many records a query gives unless it says otherwise.
    pub const DEFAULT_LIMIT: usize = 50;

    /// All records.
    pub fn all() -> Self {
        Self::default()
    }

    /// Only those whose field has this value.
    pub fn and(mut self, field: impl Into<String>, value: impl Into<Scalar>) -> Self {
        self.equal.push((field.into(), value.into()));
        self
    }

    /// Only keys that begin with `prefix`.
    pub fn prefix(mut self, prefix: impl Into<String>) -> Self {
        self.prefix = Some(prefix.into());
        self
    }

    /// Only keys behind `key`.
    pub fn after(mut self, key: Option<String>) -> Self {
        self.after = key;
        self
    }

    /// From the last key to the first.
    pub fn descending(mut self) -> Self {
        self.descending = true;
        self
    }

    /// At most `limit` records.
    pub fn limit(mut self, limit: usize) -> Self {
        self.limit = limit;
        self
    }

    /// The limit that is in force.
    pub fn effective_limit(&self) -> usize {
        if self.limit == 0 { Self::DEFAULT_LIMIT } else { self.limit }
    }
}

/// Some records, and where to go on.
#[derive(Debug, Clone, Default)]
pub struct Page {
    /// The records.
    pub records: Vec<Record>,
    /// The key behind which the next page begins; none when this is the last.
    pub next: Option<String>,
}
