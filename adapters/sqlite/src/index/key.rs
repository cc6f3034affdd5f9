//! A stream's name as a number, so that nobody reads or compares a text to know which stream is meant.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hash, Hasher};

use siphasher::sip128::SipHasher13;

/// Stands for a stream in memory and in the runs: the first 104 bits of SipHash-1-3-128 (Aumasson, Bernstein, 2012) of
/// its name, under a secret of the store.
///
/// Two names with equal keys are taken for the same stream. Among a billion streams that happens once in 40 trillion
/// stores. Who chooses names cannot make it likelier without the secret, which is in the store's file only.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Key(u128);

impl Key {
    /// Bytes of a key as it is stored.
    pub(super) const BYTES: usize = 13;

    /// Its high bits: a hash of the name.
    pub(crate) fn high(self) -> u64 {
        u64::try_from(self.0 >> (8 * Self::BYTES - 64)).expect("a key has 104 bits")
    }

    /// In an order that is the order of keys.
    pub(super) fn to_bytes(self) -> [u8; Self::BYTES] {
        *self.0.to_be_bytes().last_chunk().expect("it is shorter than a number")
    }

    pub(super) fn from_bytes(stored: [u8; Self::BYTES]) -> Self {
        let mut bytes = [0; 16];
        bytes[16 - Self::BYTES..].copy_from_slice(&stored);
        Self(u128::from_be_bytes(bytes))
    }
}

impl Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.high());
    }
}

/// What is kept by key.
pub(crate) type KeyMap<V> = HashMap<Key, V, BuildHasherDefault<Hashed>>;

/// Passes a hash on as it is.
#[derive(Default)]
pub(crate) struct Hashed(u64);

impl Hasher for Hashed {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, _: &[u8]) {
        unreachable!("a key is hashed as one number");
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }
}

/// Makes the keys of a store.
#[derive(Clone, Copy)]
pub(crate) struct Keys(SipHasher13);

impl Keys {
    /// Under the store's secret.
    pub(crate) fn new(secret: [u8; 16]) -> Self {
        Self(SipHasher13::new_with_key(&secret))
    }

    /// The key of a stream's name. It is stored, so it must never change.
    pub(crate) fn of(&self, stream: &str) -> Key {
        let hash = self.0.hash(stream.as_bytes()).as_u128();
        Key(hash >> (128 - 8 * Key::BYTES))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // The digest's first 13 bytes, as an implementation in another language has it.
    #[test]
    fn a_key_is_the_same_for_ever_and_another_in_another_store() {
        let secret = std::array::from_fn(|n| n as u8);
        let (keys, stream) = (Keys::new(secret), "order-4711");
        assert_eq!(keys.of(stream), Key(6_856_919_540_802_219_511_419_349_188_448));
        assert_eq!(keys.of(stream), Key::from_bytes(keys.of(stream).to_bytes()));
        assert_ne!(keys.of(stream), Keys::new([7; 16]).of(stream));
        assert_ne!(keys.of(stream), keys.of("order-4712"));
    }

    #[test]
    fn stored_keys_have_the_order_of_keys() {
        let keys = Keys::new([1; 16]);
        let mut all: Vec<Key> = (0..100).map(|n| keys.of(&n.to_string())).collect();
        all.sort_unstable();
        assert!(all.is_sorted_by_key(|key| key.to_bytes()));
    }
}
