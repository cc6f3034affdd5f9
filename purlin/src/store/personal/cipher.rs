//! Keys, and what they seal: AES-256-GCM with a random nonce.
//!
//! A random nonce of 96 bits is safe for four thousand million values under one key (NIST SP 800-38D, 8.3), and every
//! subject has a key of its own.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::rand::{SecureRandom as _, SystemRandom};

use crate::store::{Cause, StreamId};

/// What the text that is bound to a sealed value begins with.
const DOMAIN: &[u8] = b"purlin personal 1";

/// Where a value stands: one that is copied to another place cannot be opened there.
///
/// It is the name of the stream, or the key of the record: what stays when a kind gets another name, a collection is
/// built anew beside the live one, or a store is moved to another engine.
#[derive(Debug, Clone, Copy)]
pub(super) enum Place<'a> {
    Stream(&'a StreamId),
    Record(&'a str),
}

impl Place<'_> {
    /// What a value about `subject` is bound to here.
    fn bound(&self, subject: &str) -> Vec<u8> {
        bound(subject, self.name().as_bytes())
    }

    /// By what a value that cannot be opened remembers where it was read.
    pub(super) fn name(&self) -> String {
        match self {
            Self::Stream(stream) => format!("s{stream}"),
            Self::Record(key) => format!("r{key}"),
        }
    }
}

fn bound(subject: &str, place: &[u8]) -> Vec<u8> {
    let length = u32::try_from(subject.len()).unwrap_or(u32::MAX).to_be_bytes();
    [DOMAIN, &length, subject.as_bytes(), place].concat()
}

/// A key of 256 bits.
pub(super) struct SecretKey(LessSafeKey);

impl SecretKey {
    pub(super) fn new(bytes: &[u8; 32]) -> Self {
        let key = UnboundKey::new(&AES_256_GCM, bytes).expect("a key of AES-256 has 32 bytes");
        Self(LessSafeKey::new(key))
    }

    /// A text about a subject, for a place.
    pub(super) fn seal(&self, subject: &str, place: Place<'_>, text: &str) -> Result<String, NoRandomness> {
        Ok(STANDARD_NO_PAD.encode(self.seal_bytes(&place.bound(subject), text.as_bytes())?))
    }

    /// The text that was sealed for this subject and place; none when it was not, or not by this key.
    pub(super) fn open(&self, subject: &str, place: Place<'_>, sealed: &str) -> Option<String> {
        self.open_of(subject, &place.name(), sealed)
    }

    /// As [`SecretKey::open`], of a place that is known by its name alone.
    pub(super) fn open_of(&self, subject: &str, place: &str, sealed: &str) -> Option<String> {
        let sealed = STANDARD_NO_PAD.decode(sealed).ok()?;
        String::from_utf8(self.open_bytes(&bound(subject, place.as_bytes()), sealed)?).ok()
    }

    fn seal_bytes(&self, bound: &[u8], plain: &[u8]) -> Result<Vec<u8>, NoRandomness> {
        let nonce: [u8; NONCE_LEN] = random()?;
        let mut bytes = [&nonce, plain].concat();
        let tag = self.0.seal_in_place_separate_tag(
            Nonce::assume_unique_for_key(nonce),
            Aad::from(bound),
            &mut bytes[NONCE_LEN..],
        );
        bytes.extend_from_slice(tag.expect("a value is smaller than what the cipher takes").as_ref());
        Ok(bytes)
    }

    fn open_bytes(&self, bound: &[u8], mut bytes: Vec<u8>) -> Option<Vec<u8>> {
        let nonce = Nonce::try_assume_unique_for_key(bytes.get(..NONCE_LEN)?).ok()?;
        let length = self.0.open_in_place(nonce, Aad::from(bound), &mut bytes[NONCE_LEN..]).ok()?.len();
        bytes.drain(..NONCE_LEN);
        bytes.truncate(length);
        Some(bytes)
    }
}

