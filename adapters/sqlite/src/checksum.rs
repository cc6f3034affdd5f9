//! Checksums of what is served: a damaged file is found out when it is read, and nothing of it is taken for true.
//!
//! They are CRC-32C (Castagnoli, 1993), which processors compute. What a caller knows of an event or a record is
//! summed up on its thread; the writer adds the numbers that it gives, and the time.

use crc32c::crc32c_append;

/// What was read is not what was written.
#[derive(Debug, thiserror::Error)]
#[error("it does not match its checksum: the file is damaged, and this has to come from a backup")]
pub(crate) struct Mismatch;

/// A checksum on its way over several parts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Sum(u32);

impl Sum {
    /// Goes on over bytes. Where their length is not given, it must be summed up too.
    pub(crate) fn bytes(self, bytes: &[u8]) -> Self {
        Self(crc32c_append(self.0, bytes))
    }

    /// Goes on over numbers.
    pub(crate) fn numbers<const N: usize>(self, numbers: [u64; N]) -> Self {
        self.bytes(numbers.map(u64::to_le_bytes).as_flattened())
    }

    /// As it is stored.
    pub(crate) fn stored(self) -> i64 {
        i64::from(self.0.cast_signed())
    }

    /// The four bytes that stand beside what was summed up.
    pub(crate) fn to_bytes(self) -> [u8; 4] {
        self.0.to_le_bytes()
    }

    /// As [`Sum::to_bytes`] gave it.
    pub(crate) fn from_bytes(bytes: [u8; 4]) -> Self {
        Self(u32::from_le_bytes(bytes))
    }
}

/// The checksum of an event's data: who passes over an event need not read its data to know that it may.
pub(crate) fn data_sum(data: &[u8]) -> u32 {
    crc32c_append(0, data)
}

/// Of a record, but for its revision and its position.
pub(crate) fn of_record(key: &str, due: Option<i64>, value: &[u8]) -> Sum {
    let due_or_not = [u64::from(due.is_some()), due.unwrap_or(0).cast_unsigned()];
    let sum = Sum::default().numbers([key.len() as u64, due_or_not[0], due_or_not[1]]);
    sum.bytes(key.as_bytes()).bytes(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_checksum_is_the_same_for_ever() {
        // The check value of CRC-32C.
        assert_eq!(Sum::default().bytes(b"123456789"), Sum(0xe306_9283));
        assert_eq!(of_record("k", None, b"{}").numbers([1, 2]).stored(), 687_780_449);
    }

    #[test]
    fn nothing_can_move_from_one_part_to_the_next() {
        assert_ne!(of_record("ab", None, b"c"), of_record("a", None, b"bc"));
        assert_ne!(of_record("a", None, b"b"), of_record("a", Some(0), b"b"));
    }
}
