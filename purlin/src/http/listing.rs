//! Lists, a page at a time.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::StatusCode;
use serde::Serialize;
use serde::de::{Deserialize, Deserializer, Visitor};

use super::Problem;

/// A page of a list: `{"items": [...], "next": cursor|null}`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Listing<T> {
    /// The page.
    pub items: Vec<T>,
    /// Where the next page begins; none when this is the last.
    pub next: Option<String>,
}

/// How many items a page has at most: 1 to 100, 50 unless said; more is taken as 100.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limit(usize);

impl Limit {
    const MAX: usize = 100;

    /// The number.
    pub fn get(self) -> usize {
        self.0
    }
}

impl Default for Limit {
    fn default() -> Self {
        Self(50)
    }
}

impl<'de> Deserialize<'de> for Limit {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_str(Digits)
    }
}

struct Digits;

impl Visitor<'_> for Digits {
    type Value = Limit;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a whole number from 1 on")
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Limit, E> {
        let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        // More digits than a number holds are more than the most.
        match digits.then(|| text.parse().unwrap_or(usize::MAX)) {
            None | Some(0) => Err(E::custom(format_args!("`{text}` is not a whole number from 1 on"))),
            Some(limit) => Ok(Limit(limit.min(Limit::MAX))),
        }
    }

    fn visit_u64<E: serde::de::Error>(self, limit: u64) -> Result<Limit, E> {
        self.visit_str(&limit.to_string())
    }
}

/// Writes and reads the cursors of one list: opaque, and refused by every other list.
///
/// ```
/// use purlin::http::Cursors;
///
/// const ORDERS: Cursors = Cursors::of("orders");
/// let cursor = ORDERS.write("019a-4711");
/// assert_eq!(ORDERS.read(&cursor).unwrap(), "019a-4711");
/// assert_eq!(Cursors::of("products").read(&cursor).unwrap_err().status, 400);
/// ```
#[derive(Debug, Clone, Copy)]
pub struct Cursors {
    list: &'static str,
}

impl Cursors {
    /// The cursors of the list of this name.
    pub const fn of(list: &'static str) -> Self {
        Self { list }
    }

    /// The cursor behind a key.
    pub fn write(&self, key: &str) -> String {
        let mut bytes = self.seal(key).to_vec();
        bytes.extend_from_slice(key.as_bytes());
        URL_SAFE_NO_PAD.encode(bytes)
    }

    /// The key that a cursor stands behind.
    pub fn read(&self, cursor: &str) -> Result<String, Problem> {
        let refused = || {
            Problem::new(StatusCode::BAD_REQUEST, "invalid-cursor")
                .detail("the cursor was not given out by this list: begin without one")
                .with("field", "cursor")
        };
        let mut seal = URL_SAFE_NO_PAD.decode(cursor).map_err(|_| refused())?;
        let key = seal.split_off(seal.len().min(SEAL));
        let key = String::from_utf8(key).map_err(|_| refused())?;
        if seal == self.seal(&key) { Ok(key) } else { Err(refused()) }
    }

    /// The key that the cursor of a request stands behind, if there is one.
    pub fn read_optional(&self, cursor: Option<&str>) -> Result<Option<String>, Problem> {
        cursor.map(|cursor| self.read(cursor)).transpose()
    }

    /// Tells our cursors from typing errors and from those of other lists. It guards no secret.
    fn seal(&self, key: &str) -> [u8; SEAL] {
        let mut context = ring::digest::Context::new(&ring::digest::SHA256);
        context.update(self.list.as_bytes());
        context.update(&[0]);
        context.update(key.as_bytes());
        let mut seal = [0; SEAL];
        seal.copy_from_slice(&context.finish().as_ref()[..SEAL]);
        seal
    }
}

const SEAL: usize = 6;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_is_capped_and_never_zero() {
        let read = |text: &str| {
            let text: serde::de::value::StrDeserializer<'_, serde::de::value::Error> =
                serde::de::IntoDeserializer::into_deserializer(text);
            Limit::deserialize(text).map(Limit::get).ok()
        };
        assert_eq!(read("7"), Some(7));
        assert_eq!(read("101"), Some(100));
        assert_eq!(read("99999999999999999999999"), Some(100));
        for bad in ["0", "-1", "1.0", "many", "", "+5"] {
            assert_eq!(read(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_cursor_that_was_not_given_out_is_refused() {
        let cursors = Cursors::of("orders");
        for bad in ["", "1", "b3JkZXI", "****", "aaaaaaaaaaaaaaaaaaaa"] {
            assert_eq!(cursors.read(bad).unwrap_err().status, 400, "{bad}");
        }
    }
}
