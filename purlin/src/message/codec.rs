//! An event enum as a kind and JSON data, and back, without a derive of our own.
//!
//! serde writes an externally tagged enum as `{"variant":content}` or, for a unit variant, as `"variant"`. The
//! variant's name becomes the end of the kind, the content becomes the data (`null` for a unit variant).

use std::sync::Arc;

use bytes::Bytes;
use serde::Serialize;
use serde::de::value::StrDeserializer;
use serde::de::{
    DeserializeOwned, DeserializeSeed, Deserializer, EnumAccess, IntoDeserializer, VariantAccess, Visitor,
};

/// The kind (`prefix.variant`) and the data of an event.
pub fn encode<E: Serialize>(prefix: &str, event: &E) -> Result<(Arc<str>, Bytes), EncodeError> {
    let json = serde_json::to_vec(event).map_err(EncodeError::Json)?;
    let (variant, data) = split(&json).ok_or(EncodeError::NotAnEnum)?;
    let mut kind = String::with_capacity(prefix.len() + 1 + variant.len());
    kind.push_str(prefix);
    kind.push('.');
    kind.push_str(variant);
    let data = match data {
        Some((from, to)) => Bytes::from(json).slice(from..to),
        None => Bytes::from_static(b"null"),
    };
    Ok((kind.into(), data))
}

/// The variant's name, and where its content stands in `json` (none for a unit variant).
fn split(json: &[u8]) -> Option<(&str, Option<(usize, usize)>)> {
    let unit = json.first() == Some(&b'"');
    let start = if unit { 1 } else { 2 };
    if !unit && !json.starts_with(b"{\"") {
        return None;
    }
    let end = start + json[start..].iter().position(|b| matches!(b, b'"' | b'\\'))?;
    let variant = std::str::from_utf8(&json[start..end]).ok()?;
    match (unit, json.get(end..end + 2)) {
        (true, _) if end + 1 == json.len() => Some((variant, None)),
        (false, Some(b"\":")) => Some((variant, Some((end + 2, json.len() - 1)))),
        _ => None,
    }
}

/// The event that [`encode`] wrote: the variant is the part of `kind` behind its first dot.
pub fn decode<E: DeserializeOwned>(kind: &str, data: &[u8]) -> Result<E, DecodeError> {
    let variant = kind.split_once('.').map_or(kind, |(_, variant)| variant);
    E::deserialize(Tagged { variant, data }).map_err(|source| DecodeError { kind: kind.to_owned(), source })
}

/// The event cannot be written as a kind and data.
#[derive(Debug, thiserror::Error)]
pub enum EncodeError {
    /// The value does not fit JSON (a map whose keys are not strings, say).
    #[error("the event cannot be written as JSON")]
    Json(#[source] serde_json::Error),
    /// Only an externally tagged enum (serde's default) has a variant to name the kind after.
    #[error("an event must be an enum with serde's default tagging: its variants name the kinds")]
    NotAnEnum,
}

/// Stored data do not fit the event type that was asked for.
#[derive(Debug, thiserror::Error)]
#[error("the data of an event of kind `{kind}` do not fit its type")]
pub struct DecodeError {
    /// The kind of the event.
    pub kind: String,
    /// What did not fit, and where.
    #[source]
    pub source: serde_json::Error,
}

/// An externally tagged enum whose tag and content were stored apart.
struct Tagged<'a> {
    variant: &'a str,
    data: &'a [u8],
}

impl<'de> Deserializer<'de> for Tagged<'de> {
    type Error = serde_json::Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Self::Error> {
        visitor.visit_enum(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Self::Error> {
        visitor.visit_enum(self)
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit
        unit_struct newtype_struct seq tuple tuple_struct map struct identifier ignored_any
    }
}

impl<'de> EnumAccess<'de> for Tagged<'de> {
    type Error = serde_json::Error;
    type Variant = Content<'de>;

    fn variant_seed<V: DeserializeSeed<'de>>(self, seed: V) -> Result<(V::Value, Content<'de>), Self::Error> {
        let variant: StrDeserializer<'de, serde_json::Error> = self.variant.into_deserializer();
        Ok((seed.deserialize(variant)?, Content(self.data)))
    }
}

struct Content<'a>(&'a [u8]);

impl<'de> Content<'de> {
    fn read<T>(
        self,
        read: impl FnOnce(&mut serde_json::Deserializer<serde_json::de::SliceRead<'de>>) -> serde_json::Result<T>,
    ) -> serde_json::Result<T> {
        let mut json = serde_json::Deserializer::from_slice(self.0);
        let value = read(&mut json)?;
        json.end()?;
        Ok(value)
    }
}

impl<'de> VariantAccess<'de> for Content<'de> {
    type Error = serde_json::Error;

    fn unit_variant(self) -> Result<(), Self::Error> {
        self.read(|json| serde::Deserialize::deserialize(json))
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value, Self::Error> {
        self.read(|json| seed.deserialize(json))
    }

    fn tuple_variant<V: Visitor<'de>>(self, len: usize, visitor: V) -> Result<V::Value, Self::Error> {
        self.read(|json| json.deserialize_tuple(len, visitor))
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Self::Error> {
        self.read(|json| json.deserialize_struct("", fields, visitor))
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    #[serde(rename_all = "kebab-case")]
    enum Event {
        Unit,
        New(Vec<String>),
        Pair(u8, Option<bool>),
        Full { name: String, nested: Option<Box<Event>> },
    }

    #[test]
    fn every_shape_of_variant_is_read_back() {
        for event in [
            Event::Unit,
            Event::New(vec![]),
            Event::New(vec!["a\"}b".into()]),
            Event::Pair(7, None),
            Event::Full { name: "}{\\".into(), nested: Some(Box::new(Event::Unit)) },
        ] {
            let (kind, data) = encode("thing", &event).unwrap();
            assert!(kind.starts_with("thing."));
            assert_eq!(decode::<Event>(&kind, &data).unwrap(), event);
        }
    }

    #[test]
    fn what_is_not_an_enum_has_no_kind() {
        for value in
            [serde_json::json!({}), serde_json::json!([1]), serde_json::json!(1), serde_json::json!("a\"b")]
        {
            assert!(matches!(encode("x", &value), Err(EncodeError::NotAnEnum)), "{value}");
        }
    }

    #[test]
    fn data_that_do_not_fit_are_an_error_that_names_the_kind() {
        for (kind, data) in
            [("thing.unit", "{}"), ("thing.new", "[1]"), ("thing.gone", "null"), ("thing.pair", "[1,true] x")]
        {
            assert_eq!(decode::<Event>(kind, data.as_bytes()).unwrap_err().kind, kind);
        }
    }
}
