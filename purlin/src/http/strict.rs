//! Reads what derives `Deserialize` from objects alone.
//!
//! `Deserialize` as serde derives it takes a struct from an object or, for formats without names, from an array of its
//! fields in their order; and JSON's reader takes `{"name": null}` for a unit variant that is written `"name"`. An API
//! with such second spellings has them for ever, so they are refused here, at every depth.

use std::fmt;

use serde::de::value::{MapAccessDeserializer, StrDeserializer};
use serde::de::{
    DeserializeSeed, Deserializer, EnumAccess, Error, MapAccess, SeqAccess, VariantAccess, Visitor,
};

/// Puts itself around a deserializer, and around all that comes out of it: deserializers, visitors, accesses, seeds.
pub(super) struct Strict<T>(pub(super) T);

/// Hands methods without arguments of their own to the inner deserializer.
macro_rules! pass {
    ($($method:ident)*) => {
        $(fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, D::Error> {
            self.0.$method(Strict(visitor))
        })*
    };
}

impl<'de, D: Deserializer<'de>> Deserializer<'de> for Strict<D> {
    type Error = D::Error;

    pass! {
        deserialize_any deserialize_bool deserialize_i8 deserialize_i16 deserialize_i32 deserialize_i64
        deserialize_i128 deserialize_u8 deserialize_u16 deserialize_u32 deserialize_u64 deserialize_u128
        deserialize_f32 deserialize_f64 deserialize_char deserialize_str deserialize_string deserialize_bytes
        deserialize_byte_buf deserialize_option deserialize_unit deserialize_seq deserialize_map
        deserialize_identifier deserialize_ignored_any
    }

    fn deserialize_unit_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        self.0.deserialize_unit_struct(name, Strict(visitor))
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        self.0.deserialize_newtype_struct(name, Strict(visitor))
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, len: usize, visitor: V) -> Result<V::Value, D::Error> {
        self.0.deserialize_tuple(len, Strict(visitor))
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        len: usize,
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        self.0.deserialize_tuple_struct(name, len, Strict(visitor))
    }

    /// A struct is an object and nothing else.
    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        self.0.deserialize_map(Strict(visitor))
    }

    /// A variant is its name, or an object of its name and what it bears: which of them it is decides what it may be.
    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, D::Error> {
        self.0.deserialize_any(Variant(visitor))
    }

    fn is_human_readable(&self) -> bool {
        self.0.is_human_readable()
    }
}

/// Hands values that have no parts to the inner visitor.
macro_rules! give {
    ($($method:ident: $value:ty),*) => {
        $(fn $method<E: Error>(self, value: $value) -> Result<V::Value, E> {
            self.0.$method(value)
        })*
    };
}

impl<'de, V: Visitor<'de>> Visitor<'de> for Strict<V> {
    type Value = V::Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.expecting(f)
    }

    give! {
        visit_bool: bool, visit_i8: i8, visit_i16: i16, visit_i32: i32, visit_i64: i64, visit_i128: i128,
        visit_u8: u8, visit_u16: u16, visit_u32: u32, visit_u64: u64, visit_u128: u128, visit_f32: f32,
        visit_f64: f64, visit_char: char, visit_str: &str, visit_borrowed_str: &'de str, visit_string: String,
        visit_bytes: &[u8], visit_borrowed_bytes: &'de [u8], visit_byte_buf: Vec<u8>
    }

    fn visit_none<E: Error>(self) -> Result<V::Value, E> {
        self.0.visit_none()
    }

    fn visit_unit<E: Error>(self) -> Result<V::Value, E> {
        self.0.visit_unit()
    }

    fn visit_some<D: Deserializer<'de>>(self, value: D) -> Result<V::Value, D::Error> {
        self.0.visit_some(Strict(value))
    }

    fn visit_newtype_struct<D: Deserializer<'de>>(self, value: D) -> Result<V::Value, D::Error> {
        self.0.visit_newtype_struct(Strict(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, values: A) -> Result<V::Value, A::Error> {
        self.0.visit_seq(Strict(values))
    }

    fn visit_map<A: MapAccess<'de>>(self, entries: A) -> Result<V::Value, A::Error> {
        self.0.visit_map(Strict(entries))
    }
}

impl<'de, A: SeqAccess<'de>> SeqAccess<'de> for Strict<A> {
    type Error = A::Error;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, A::Error> {
        self.0.next_element_seed(Strict(seed))
    }

    fn size_hint(&self) -> Option<usize> {
        self.0.size_hint()
    }
}

impl<'de, A: MapAccess<'de>> MapAccess<'de> for Strict<A> {
    type Error = A::Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, A::Error> {
        self.0.next_key_seed(Strict(seed))
    }

    fn next_value_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<T::Value, A::Error> {
        self.0.next_value_seed(Strict(seed))
    }

    fn size_hint(&self) -> Option<usize> {
        self.0.size_hint()
    }
}

