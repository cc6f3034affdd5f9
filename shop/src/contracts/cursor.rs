//! Cursors of lists: where the next page begins, sealed, so that only what this service gave out is taken back.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use purlin::store::{LogId, Store};
use ring::hmac;
use serde::{Deserialize, Serialize};

const SEAL: usize = 8;

/// Seals the cursors of one list of one service.
pub struct Cursors {
    key: hmac::Key,
    list: String,
}

impl Cursors {
    /// The cursors of a list; `list` names it and all that narrows it (another filter is another list).
    pub fn new(store: &Store, list: impl Into<String>) -> Self {
        Self::of(store.log_id(), list.into())
    }

    fn of(log: LogId, list: String) -> Self {
        Self { key: hmac::Key::new(hmac::HMAC_SHA256, log.log.as_bytes()), list }
    }

    /// The cursor behind a key.
    pub fn seal(&self, key: &str) -> String {
        let mut bytes = self.tag(key).to_vec();
        bytes.extend_from_slice(key.as_bytes());
        URL_SAFE_NO_PAD.encode(bytes)
    }

    /// The key that [`Cursors::seal`] was given.
    pub fn open(&self, cursor: &str) -> Option<String> {
        let bytes = URL_SAFE_NO_PAD.decode(cursor).ok()?;
        let (tag, key) = bytes.split_at_checked(SEAL)?;
        let key = std::str::from_utf8(key).ok()?;
        (self.tag(key) == tag).then(|| key.to_owned())
    }

    fn tag(&self, key: &str) -> [u8; SEAL] {
        let tag = hmac::sign(&self.key, format!("{}\n{key}", self.list).as_bytes());
        let mut short = [0; SEAL];
        short.copy_from_slice(&tag.as_ref()[..SEAL]);
        short
    }
}

/// A page of a list as it is answered.
#[derive(Debug, Serialize, Deserialize)]
pub struct Listed<T> {
    /// What is on it.
    pub items: Vec<T>,
    /// The cursor of the next page; none on the last.
    pub next: Option<String>,
}

/// How many a list gives: 1 to 100, 50 unless the caller says otherwise, and 100 when he asks for more.
#[derive(Debug, Clone, Copy)]
pub struct Limit(pub usize);

impl Default for Limit {
    fn default() -> Self {
        Self(50)
    }
}

impl<'de> Deserialize<'de> for Limit {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match u64::deserialize(deserializer)? {
            0 => Err(serde::de::Error::custom("0 is not from 1 to 100")),
            limit => Ok(Self(limit.min(100) as usize)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_given_out_for_this_list_is_taken_back() {
        let log = LogId::new();
        let cursors = Cursors::of(log, "orders".into());
        let cursor = cursors.seal("0197-abc");
        assert_eq!(cursors.open(&cursor).as_deref(), Some("0197-abc"));
        assert_eq!(Cursors::of(log, "products".into()).open(&cursor), None);
        assert_eq!(Cursors::of(LogId::new(), "orders".into()).open(&cursor), None);
        for forged in ["", "x", "AAAA", "MDE5Ny1hYmM", &format!("{cursor}A")] {
            assert_eq!(cursors.open(forged), None, "{forged}");
        }
    }
}
