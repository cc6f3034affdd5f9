//! The record of a key.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde::de::{Deserialize, Deserializer};
use serde::{Serialize, Serializer};
use uuid::Uuid;

use crate::message::Timestamp;
use crate::store::Row;
use crate::store::personal::Personal;

/// What is remembered of a key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, serde::Deserialize)]
pub(super) struct Entry {
    /// A keyed hash of the request that the key stands for.
    pub(super) fingerprint: String,
    /// When that request first came; its ids derive from this.
    pub(super) started_at: Timestamp,
    pub(super) state: State,
}

impl Row for Entry {
    const COLLECTION: &'static str = "purlin_idempotency";
}

/// What has become of the request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum State {
    /// Somebody works on it.
    Running(Lease),
    /// It came to nothing that binds: anyone may work on it.
    Free,
    /// It is decided.
    Answered(Answer),
    /// Somebody takes it back: its answer, if it had one.
    Undoing { lease: Lease, answer: Option<Answer> },
    /// It is taken back, or was forbidden before it came; it will never be done.
    Undone(Answer),
}

/// Who works on it, and until when nobody else may.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, serde::Deserialize)]
pub(super) struct Lease {
    pub(super) until: Timestamp,
    pub(super) holder: Uuid,
}

/// An answer that is given again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, serde::Deserialize)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) headers: Vec<(String, String)>,
    /// Perhaps about somebody who may be forgotten.
    pub(super) body: Personal<Content>,
}

impl Answer {
    /// An answer that is about nobody.
    pub(super) fn new(status: u16, headers: Vec<(String, String)>, body: Bytes) -> Self {
        Self { status, headers, body: Personal::bare(Content(body)) }
    }

    /// Its body; empty when whom it is about is forgotten.
    pub(super) fn body(&self) -> Bytes {
        self.body.get().map(|content| content.0.clone()).unwrap_or_default()
    }

    /// Whether it tells of an effect.
    pub(super) fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }
}

/// Bytes, kept as text where they are text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Content(pub(super) Bytes);

impl Serialize for Content {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match std::str::from_utf8(&self.0) {
            Ok(text) => to.serialize_str(&format!("t{text}")),
            Err(_) => to.serialize_str(&format!("b{}", STANDARD.encode(&self.0))),
        }
    }
}

impl<'de> Deserialize<'de> for Content {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        if let Some(text) = text.strip_prefix('t') {
            return Ok(Self(Bytes::copy_from_slice(text.as_bytes())));
        }
        let coded = text.strip_prefix('b').and_then(|coded| STANDARD.decode(coded).ok());
        coded.map(|bytes| Self(bytes.into())).ok_or_else(|| serde::de::Error::custom(NotContent))
    }
}

struct NotContent;

impl fmt::Display for NotContent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an answer's body is `t` and text, or `b` and base64")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_is_read_back_byte_by_byte() {
        for body in [&b""[..], b"{\"a\": 1.0}", b"\xff\x00t", "b\u{20ac}\n".as_bytes()] {
            let content = Content(Bytes::copy_from_slice(body));
            let json = serde_json::to_string(&content).unwrap();
            assert_eq!(serde_json::from_str::<Content>(&json).unwrap(), content);
        }
        assert!(serde_json::from_str::<Content>("\"\"").is_err());
    }
}
