//! Whether the names in an event enum's evolution are names that it has or had.

use serde::de::{Deserializer, Visitor, value::Error as AnyError};

use super::{Event, Evolved};

/// An evolution names a kind that is no variant, and that nothing in it was made of: a misspelling, most likely.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the evolution of an event names `{name}`, which is none of its variants: {variants:?}")]
pub struct UnknownName {
    /// The name.
    pub name: &'static str,
    /// The names that there are.
    pub variants: &'static [&'static str],
}

/// Refuses an [`Event::EVOLUTION`] whose versions or new names are of kinds that the enum does not have.
///
/// A [`Repository`](crate::aggregate::Repository) asks this once, before it loads anything. For an enum that only
/// projections or handlers read, a test does well to ask.
///
/// ```
/// use purlin::message::{Event, Evolved, check_names};
///
/// #[derive(serde::Deserialize)]
/// enum OrderEvent { Created }
/// impl Event for OrderEvent {
///     const EVOLUTION: &'static [Evolved] = &[Evolved::version("Craeted", 2, Ok)];
/// }
/// assert_eq!(check_names::<OrderEvent>().unwrap_err().name, "Craeted");
/// ```
pub fn check_names<E: Event>() -> Result<(), UnknownName> {
    let mut variants = None;
    // It ends in an error in any case: there is nothing to deserialize.
    let _ = E::deserialize(Ask(&mut variants));
    // An enum that reads itself by code of its own need not tell.
    let Some(variants) = variants else { return Ok(()) };
    let known = |name: &str| {
        variants.contains(&name) || E::EVOLUTION.iter().any(|past| past.is_gone() && past.variant() == name)
    };
    let named = |evolved: &Evolved| evolved.new_name().unwrap_or(evolved.variant());
    let mut names = E::EVOLUTION.iter().filter(|evolved| evolved.new_name().is_some() || !evolved.is_gone());
    match names.find(|evolved| !known(named(evolved))) {
        Some(evolved) => Err(UnknownName { name: named(evolved), variants }),
        None => Ok(()),
    }
}

/// A deserializer that has nothing, and only hears which variants there are.
struct Ask<'a>(&'a mut Option<&'static [&'static str]>);

impl<'de> Deserializer<'de> for Ask<'_> {
    type Error = AnyError;

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, AnyError> {
        Err(serde::de::Error::custom("there is nothing"))
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, AnyError> {
        *self.0 = Some(variants);
        self.deserialize_any(visitor)
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit
        unit_struct newtype_struct seq tuple tuple_struct map struct identifier ignored_any
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Deserialize)]
    #[serde(rename_all = "kebab-case")]
    enum Good {
        ItemAdded,
    }

    impl Event for Good {
        const EVOLUTION: &'static [Evolved] = &[
            Evolved::version("basket.put", 2, Ok),
            Evolved::renamed("basket.put", "laid"),
            Evolved::renamed("laid", "item-added"),
            Evolved::version("item-added", 3, Ok),
            Evolved::retired("touched"),
        ];
    }

    #[derive(Deserialize)]
    enum Wrong {
        ItemAdded,
    }

    impl Event for Wrong {
        const EVOLUTION: &'static [Evolved] = &[Evolved::renamed("laid", "item-added")];
    }

    #[test]
    fn a_name_is_a_variant_or_one_of_the_past() {
        assert_eq!(check_names::<Good>(), Ok(()));
        assert_eq!(check_names::<Wrong>(), Err(UnknownName { name: "item-added", variants: &["ItemAdded"] }));
    }
}
