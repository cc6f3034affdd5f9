//! The fields of a record that are indexed, and how they are found in its JSON.
//!
//! Only the members that are asked for are read. What else a record holds is skipped over, so that neither its size
//! nor its depth nor a number that fits no type matters: what could be written can be indexed.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Mutex;

use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

/// An indexed field: a top-level member of the record's JSON object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Field {
    /// The member's name.
    pub name: &'static str,
    /// What it holds.
    pub kind: FieldType,
}

/// A name for the life of the program; the same one each time.
fn kept(name: &str) -> &'static str {
    static KEPT: Mutex<BTreeSet<&'static str>> = Mutex::new(BTreeSet::new());
    let mut kept = KEPT.lock().expect("no panic holds the names");
    match kept.get(name) {
        Some(known) => known,
        None => {
            let name = Box::leak(name.to_owned().into_boxed_str());
            kept.insert(name);
            name
        }
    }
}

/// What an indexed field holds; a member that is missing, null or of another type is indexed as null.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FieldType {
    /// A string.
    Text,
    /// An integer of 64 bits.
    Integer,
    /// True or false.
    Boolean,
    /// An array; a query matches when one of its members is an equal string.
    Texts,
}

impl FieldType {
    /// Whether a query may ask for this value. No field of several texts is null: it has none, one or more.
    pub(super) fn can_be(self, wanted: &Scalar) -> bool {
        matches!(
            (self, wanted),
            (Self::Text | Self::Texts, Scalar::Text(_))
                | (Self::Integer, Scalar::Integer(_))
                | (Self::Boolean, Scalar::Boolean(_))
                | (Self::Text | Self::Integer | Self::Boolean, Scalar::Null)
        )
    }
}

/// As an engine writes it down: `name:kind`.
impl fmt::Display for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.kind {
            FieldType::Text => "text",
            FieldType::Integer => "integer",
            FieldType::Boolean => "boolean",
            FieldType::Texts => "texts",
        };
        write!(f, "{}:{kind}", self.name)
    }
}

impl Field {
    /// Reads a field that was written down. A name that is not among those of `known` is kept for the life of the
    /// program, once: there is a handful of them.
    pub fn parse(text: &str, known: &[&Self]) -> Option<Self> {
        let (name, kind) = text.split_once(':')?;
        let kind = match kind {
            "text" => FieldType::Text,
            "integer" => FieldType::Integer,
            "boolean" => FieldType::Boolean,
            "texts" => FieldType::Texts,
            _ => return None,
        };
        let known = known.iter().find(|field| field.name == name).map(|field| field.name);
        Some(Self { name: known.unwrap_or_else(|| kept(name)), kind })
    }

    /// A field that holds a string.
    pub const fn text(name: &'static str) -> Self {
        Self { name, kind: FieldType::Text }
    }

    /// A field that holds an integer.
    pub const fn integer(name: &'static str) -> Self {
        Self { name, kind: FieldType::Integer }
    }

    /// A field that holds true or false.
    pub const fn boolean(name: &'static str) -> Self {
        Self { name, kind: FieldType::Boolean }
    }

    /// A field that holds an array of strings.
    pub const fn texts(name: &'static str) -> Self {
        Self { name, kind: FieldType::Texts }
    }

    /// What is indexed of a record's JSON, field by field, for an engine that keeps the values of arrays itself.
    pub fn indexed(fields: &[Self], json: &[u8]) -> Vec<Indexed> {
        let read = |(field, member): (&Self, Option<&RawValue>)| match field.kind {
            FieldType::Texts => Indexed::Many(member.and_then(texts_of)),
            _ => Indexed::One(field.scalar_of(member)),
        };
        fields.iter().zip(members(fields, json)).map(read).collect()
    }

    /// Whether a record's JSON has this value in the field.
    pub(super) fn admits(&self, json: &[u8], wanted: &Scalar) -> bool {
        let members = members(std::slice::from_ref(self), json);
        let member = members.first().copied().flatten();
        match (self.kind, wanted) {
            (FieldType::Texts, Scalar::Text(wanted)) => {
                member.and_then(texts_of).is_some_and(|texts| texts.contains(wanted))
            }
            _ => self.scalar_of(member) == *wanted,
        }
    }

    /// What is indexed of a member ([`FieldType::Texts`] is not one value: null).
    fn scalar_of(&self, member: Option<&RawValue>) -> Scalar {
        fn read<'a, T: Deserialize<'a> + Into<Scalar>>(member: &'a RawValue) -> Option<Scalar> {
            serde_json::from_str::<T>(member.get()).ok().map(Into::into)
        }
        let scalar = member.and_then(|member| match self.kind {
            FieldType::Text => read::<String>(member),
            FieldType::Integer => read::<i64>(member),
            FieldType::Boolean => read::<bool>(member),
            FieldType::Texts => None,
        });
        scalar.unwrap_or(Scalar::Null)
    }
}

