//! A key as every process writes it.

use std::fmt;
use std::hash::{Hash, Hasher};

use ring::digest::{Context, SHA256};

/// A key of a limit: 128 bits of SHA-256 of both, so that nothing of what a stranger calls himself reaches a server.
///
/// Programs that were compiled from the same source agree about it, on all machines of one byte order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Key([u8; 16]);

impl Key {
    /// The key of a limit, which has a name.
    pub fn of<K: Hash + ?Sized>(limit: &str, key: &K) -> Self {
        let mut digest = Digest(Context::new(&SHA256));
        limit.hash(&mut digest);
        key.hash(&mut digest);
        let digest = digest.0.finish();
        let (bytes, _) = digest.as_ref().split_first_chunk().expect("SHA-256 has 32 bytes");
        Self(*bytes)
    }
}

impl fmt::Display for Key {
    /// 32 hexadecimal digits.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// Takes in what a key hashes. Numbers have one width and order on every machine (those of a slice have
/// the machine's order).
struct Digest(Context);

impl Hasher for Digest {
    fn write(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    fn write_u16(&mut self, number: u16) {
        self.write(&number.to_le_bytes());
    }

    fn write_u32(&mut self, number: u32) {
        self.write(&number.to_le_bytes());
    }

    fn write_u64(&mut self, number: u64) {
        self.write(&number.to_le_bytes());
    }

    fn write_u128(&mut self, number: u128) {
        self.write(&number.to_le_bytes());
    }

    fn write_usize(&mut self, number: usize) {
        self.write_u64(number as u64);
    }

    fn write_isize(&mut self, number: isize) {
        self.write_u64(number as i64 as u64);
    }

    fn finish(&self) -> u64 {
        let digest = self.0.clone().finish();
        u64::from_le_bytes(*digest.as_ref().first_chunk().expect("SHA-256 has 32 bytes"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_the_same_in_every_process_and_of_every_limit_another() {
        // Computed apart from this code: SHA-256 of `logins`, ff, `ann`, ff.
        assert_eq!(Key::of("logins", "ann").to_string(), "d42ab43e7eeb44635cf68c1f92ea2949");
        assert_ne!(Key::of("logins", "ann"), Key::of("calls", "ann"));
        assert_ne!(Key::of("a", "bc"), Key::of("ab", "c"));
    }

    #[test]
    fn a_key_may_be_anything() {
        let long = vec![b'{'; 1 << 20];
        for key in [&b""[..], b"{}", b"\0\r\n*1\r\n", &[0xff; 300], &long] {
            assert_eq!(Key::of("limit", key).to_string().len(), 32);
        }
    }
}
