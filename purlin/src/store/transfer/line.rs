//! The lines of an export, as JSON.

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;
use uuid::Uuid;

use crate::message::{Envelope, Meta, Tags, Timestamp, TraceContext};
use crate::store::{Collection, Field, LogId, Position, Record, Recorded, StreamId};

/// The format of the lines; a newer one is refused.
pub const FORMAT: u32 = 1;

/// The longest line that is read: the largest value, every byte of it escaped, and what stands beside it.
pub(super) const LONGEST: u64 = 16 << 20;

/// A line.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Line<'a> {
    Header(Header),
    #[serde(borrow)]
    Event(EventLine<'a>),
    #[serde(borrow)]
    Record(RecordLine<'a>),
    Trailer(Trailer),
}

/// The first line: which log this is, and how far it goes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    /// The format of the lines.
    pub format: u32,
    /// Which log.
    #[serde(flatten)]
    pub log: LogId,
    /// Its last position, and so the number of its events.
    pub head: Position,
    /// When it was written.
    pub at: Timestamp,
    /// The collections: each one's name, and its fields as `name:type`.
    pub collections: Vec<Defined>,
}

/// A collection's definition.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Defined {
    /// Its name.
    pub name: String,
    /// Its fields, as `name:type`.
    pub fields: Vec<String>,
}

/// The last line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Trailer {
    pub(super) events: u64,
    pub(super) records: u64,
    /// Of all bytes before this line, in hex.
    pub(super) sha256: String,
}

/// An event.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct EventLine<'a> {
    pub(super) position: Position,
    #[serde(borrow)]
    pub(super) stream: Cow<'a, str>,
    pub(super) version: u64,
    pub(super) id: Uuid,
    #[serde(borrow)]
    pub(super) kind: Cow<'a, str>,
    pub(super) schema: u16,
    pub(super) at: Timestamp,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(super) public: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    trace: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    correlation: Option<Uuid>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    causation: Option<Uuid>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    deadline: Option<Timestamp>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    tags: Vec<String>,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none", deserialize_with = "there")]
    data: Option<&'a RawValue>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    text: Option<Cow<'a, str>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    base64: Option<String>,
}

/// A record.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct RecordLine<'a> {
    #[serde(borrow)]
    pub(super) collection: Cow<'a, str>,
    #[serde(borrow)]
    pub(super) key: Cow<'a, str>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) due: Option<Timestamp>,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none", deserialize_with = "there")]
    data: Option<&'a RawValue>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    text: Option<Cow<'a, str>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    base64: Option<String>,
}

/// `null` is a value, too.
fn there<'de: 'a, 'a, D: Deserializer<'de>>(from: D) -> Result<Option<&'a RawValue>, D::Error> {
    <&RawValue>::deserialize(from).map(Some)
}

/// Bytes as a line shows them: JSON as it stands if it fits a line byte by byte, else as a text, else in base64.
#[derive(Default)]
struct Content<'a> {
    data: Option<&'a RawValue>,
    text: Option<Cow<'a, str>>,
    base64: Option<String>,
}

impl<'a> Content<'a> {
    fn of(bytes: &'a [u8]) -> Self {
        let json = serde_json::from_slice::<&RawValue>(bytes).ok();
        let json = json.filter(|json| json.get().len() == bytes.len() && !json.get().contains(['\n', '\r']));
        match (json, std::str::from_utf8(bytes)) {
            (Some(json), _) => Self { data: Some(json), ..Self::default() },
            (None, Ok(text)) => Self { text: Some(text.into()), ..Self::default() },
            (None, Err(_)) => Self { base64: Some(STANDARD.encode(bytes)), ..Self::default() },
        }
    }

    fn bytes(self) -> Result<Bytes, String> {
        match self {
            Self { data: Some(json), .. } => Ok(Bytes::copy_from_slice(json.get().as_bytes())),
            Self { text: Some(text), .. } => Ok(text.into_owned().into()),
            Self { base64: Some(text), .. } => match STANDARD.decode(text) {
                Ok(bytes) => Ok(bytes.into()),
                Err(error) => Err(format!("its base64 cannot be read: {error}")),
            },
            _ => Err("it has neither `data` nor `text` nor `base64`".to_owned()),
        }
    }
}

