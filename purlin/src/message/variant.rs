//! Finds the name of an enum's variant, and refuses what is not an enum with serde's default tagging.

use std::fmt::{self, Display};

use serde::ser::{Impossible, Serialize, SerializeStructVariant, SerializeTupleVariant, Serializer};

/// A serializer that writes nothing; its answer is the variant's serde name.
pub(super) struct VariantName;

/// The value is not a variant of an externally tagged enum.
#[derive(Debug)]
pub(super) struct NotAVariant;

impl Display for NotAVariant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("not a variant of an enum")
    }
}

impl std::error::Error for NotAVariant {}

impl serde::ser::Error for NotAVariant {
    fn custom<T: Display>(_: T) -> Self {
        Self
    }
}

type Name = Result<&'static str, NotAVariant>;
type Never = Impossible<&'static str, NotAVariant>;

/// A variant with several fields, which are passed over.
pub(super) struct Fields(&'static str);

impl SerializeTupleVariant for Fields {
    type Ok = &'static str;
    type Error = NotAVariant;

    fn serialize_field<T: Serialize + ?Sized>(&mut self, _: &T) -> Result<(), NotAVariant> {
        Ok(())
    }

    fn end(self) -> Name {
        Ok(self.0)
    }
}

impl SerializeStructVariant for Fields {
    type Ok = &'static str;
    type Error = NotAVariant;

    fn serialize_field<T: Serialize + ?Sized>(&mut self, _: &'static str, _: &T) -> Result<(), NotAVariant> {
        Ok(())
    }

    fn end(self) -> Name {
        Ok(self.0)
    }
}

/// The methods for values that have no variant.
macro_rules! refuse {
    ($($method:ident: $value:ty),*) => {
        $(fn $method(self, _: $value) -> Name {
            Err(NotAVariant)
        })*
    };
}

impl Serializer for VariantName {
    type Ok = &'static str;
    type Error = NotAVariant;
    type SerializeSeq = Never;
    type SerializeTuple = Never;
    type SerializeTupleStruct = Never;
    type SerializeTupleVariant = Fields;
    type SerializeMap = Never;
    type SerializeStruct = Never;
    type SerializeStructVariant = Fields;

    refuse! {
        serialize_bool: bool, serialize_i8: i8, serialize_i16: i16, serialize_i32: i32, serialize_i64: i64,
        serialize_u8: u8, serialize_u16: u16, serialize_u32: u32, serialize_u64: u64, serialize_f32: f32,
        serialize_f64: f64, serialize_char: char, serialize_str: &str, serialize_bytes: &[u8],
        serialize_unit_struct: &'static str
    }

    fn serialize_none(self) -> Name {
        Err(NotAVariant)
    }

    fn serialize_some<T: Serialize + ?Sized>(self, _: &T) -> Name {
        Err(NotAVariant)
    }

    fn serialize_unit(self) -> Name {
        Err(NotAVariant)
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(self, _: &'static str, value: &T) -> Name {
        value.serialize(self)
    }

    fn serialize_unit_variant(self, _: &'static str, _: u32, variant: &'static str) -> Name {
        Ok(variant)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        _: &T,
    ) -> Name {
        Ok(variant)
    }

    fn serialize_tuple_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        _: usize,
    ) -> Result<Fields, NotAVariant> {
        Ok(Fields(variant))
    }

    fn serialize_struct_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        _: usize,
    ) -> Result<Fields, NotAVariant> {
        Ok(Fields(variant))
    }

    fn serialize_seq(self, _: Option<usize>) -> Result<Never, NotAVariant> {
        Err(NotAVariant)
    }

    fn serialize_tuple(self, _: usize) -> Result<Never, NotAVariant> {
        Err(NotAVariant)
    }

    fn serialize_tuple_struct(self, _: &'static str, _: usize) -> Result<Never, NotAVariant> {
        Err(NotAVariant)
    }

    fn serialize_map(self, _: Option<usize>) -> Result<Never, NotAVariant> {
        Err(NotAVariant)
    }

    fn serialize_struct(self, _: &'static str, _: usize) -> Result<Never, NotAVariant> {
        Err(NotAVariant)
    }
}
