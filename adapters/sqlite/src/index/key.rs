//! A stream's name as two numbers, so that the writer neither hashes nor compares a text.

use std::collections::HashMap;
use std::hash::{BuildHasher, BuildHasherDefault, Hash, Hasher, RandomState};

/// Stands for a stream in memory: its place in the runs, and a second hash under a secret of this process.
///
/// Two names with equal keys are taken for the same stream. Of names that nobody chose for it, 128 bits must be equal;
/// who chooses names with equal places cannot know the secret half, and has to be lucky in 64 bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Key {
    pub(crate) place: u64,
    secret: u64,
}

impl Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.secret);
    }
}

/// What is kept by key.
pub(crate) type KeyMap<V> = HashMap<Key, V, BuildHasherDefault<Secret>>;

/// Passes the secret half on: it is a hash already.
#[derive(Default)]
pub(crate) struct Secret(u64);

impl Hasher for Secret {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, _: &[u8]) {
        unreachable!("a key is hashed as one number");
    }

    fn write_u64(&mut self, secret: u64) {
        self.0 = secret;
    }
}

/// Makes the keys of one open store.
#[derive(Default)]
pub(crate) struct Keys(RandomState);

impl Keys {
    /// The key of a stream's name.
    pub(crate) fn of(&self, stream: &str) -> Key {
        Key { place: place(stream), secret: self.0.hash_one(stream) }
    }
}

/// A stream's place in a run. It is stored, so it must never change: FNV-1a (Fowler, Noll, Vo) and, since its high
/// bits are weak, the finishing steps of MurmurHash3 (Appleby).
pub(crate) fn place(stream: &str) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for byte in stream.bytes() {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
    }
    hash = (hash ^ (hash >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    hash = (hash ^ (hash >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    hash ^ (hash >> 33)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_the_same_for_ever_and_a_key_only_in_its_store() {
        let stream = "order-4711";
        assert_eq!(place(stream), 1_445_485_977_547_546_305);
        let (one, other) = (Keys::default(), Keys::default());
        assert_eq!(one.of(stream), one.of(stream));
        assert_ne!(one.of(stream), other.of(stream));
        assert_ne!(one.of(stream), one.of("order-4712"));
    }
}
