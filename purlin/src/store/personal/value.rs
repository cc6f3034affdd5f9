//! A field that is about somebody.

use std::fmt;

use serde::de::{DeserializeOwned, Error as _};
use serde::ser::{Error as _, SerializeMap};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;

use crate::message::is_storing;

use super::Subject;
use super::marker::{self, Body};

/// A value that is about a subject: readable as long as the subject is not forgotten.
///
/// A field of an event, of an aggregate's state or of a row. A store seals it under the subject's key wherever it
/// writes it, and opens it wherever it reads it. Its `Debug` does not show the value.
#[derive(Clone)]
pub struct Personal<T>(Inner<T>);

#[derive(Clone)]
enum Inner<T> {
    /// Written before the field was personal, or about nobody; `outside`: it is from neither a store nor
    /// [`Personal::bare`], and nobody has said whom it is about.
    Bare {
        value: T,
        outside: bool,
    },
    /// `stored`: it was read from a store, so that it may be forgotten by the time it is written again.
    Open {
        subject: Subject,
        value: T,
        stored: bool,
    },
    /// `at`: the place in the store that it was read from.
    Sealed {
        subject: Subject,
        text: Box<str>,
        at: Option<Box<str>>,
    },
    Forgotten(Subject),
}

/// What can be known of a [`Personal`] value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PersonalState {
    /// The value is there, and a store seals it.
    Open,
    /// The value is there, but stands in plain where it was read: it was written before the field was personal.
    /// Forgetting its subject does not reach it.
    Bare,
    /// The value is there for those alone who have the subject's key: not for who reads it from the bus. It can be
    /// written again where it was read, and nowhere else.
    Sealed,
    /// The value is gone.
    Forgotten,
}

impl<T> Personal<T> {
    /// A value about a subject.
    pub fn new(subject: &Subject, value: T) -> Self {
        Self(Inner::Open { subject: subject.clone(), value, stored: false })
    }

    /// A value that is about nobody, and is written in plain: for fields that are personal only at times.
    pub fn bare(value: T) -> Self {
        Self(Inner::Bare { value, outside: false })
    }

    /// The value; none when it is forgotten, or sealed for who has no key.
    pub fn get(&self) -> Option<&T> {
        match &self.0 {
            Inner::Bare { value, .. } | Inner::Open { value, .. } => Some(value),
            Inner::Sealed { .. } | Inner::Forgotten(_) => None,
        }
    }

    /// The value itself; none when it is forgotten, or sealed for who has no key.
    pub fn into_value(self) -> Option<T> {
        match self.0 {
            Inner::Bare { value, .. } | Inner::Open { value, .. } => Some(value),
            Inner::Sealed { .. } | Inner::Forgotten(_) => None,
        }
    }

    /// Whom the value is about; nobody is known when it is [`PersonalState::Bare`].
    pub fn subject(&self) -> Option<&Subject> {
        match &self.0 {
            Inner::Bare { .. } => None,
            Inner::Open { subject, .. } | Inner::Sealed { subject, .. } | Inner::Forgotten(subject) => {
                Some(subject)
            }
        }
    }

    /// Whether it can be read, and if not, why.
    pub fn state(&self) -> PersonalState {
        match &self.0 {
            Inner::Bare { .. } => PersonalState::Bare,
            Inner::Open { .. } => PersonalState::Open,
            Inner::Sealed { .. } => PersonalState::Sealed,
            Inner::Forgotten(_) => PersonalState::Forgotten,
        }
    }

    /// What follows from the value, about the same subject. A value that was read from a store, and what follows from
    /// it, is written as forgotten when its subject was forgotten meanwhile; a new one would be refused. What cannot
    /// be read becomes forgotten.
    pub fn map<U>(self, f: impl FnOnce(T) -> U) -> Personal<U> {
        Personal(match self.0 {
            Inner::Bare { value, outside } => Inner::Bare { value: f(value), outside },
            Inner::Open { subject, value, stored } => Inner::Open { subject, value: f(value), stored },
            Inner::Sealed { subject, .. } | Inner::Forgotten(subject) => Inner::Forgotten(subject),
        })
    }
}