impl<'de, S: DeserializeSeed<'de>> DeserializeSeed<'de> for Strict<S> {
    type Value = S::Value;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<S::Value, D::Error> {
        self.0.deserialize(Strict(from))
    }
}

/// Takes a variant in the spelling that it has, for the visitor of its enum.
struct Variant<V>(V);

impl<'de, V: Visitor<'de>> Visitor<'de> for Variant<V> {
    type Value = V::Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.expecting(f)
    }

    fn visit_str<E: Error>(self, name: &str) -> Result<V::Value, E> {
        self.0.visit_enum(StrDeserializer::new(name))
    }

    fn visit_map<A: MapAccess<'de>>(self, entries: A) -> Result<V::Value, A::Error> {
        self.0.visit_enum(Bearing(MapAccessDeserializer::new(Strict(entries))))
    }
}

/// A variant that was written as an object: it bears something.
struct Bearing<A>(A);

impl<'de, A: EnumAccess<'de>> EnumAccess<'de> for Bearing<A> {
    type Error = A::Error;
    type Variant = Bearing<A::Variant>;

    fn variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<(S::Value, Self::Variant), A::Error> {
        let (name, variant) = self.0.variant_seed(seed)?;
        Ok((name, Bearing(variant)))
    }
}

impl<'de, A: VariantAccess<'de>> VariantAccess<'de> for Bearing<A> {
    type Error = A::Error;

    fn unit_variant(self) -> Result<(), A::Error> {
        Err(Error::custom("this one is written as a string"))
    }

    fn newtype_variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<S::Value, A::Error> {
        self.0.newtype_variant_seed(seed)
    }

    fn tuple_variant<V: Visitor<'de>>(self, len: usize, visitor: V) -> Result<V::Value, A::Error> {
        self.0.tuple_variant(len, visitor)
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, A::Error> {
        self.0.struct_variant(fields, visitor)
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, PartialEq, Deserialize)]
    struct Order {
        flow: Flow,
        lines: Vec<Line>,
        note: Option<Note>,
        size: (u8, u8),
    }

    #[derive(Debug, PartialEq, Deserialize)]
    struct Line {
        product: String,
        quantity: u16,
    }

    #[derive(Debug, PartialEq, Deserialize)]
    struct Note(String);

    #[derive(Debug, PartialEq, Deserialize)]
    #[serde(rename_all = "lowercase")]
    enum Flow {
        Plain,
        Timed(u32),
        Framed { line: Line },
    }

    fn read(json: &str) -> Result<Order, String> {
        let order = Order::deserialize(Strict(&mut serde_json::Deserializer::from_str(json)));
        order.map_err(|error| error.to_string())
    }

    fn order(flow: &str, line: &str) -> Result<Order, String> {
        read(&format!(r#"{{"flow": {flow}, "lines": [{line}], "note": "n", "size": [1, 2]}}"#))
    }

    const LINE: &str = r#"{"product": "p", "quantity": 1}"#;

    #[test]
    fn what_is_written_as_it_should_be_is_read() {
        let line = || Line { product: "p".into(), quantity: 1 };
        for (flow, read) in [
            (r#""plain""#.to_owned(), Flow::Plain),
            (r#"{"timed": 7}"#.to_owned(), Flow::Timed(7)),
            (format!(r#"{{"framed": {{"line": {LINE}}}}}"#), Flow::Framed { line: line() }),
        ] {
            let whole = Order { flow: read, lines: vec![line()], note: Some(Note("n".into())), size: (1, 2) };
            assert_eq!(order(&flow, LINE), Ok(whole), "{flow}");
        }
    }

    #[test]
    fn an_array_is_no_struct_at_any_depth() {
        let whole = format!(r#"["plain", [{LINE}], null, [1, 2]]"#);
        assert!(read(&whole).unwrap_err().contains("invalid type: sequence, expected struct Order"));
        let inner = order(r#""plain""#, r#"["p", 1]"#).unwrap_err();
        assert!(inner.contains("invalid type: sequence, expected struct Line"), "{inner}");
        assert!(order(r#"{"framed": {"line": ["p", 1]}}"#, LINE).is_err());
        assert!(order(r#"{"framed": [{"product": "p", "quantity": 1}]}"#, LINE).is_err());
    }

    #[test]
    fn a_variant_has_one_spelling() {
        for flow in
            [r#"{"plain": null}"#, r#"{"plain": {}}"#, r#""timed""#, r#"{"timed": 7, "plain": null}"#, "{}"]
        {
            assert!(order(flow, LINE).is_err(), "{flow}");
        }
    }
}
