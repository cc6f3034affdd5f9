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
use serde_json::Value;

use super::storing::storing;
use super::variant::{NotAVariant, VariantName};

/// The kind (`prefix.variant`) and the data of an event.
pub(super) fn encode<E: Serialize>(prefix: &str, event: &E) -> Result<(Arc<str>, Bytes), EncodeError> {
    let variant = event.serialize(VariantName).map_err(|NotAVariant| EncodeError::NotAnEnum)?;
    // The kind is taken apart at its last dot; a quote or backslash would stand escaped in the JSON.
    if variant.contains(['.', '"', '\\']) || variant.chars().any(char::is_control) {
        return Err(EncodeError::Name(variant));
    }
    let json = storing(|| serde_json::to_vec(event)).map_err(EncodeError::Json)?;
    let kind = format!("{prefix}.{variant}").into();
    // Either `"variant"`, or `{"variant":content}`.
    let data = match json.first() {
        Some(b'{') => content(json, variant),
        _ => Bytes::from_static(b"null"),
    };
    Ok((kind, data))
}

/// What stands between `{"variant":` and `}`.
fn content(json: Vec<u8>, variant: &str) -> Bytes {
    let (from, to) = (variant.len() + r#"{"":"#.len(), json.len() - 1);
    Bytes::from(json).slice(from..to)
}

/// The event that [`encode`] wrote, by its variant. An event is large, and each function that hands it on moves it.
/// (`cargo xtask bench store --only "replay memory"`.)
#[inline(always)]
pub(super) fn decode<E: DeserializeOwned>(variant: &str, data: &[u8]) -> serde_json::Result<E> {
    storing(|| E::deserialize(Tagged { variant, data }))
}

/// The event of a variant whose content was read already.
pub(super) fn decode_value<E: DeserializeOwned>(variant: &str, content: Value) -> serde_json::Result<E> {
    let tagged = Value::Object([(variant.to_owned(), content)].into_iter().collect());
    storing(|| serde_json::from_value(tagged))
}

/// The event cannot be written as a kind and data.
#[derive(Debug, thiserror::Error)]
pub enum EncodeError {
    /// The value does not fit JSON (a map whose keys are not strings, say), or a personal value in it came from outside.
    #[error("the event cannot be written as JSON")]
    Json(#[source] serde_json::Error),
    /// Only an externally tagged enum (serde's default) has a variant to name the kind after.
    #[error("an event must be an enum with serde's default tagging: its variants name the kinds")]
    NotAnEnum,
    /// A variant's serde name becomes the end of the kind.
    #[error("`{0}` cannot name a kind of event: no dot, quote, backslash or control character")]
    Name(&'static str),
    /// The enum still has a variant that its [`Event::EVOLUTION`](super::Event::EVOLUTION) calls renamed or retired.
    #[error("the kind `{0}` was renamed or retired by the evolution of its event and cannot be written")]
    Gone(String),
}

/// A stored event cannot be read as a variant of the event enum that was asked for.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    /// The enum has no such variant, or its content is another.
    #[error("the data of an event of kind `{kind}` do not fit its type")]
    Misfit {
        /// The kind of the event.
        kind: String,
        /// What did not fit, and where.
        #[source]
        source: serde_json::Error,
    },
    /// A newer program wrote it; this one must not guess what it means.
    #[error("an event of kind `{kind}` was written in version {schema} by a newer program, {known} is known")]
    Newer {
        /// The kind of the event.
        kind: String,
        /// The version that it was written in.
        schema: u16,
        /// The last version that this program knows.
        known: u16,
    },
    /// An upcaster does not take it.
    #[error("version {to} of the kind `{kind}` cannot be made from version {from}")]
    Upcast {
        /// The kind of the event.
        kind: String,
        /// The version that it had come to.
        from: u16,
        /// The version that was wanted.
        to: u16,
        /// What the upcaster said.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// Its kind is retired: it is to be passed over, not read.
    #[error("the kind `{kind}` is retired")]
    Retired {
        /// The kind of the event.
        kind: String,
    },
}

impl DecodeError {
    /// The kind of the event.
    pub fn kind(&self) -> &str {
        match self {
            Self::Misfit { kind, .. }
            | Self::Newer { kind, .. }
            | Self::Upcast { kind, .. }
            | Self::Retired { kind } => kind,
        }
    }
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
    use crate::message::evolved::Kind;

    fn decode<E: DeserializeOwned>(kind: &str, data: &[u8]) -> serde_json::Result<E> {
        super::decode(Kind::of(kind).variant, data)
    }

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
            let content = serde_json::from_slice(&data).unwrap();
            assert_eq!(decode_value::<Event>(kind.strip_prefix("thing.").unwrap(), content).unwrap(), event);
        }
    }

    #[derive(Serialize)]
    #[serde(tag = "type")]
    enum Tagged {
        Inside { n: u8 },
    }

    #[derive(Serialize)]
    struct Plain {
        a: u8,
    }

    #[derive(Serialize)]
    enum Dotted {
        #[serde(rename = "a.b")]
        Name,
    }

    #[test]
    fn what_is_not_an_enum_with_the_default_tagging_has_no_kind() {
        for value in [
            serde_json::json!({ "a": 1 }),
            serde_json::json!([1]),
            serde_json::json!(1),
            serde_json::json!("a"),
        ] {
            assert!(matches!(encode("x", &value), Err(EncodeError::NotAnEnum)), "{value}");
        }
        assert!(matches!(encode("x", &Tagged::Inside { n: 1 }), Err(EncodeError::NotAnEnum)));
        assert!(matches!(encode("x", &Plain { a: 1 }), Err(EncodeError::NotAnEnum)));
        assert!(matches!(encode("x", &Dotted::Name), Err(EncodeError::Name("a.b"))));
    }

    #[test]
    fn a_prefix_may_have_dots() {
        let (kind, data) = encode("shop.order", &Event::Pair(1, None)).unwrap();
        assert_eq!(
            (&*kind, decode::<Event>(&kind, &data).unwrap()),
            ("shop.order.pair", Event::Pair(1, None))
        );
    }

    #[test]
    fn data_that_do_not_fit_are_an_error() {
        for (kind, data) in
            [("thing.unit", "{}"), ("thing.new", "[1]"), ("thing.gone", "null"), ("thing.pair", "[1,true] x")]
        {
            assert!(decode::<Event>(kind, data.as_bytes()).is_err(), "{kind}");
        }
    }
}