/// The strings of an array; what else it holds is passed over. None of what is no array.
fn texts_of(member: &RawValue) -> Option<Vec<String>> {
    let members = serde_json::from_str::<Vec<&RawValue>>(member.get()).ok()?;
    Some(members.iter().filter_map(|member| serde_json::from_str(member.get()).ok()).collect())
}

/// What is indexed of a record's field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Indexed {
    /// The field's value.
    One(Scalar),
    /// The texts of a field of [`FieldType::Texts`]; none when the member is no array.
    Many(Option<Vec<String>>),
}

/// A value of an indexed field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Scalar {
    /// Missing, or of another type than the field.
    Null,
    /// A string.
    Text(String),
    /// An integer.
    Integer(i64),
    /// True or false.
    Boolean(bool),
}

impl From<&str> for Scalar {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<String> for Scalar {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<i64> for Scalar {
    fn from(number: i64) -> Self {
        Self::Integer(number)
    }
}

impl From<bool> for Scalar {
    fn from(truth: bool) -> Self {
        Self::Boolean(truth)
    }
}

/// The values of these fields in a record's JSON, in their order.
pub(super) fn scalars(fields: &[Field], json: &[u8]) -> Vec<Scalar> {
    let members = members(fields, json);
    fields.iter().zip(members).map(|(field, member)| field.scalar_of(member)).collect()
}

/// The members of these names; all are missing in what is no object.
pub(super) fn members<'de>(fields: &[Field], json: &'de [u8]) -> Vec<Option<&'de RawValue>> {
    if fields.is_empty() {
        return Vec::new();
    }
    let read = Members(fields).deserialize(&mut serde_json::Deserializer::from_slice(json));
    read.unwrap_or_else(|_| vec![None; fields.len()])
}

/// Reads the members of an object that bear the names of these fields.
struct Members<'f>(&'f [Field]);

impl<'de> DeserializeSeed<'de> for Members<'_> {
    type Value = Vec<Option<&'de RawValue>>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Members<'_> {
    type Value = Vec<Option<&'de RawValue>>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut found = vec![None; self.0.len()];
        while let Some(field) = map.next_key_seed(Name(self.0))? {
            match field {
                Some(index) => found[index] = Some(map.next_value()?),
                None => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(found)
    }
}

/// Reads a member's name as the index of its field, if it is one.
struct Name<'f>(&'f [Field]);

impl<'de> DeserializeSeed<'de> for Name<'_> {
    type Value = Option<usize>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for Name<'_> {
    type Value = Option<usize>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a member's name")
    }

    fn visit_str<E>(self, name: &str) -> Result<Self::Value, E> {
        Ok(self.0.iter().position(|field| field.name == name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIELDS: &[Field] =
        &[Field::text("name"), Field::integer("count"), Field::boolean("open"), Field::texts("tags")];

    #[test]
    fn a_name_that_nobody_knows_is_kept_once() {
        let read = || Field::parse("known_by_nobody:text", &[]).unwrap().name;
        assert!(std::ptr::eq(read(), read()));
    }

    #[test]
    fn members_of_the_right_type_are_indexed_and_all_others_are_null() {
        let whole = br#"{"count":-7,"n":{"count":1},"name":"a\"b","open":true,"tags":["x"]}"#;
        let expected = [Scalar::from("a\"b"), Scalar::from(-7), Scalar::from(true), Scalar::Null];
        assert_eq!(scalars(FIELDS, whole), expected);
        let none = [Scalar::Null, Scalar::Null, Scalar::Null, Scalar::Null];
        for other in [
            r#"{"name":null,"count":1.0,"open":"true"}"#,
            r#"{"name":["a"],"count":9223372036854775808,"open":0}"#,
            r#"{"count":-0}"#,
            "{}",
            "[1]",
            "null",
        ] {
            assert_eq!(scalars(FIELDS, other.as_bytes()), none, "{other}");
        }
    }

    #[test]
    fn what_stands_beside_a_field_may_be_as_deep_and_as_large_as_json_can_be() {
        let deep = format!("{}{}", "[".repeat(5000), "]".repeat(5000));
        let json = format!(r#"{{"data":{deep},"number":1e999,"name":"a","tags":["x",1e999,"y"]}}"#);
        assert_eq!(scalars(&FIELDS[..1], json.as_bytes()), [Scalar::from("a")]);
        assert!(FIELDS[3].admits(json.as_bytes(), &Scalar::from("y")));
        assert!(!FIELDS[3].admits(json.as_bytes(), &Scalar::from("z")));
    }
}