/// A key that the subjects' keys are wrapped in, so that a store, or a copy of one, is worth nothing without it.
///
/// It belongs where the store and its backups are not. Who loses it loses all personal data of the store.
pub struct MasterKey {
    key: SecretKey,
    name: String,
}

impl MasterKey {
    /// The master key of 32 random bytes.
    pub fn new(bytes: &[u8; 32]) -> Self {
        let digest = ring::digest::digest(&ring::digest::SHA256, &[DOMAIN, bytes].concat());
        let name = STANDARD_NO_PAD.encode(&digest.as_ref()[..6]);
        Self { key: SecretKey::new(bytes), name }
    }

    /// The master key that is written in base64, as `head -c 32 /dev/urandom | base64` makes one.
    pub fn parse(text: &str) -> Result<Self, MasterKeyError> {
        let bytes = STANDARD.decode(text.trim()).map_err(|_| MasterKeyError)?;
        Ok(Self::new(&bytes.try_into().map_err(|_| MasterKeyError)?))
    }

    /// By what it is told from others; it says nothing of the key.
    pub fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn wrap(&self, subject: &str, key: &[u8; 32]) -> Result<String, NoRandomness> {
        Ok(STANDARD.encode(self.key.seal_bytes(subject.as_bytes(), key)?))
    }

    pub(super) fn unwrap(&self, subject: &str, wrapped: &str) -> Option<[u8; 32]> {
        self.key.open_bytes(subject.as_bytes(), STANDARD.decode(wrapped).ok()?)?.try_into().ok()
    }
}

impl fmt::Debug for MasterKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MasterKey({})", self.name)
    }
}

/// The text is no master key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a master key is 32 bytes in base64: `head -c 32 /dev/urandom | base64` makes one")]
pub struct MasterKeyError;

/// The machine gives no random bytes.
#[derive(Debug, thiserror::Error)]
#[error("the machine gives no random bytes")]
pub(super) struct NoRandomness;

impl From<NoRandomness> for crate::store::CommitError {
    fn from(error: NoRandomness) -> Self {
        Self::Unavailable(Cause::from(error))
    }
}

pub(super) fn random<const N: usize>() -> Result<[u8; N], NoRandomness> {
    let mut bytes = [0; N];
    SystemRandom::new().fill(&mut bytes).map_err(|_| NoRandomness)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_opens_only_for_its_subject_at_its_place_with_its_key() {
        let (key, other) = (SecretKey::new(&[1; 32]), SecretKey::new(&[2; 32]));
        let (stream, elsewhere) = (StreamId::new("user", "1").unwrap(), StreamId::new("user", "2").unwrap());
        let place = Place::Stream(&stream);
        let sealed = key.seal("ada", place, "\"Ada\"").unwrap();
        assert_eq!(key.open("ada", place, &sealed).as_deref(), Some("\"Ada\""));
        assert_ne!(key.seal("ada", place, "\"Ada\"").unwrap(), sealed, "nonces differ");
        assert_eq!(key.open("bob", place, &sealed), None);
        assert_eq!(key.open("ada", Place::Stream(&elsewhere), &sealed), None);
        assert_eq!(key.open("ada", Place::Record(stream.as_str()), &sealed), None);
        assert_eq!(other.open("ada", place, &sealed), None);
        for damaged in ["", "AAAA", "?", &sealed[1..]] {
            assert_eq!(key.open("ada", place, damaged), None);
        }
    }

    #[test]
    fn a_master_key_is_32_bytes_and_does_not_show() {
        let key = MasterKey::parse(&STANDARD.encode([7; 32])).unwrap();
        assert!(!format!("{key:?}").contains("BwcH"));
        assert_eq!(MasterKey::parse("c2hvcnQ=").unwrap_err(), MasterKeyError);
        let wrapped = key.wrap("ada", &[1; 32]).unwrap();
        assert_eq!((key.unwrap("ada", &wrapped), key.unwrap("bob", &wrapped)), (Some([1; 32]), None));
    }
}