/// Two are equal that say the same about the same subject, wherever they come from.
impl<T: PartialEq> PartialEq for Personal<T> {
    fn eq(&self, other: &Self) -> bool {
        match (&self.0, &other.0) {
            (Inner::Sealed { subject, text, .. }, Inner::Sealed { subject: of_other, text: other, .. }) => {
                (subject, text) == (of_other, other)
            }
            _ => (self.state(), self.subject(), self.get()) == (other.state(), other.subject(), other.get()),
        }
    }
}

impl<T: Eq> Eq for Personal<T> {}

impl<T> fmt::Debug for Personal<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let of = self.subject().map_or("nobody known", Subject::as_str);
        write!(f, "Personal({:?}, of {of})", self.state())
    }
}

/// As it stands in memory; only for a store. An answer, a line of a log, or JSON that somebody makes himself would show
/// what is personal, and how it is told from other data: it is refused.
impl<T: Serialize> Serialize for Personal<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if !is_storing() {
            return Err(S::Error::custom(
                "a personal value is written into a store alone, as a part of an event (`Envelope::new`) or a row \
                 (`Commit::put`): anywhere else write what its `get` gives",
            ));
        }
        let body = match &self.0 {
            Inner::Bare { outside: true, .. } => {
                return Err(S::Error::custom(
                    "a personal value came from outside, and does not say whom it is about: make it with \
                     `Personal::new`, or with `Personal::bare` if it is to stand in plain",
                ));
            }
            Inner::Bare { value, .. } => return value.serialize(serializer),
            Inner::Open { subject, value, stored } => {
                let text = serde_json::to_string(value).map_err(S::Error::custom)?;
                Body { plain: Some(text.into()), stored: *stored, ..of(subject) }
            }
            Inner::Sealed { subject, text, at } => {
                Body { sealed: Some((&**text).into()), at: at.as_deref().map(Into::into), ..of(subject) }
            }
            Inner::Forgotten(subject) => Body { forgotten: true, ..of(subject) },
        };
        let mut map = serializer.serialize_map(Some(1))?;
        map.serialize_entry(marker::in_memory(), &body)?;
        map.end()
    }
}

fn of(subject: &Subject) -> Body<'_> {
    Body { of: subject.as_str().into(), ..Body::default() }
}

/// From memory, sealed from the bus, or bare. What is bare and does not come from a store (a request's body) can be read,
/// and not be written.
impl<'de, T: DeserializeOwned> Deserialize<'de> for Personal<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = Value::deserialize(deserializer)?;
        let marked = value.as_object().filter(|members| members.len() == 1).and_then(|members| {
            let of = |name| members.get(name).and_then(|body| Body::deserialize(body).ok());
            // What is at rest is sealed: a value in plain has come through a store of this process.
            let at_rest = || of(marker::AT_REST).filter(|body| body.plain.is_none() && body.at.is_none());
            of(marker::in_memory()).or_else(at_rest)
        });
        let Some(body) = marked else {
            let value = serde_json::from_value(value).map_err(misfit::<T, D::Error>)?;
            return Ok(Self(Inner::Bare { value, outside: !is_storing() }));
        };
        let subject = Subject::new(&body.of).map_err(D::Error::custom)?;
        Ok(Self(match body {
            Body { plain: Some(text), stored, .. } => {
                let value = serde_json::from_str(&text).map_err(misfit::<T, D::Error>)?;
                Inner::Open { subject, value, stored }
            }
            Body { sealed: Some(text), at, .. } => {
                Inner::Sealed { subject, text: text.into(), at: at.map(Into::into) }
            }
            _ => Inner::Forgotten(subject),
        }))
    }
}