impl<'a> EventLine<'a> {
    pub(super) fn of(event: &'a Recorded) -> Self {
        let Envelope { id, kind, schema, public, meta, tags, data } = &event.envelope;
        let Content { data, text, base64 } = Content::of(data);
        Self {
            position: event.position,
            stream: event.stream.as_str().into(),
            version: event.version,
            id: *id,
            kind: (&**kind).into(),
            schema: *schema,
            at: event.at,
            public: *public,
            trace: meta.trace.map(|trace| trace.to_string()),
            correlation: meta.correlation,
            causation: meta.causation,
            deadline: meta.deadline,
            tags: tags.iter().map(str::to_owned).collect(),
            data,
            text,
            base64,
        }
    }

    /// The event that the line shows.
    pub(super) fn read(self) -> Result<Recorded, String> {
        let trace = match &self.trace {
            None => None,
            Some(text) => Some(trace(text).ok_or_else(|| format!("`{text}` is no trace"))?),
        };
        let Self { correlation, causation, deadline, data, text, base64, .. } = self;
        Ok(Recorded {
            position: self.position,
            stream: StreamId::parse(&*self.stream).map_err(|error| format!("`{}`: {error}", self.stream))?,
            version: self.version,
            at: self.at,
            envelope: Envelope {
                id: self.id,
                kind: (&*self.kind).into(),
                schema: self.schema,
                public: self.public,
                meta: Meta { trace, correlation, causation, deadline },
                tags: Tags::new(self.tags),
                data: Content { data, text, base64 }.bytes()?,
            },
        })
    }
}

impl<'a> RecordLine<'a> {
    pub(super) fn of(collection: &'a str, record: &'a Record) -> Self {
        let Content { data, text, base64 } = Content::of(&record.value);
        let (collection, key) = (collection.into(), record.key.as_str().into());
        Self { collection, key, due: record.due, data, text, base64 }
    }

    /// The record's value.
    pub(super) fn value(&mut self) -> Result<Box<RawValue>, String> {
        let (data, text, base64) = (self.data.take(), self.text.take(), self.base64.take());
        let bytes = Content { data, text, base64 }.bytes()?;
        serde_json::from_slice(&bytes).map_err(|error| format!("its value is no JSON: {error}"))
    }
}

impl Defined {
    pub(super) fn of(collection: &Collection) -> Self {
        let fields = collection.fields.iter().map(Field::to_string).collect();
        Self { name: collection.name.to_string(), fields }
    }

    /// The collection; a name of a field that `known` does not have is kept for the life of the program.
    pub(super) fn read(&self, known: &[Collection]) -> Result<Collection, String> {
        let known: Vec<&Field> = known.iter().flat_map(|collection| collection.fields.iter()).collect();
        let field = |text: &String| {
            let unknown = || format!("the collection `{}` has a field `{text}` of no known type", self.name);
            Field::parse(text, &known).ok_or_else(unknown)
        };
        let fields = self.fields.iter().map(field).collect::<Result<Vec<Field>, _>>()?;
        Ok(Collection { name: self.name.clone().into(), fields: fields.into() })
    }
}

/// A trace with whatever flags it had.
fn trace(text: &str) -> Option<TraceContext> {
    let mut parts = text.split('-').skip(1);
    Some(TraceContext {
        trace_id: u128::from_str_radix(parts.next()?, 16).ok()?,
        span_id: u64::from_str_radix(parts.next()?, 16).ok()?,
        flags: u8::from_str_radix(parts.next()?, 16).ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_event_holds_comes_back_byte_by_byte() {
        let pretty = "{\n  \"a\": [1, 2.50, 1e999]\r\n}";
        let bytes: [&[u8]; 8] =
            [b"{\"a\" : 1}", b"null", b" 1", pretty.as_bytes(), b"no json", b"\"\xff\"", b"", b"\"\\u0000\""];
        for data in bytes {
            let tagged = Envelope::raw("a\"b", data.to_vec()).tagged(["x", "y"]);
            let meta = Meta {
                trace: Some(TraceContext { trace_id: 7, span_id: 0, flags: 3 }),
                correlation: Some(tagged.id),
                causation: None,
                deadline: Timestamp::from_microsecond(1_700_000_060_000_001).ok(),
            };
            let event = Recorded {
                position: Position(7),
                stream: StreamId::new("order", "ключ").unwrap(),
                version: 3,
                at: Timestamp::from_microsecond(1_700_000_000_123_456).unwrap(),
                envelope: Envelope { meta, public: true, schema: 9, ..tagged },
            };
            let line = serde_json::to_string(&Line::Event(EventLine::of(&event))).unwrap();
            assert!(!line.contains('\n'), "{line}");
            let Ok(Line::Event(read)) = serde_json::from_str(&line) else { panic!("{line}") };
            assert_eq!(read.read().unwrap(), event);
        }
    }
}
