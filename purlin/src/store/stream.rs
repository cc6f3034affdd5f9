//! Streams of the log: their names, what an append expects of them, an event as it stands there.

use std::fmt;

use crate::message::{Envelope, Timestamp};

use super::Position;
use super::name::Name;

/// A stream's name: a category and a key, written `category-key`.
///
/// One of up to 46 bytes is copied as a number is, without memory of its own.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamId(Name);

impl StreamId {
    /// The longest name, in bytes.
    pub const MAX_LEN: usize = 255;

    /// The stream of one thing (`key`) of a kind (`category`: letters, digits, `_` and `.`).
    pub fn new(category: &str, key: impl fmt::Display) -> Result<Self, StreamIdError> {
        // `parse` would take what stands behind a dash for a part of the key.
        if category.contains('-') {
            return Err(StreamIdError::Category);
        }
        Self::parse(format!("{category}-{key}"))
    }

    /// Reads a name that was written `category-key`.
    pub fn parse(name: impl AsRef<str>) -> Result<Self, StreamIdError> {
        let name = name.as_ref();
        let category = name.bytes().position(|byte| byte == b'-').ok_or(StreamIdError::NoKey)?;
        if !is_category(&name[..category]) {
            return Err(StreamIdError::Category);
        }
        if name.len() == category + 1 {
            return Err(StreamIdError::NoKey);
        }
        if name.len() > Self::MAX_LEN {
            return Err(StreamIdError::TooLong(name.len()));
        }
        if has_control(name) {
            return Err(StreamIdError::Control);
        }
        Ok(Self(Name::new(name)))
    }

    /// The whole name.
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }

    /// The part before the first dash.
    pub fn category(&self) -> &str {
        self.parts().0
    }

    /// The part behind the first dash.
    pub fn key(&self) -> &str {
        self.parts().1
    }

    /// Whether a name is so long that clones of the value share it.
    #[inline]
    pub(super) fn is_shared(name: &str) -> bool {
        name.len() > Name::SHORT
    }

    fn parts(&self) -> (&str, &str) {
        self.as_str().split_once('-').expect("it was looked for when the name was made")
    }

    /// Whose it is, if it is a tenant's ([`Store::tenant`](super::Store::tenant)) and seen from outside.
    pub fn tenant(&self) -> Option<&str> {
        super::tenant::split(self.key()).map(|(tenant, _)| tenant)
    }
}

/// Whether there is a control character. Every event that is read has a name that is asked this: all bytes are looked
/// at, because that way the compiler looks at many at once. (`cargo xtask bench store --only replay`.)
fn has_control(name: &str) -> bool {
    let is_plain = name.bytes().fold(true, |plain, byte| plain & matches!(byte, b' '..=b'~'));
    !is_plain && name.chars().any(char::is_control)
}

/// Whether streams can have this category.
pub(super) fn is_category(text: &str) -> bool {
    let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_' || b == b'.';
    !text.is_empty() && text.bytes().all(word)
}

impl fmt::Display for StreamId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for StreamId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "StreamId({self})")
    }
}

/// The text cannot name a stream.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StreamIdError {
    /// A category is letters, digits, `_` and `.`.
    #[error("a stream's category must be letters, digits, `_` and `.`, and not empty")]
    Category,
    /// `category-key` has two parts.
    #[error("a stream's name needs a key behind the dash: `category-key`")]
    NoKey,
    /// Names are at most [`StreamId::MAX_LEN`] bytes long.
    #[error("a stream's name of {0} bytes is longer than {max}", max = StreamId::MAX_LEN)]
    TooLong(usize),
    /// Control characters would break logs and terminals.
    #[error("a stream's name must not have control characters")]
    Control,
}

/// What an append expects of its stream. Versions count a stream's events: the first event has version 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expected {
    /// Whatever is there.
    Any,
    /// The stream has no event yet.
    NoStream,
    /// The stream's last event has this version (0: as [`Expected::NoStream`]).
    Version(u64),
}

impl Expected {
    /// Whether a stream whose last version is `actual` is as expected.
    pub fn admits(self, actual: u64) -> bool {
        match self {
            Self::Any => true,
            Self::NoStream => actual == 0,
            Self::Version(version) => actual == version,
        }
    }
}

/// An event as it stands in the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recorded {
    /// Its place in the log.
    pub position: Position,
    /// The stream it belongs to.
    pub stream: StreamId,
    /// Its place in the stream, from 1.
    pub version: u64,
    /// When it was committed; never before an earlier event of the log.
    pub at: Timestamp,
    /// What was appended.
    pub envelope: Envelope,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_a_category_and_a_key() {
        let stream = StreamId::new("shop.order", "a-b").unwrap();
        assert_eq!(
            (stream.as_str(), stream.category(), stream.key()),
            ("shop.order-a-b", "shop.order", "a-b")
        );
        assert_eq!(
            StreamId::new("cart-item", 7),
            Err(StreamIdError::Category),
            "it would be item-7 of `cart`"
        );
        for bad in ["", "order", "order-", "-a", "or der-a", "order-a\nb"] {
            assert!(StreamId::parse(bad).is_err(), "{bad:?}");
        }
        assert!(matches!(StreamId::new("x", "y".repeat(300)), Err(StreamIdError::TooLong(302))));
    }
}