/// A value that is not of its type. What it is goes into no log and no record of what failed; who has just sent it
/// knows it.
#[cold]
fn misfit<T, E: serde::de::Error>(error: serde_json::Error) -> E {
    match is_storing() {
        true => E::custom(format!("a personal value does not fit its type `{}`", std::any::type_name::<T>())),
        false => E::custom(error),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::message::storing;

    fn ada() -> Subject {
        Subject::new("user-ada").unwrap()
    }

    #[test]
    fn a_value_does_not_show_where_things_are_printed() {
        let name = Personal::new(&ada(), "Ada Lovelace");
        assert_eq!(format!("{name:?}"), "Personal(Open, of user-ada)");
    }

    #[test]
    fn what_was_written_before_a_field_was_personal_is_read() {
        let name: Personal<String> = storing(|| serde_json::from_value(json!("Ada"))).unwrap();
        assert_eq!((name.get().map(String::as_str), name.state()), (Some("Ada"), PersonalState::Bare));
        assert_eq!(storing(|| serde_json::to_value(&name)).unwrap(), json!("Ada"));
        let list: Personal<Vec<(u8, Option<String>)>> = serde_json::from_str("[[1,null]]").unwrap();
        assert_eq!(list.get(), Some(&vec![(1, None)]));
        assert!(serde_json::from_value::<Personal<String>>(json!(1)).is_err());
    }

    #[test]
    fn a_value_that_does_not_fit_is_not_told() {
        let name = storing(|| serde_json::to_string(&Personal::new(&ada(), "Ada Lovelace"))).unwrap();
        for wrong in [
            storing(|| serde_json::from_str::<Personal<u8>>(&name)).unwrap_err(),
            storing(|| serde_json::from_str::<Personal<u8>>("\"Ada Lovelace\"")).unwrap_err(),
        ] {
            let told = wrong.to_string();
            assert!(told.contains("does not fit its type") && !told.contains("Ada"), "{told}");
        }
    }

    #[test]
    fn any_value_is_read_back_also_from_within_an_enum_that_buffers() {
        #[derive(Debug, PartialEq, Serialize, Deserialize)]
        #[serde(tag = "type")]
        enum Event {
            Named { name: Personal<(String, u128, f64)>, other: Option<Personal<u8>> },
        }
        let name = Personal::new(&ada(), ("A\"\\\u{1}".to_owned(), u128::MAX, 0.1));
        let event = Event::Named { name, other: None };
        let text = storing(|| serde_json::to_string(&event)).unwrap();
        assert_eq!(serde_json::from_str::<Event>(&text).unwrap(), event);
    }

    #[test]
    fn a_value_is_written_into_a_store_alone() {
        let sealed = json!({ "$personal": { "of": "user-bob", "sealed": "AAAA" } });
        let sealed: Personal<String> = serde_json::from_value(sealed).unwrap();
        for name in [Personal::new(&ada(), "Ada".to_owned()), Personal::bare("Ada".to_owned()), sealed] {
            let refused = serde_json::to_string(&name).unwrap_err().to_string();
            assert!(refused.contains("what its `get` gives") && !refused.contains("Ada"), "{refused}");
            storing(|| serde_json::to_string(&name)).unwrap();
        }
        let unwound = std::panic::catch_unwind(|| storing(|| panic!("within")));
        assert!(unwound.is_err() && !is_storing(), "also behind a panic");
    }

    #[test]
    fn a_value_from_outside_is_not_written_before_it_is_said_whom_it_is_about() {
        let name: Personal<String> = serde_json::from_value(json!("Ada")).unwrap();
        let name = name.map(|name| name.to_uppercase());
        let refused = storing(|| serde_json::to_string(&name)).unwrap_err().to_string();
        assert!(refused.contains("does not say whom it is about"), "{refused}");
        let bare = Personal::bare(name.into_value().unwrap());
        assert_eq!(storing(|| serde_json::to_value(&bare)).unwrap(), json!("ADA"));
    }

    #[test]
    fn nobody_outside_can_write_a_value_that_is_taken_for_an_open_one() {
        for forged in [
            json!({ "$personal": { "of": "user-bob", "plain": "\"Bob\"" } }),
            json!({ "$personal:0": { "of": "user-bob", "plain": "\"Bob\"" } }),
        ] {
            assert!(serde_json::from_value::<Personal<String>>(forged).is_err());
        }
        let sealed = json!({ "$personal": { "of": "user-bob", "sealed": "AAAA" } });
        let sealed: Personal<String> = serde_json::from_value(sealed).unwrap();
        assert_eq!((sealed.get(), sealed.state()), (None, PersonalState::Sealed));
    }
}
