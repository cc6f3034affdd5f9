//! Checksums of what is served: a damaged file is found out when it is read, and nothing of it is taken for true.
//!
//! They are CRC-32C (Castagnoli, 1993), which processors compute. What a caller knows of an event or a record is
//! summed up on its thread; the writer adds the numbers that it gives, and the time.

use crc32c::crc32c_append;

/// What was read is not what was written.
#[derive(Debug, thiserror::Error)]
#[error("it does not match its checksum: the file is damaged, and this has to come from a backup")]
pub(crate) struct Mismatch;

/// The last event and record that were written before there were checksums; no later one is without.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Unchecked {
    pub(crate) position: u64,
    pub(crate) revision: u64,
}

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

    /// The four bytes that stand behind what was summed up.
    pub(crate) fn to_bytes(self) -> [u8; 4] {
        self.0.to_le_bytes()
    }
}

/// What is known of an event before it has a place, but for its data.
pub(crate) struct Header<'a> {
    pub(crate) stream: &'a str,
    pub(crate) kind: &'a str,
    pub(crate) id: &'a [u8],
    pub(crate) schema: u16,
    pub(crate) public: bool,
    pub(crate) meta: &'a [u8],
}

/// An event's two checksums: who passes over an event need not read its data to know that it may.
#[derive(Debug, Clone, Copy)]
pub(crate) struct EventSum {
    header: Sum,
    data: u32,
}

impl Header<'_> {
    /// The checksum, but for the event's place.
    fn sum(&self) -> Sum {
        self.sum_before(&[])
    }

    /// The checksum of it and what stands behind it. Its parts are laid side by side, since one long sum takes a third
    /// of the time of several short ones.
    fn sum_before(&self, behind: &[u8]) -> Sum {
        const ROOM: usize = 384;
        let lengths = [self.stream.len(), self.kind.len(), self.meta.len()].map(|len| len as u64);
        let flags = u64::from(self.schema) << 1 | u64::from(self.public);
        let numbers = [lengths[0], lengths[1], lengths[2], flags].map(u64::to_le_bytes);
        let parts = [
            numbers.as_flattened(),
            self.id,
            self.stream.as_bytes(),
            self.kind.as_bytes(),
            self.meta,
            behind,
        ];
        if parts.iter().map(|part| part.len()).sum::<usize>() > ROOM {
            return parts.iter().fold(Sum::default(), |sum, part| sum.bytes(part));
        }
        let (mut room, mut len) = ([0; ROOM], 0);
        for part in parts {
            room[len..len + part.len()].copy_from_slice(part);
            len += part.len();
        }
        Sum::default().bytes(&room[..len])
    }

    /// Whether this header at this place has the first half of a stored sum.
    pub(crate) fn fits(&self, place: [u64; 3], stored: i64) -> bool {
        let sum = self.sum_before(place.map(u64::to_le_bytes).as_flattened());
        u64::from(sum.0) == stored.cast_unsigned() >> 32
    }
}

impl EventSum {
    /// Of what the caller knows.
    pub(crate) fn of(header: &Header<'_>, data: &[u8]) -> Self {
        Self { header: header.sum(), data: crc32c_append(0, data) }
    }

    /// As it is stored, now that the event has its position, its version and its time.
    pub(crate) fn at(self, place: [u64; 3]) -> i64 {
        (u64::from(self.header.numbers(place).0) << 32 | u64::from(self.data)).cast_signed()
    }
}

/// Whether data have the second half of a stored sum.
pub(crate) fn data_fits(data: &[u8], stored: i64) -> bool {
    u64::from(crc32c_append(0, data)) == stored.cast_unsigned() & u64::from(u32::MAX)
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
        let header = Header { stream: "a-1", kind: "a.b", id: &[7; 16], schema: 1, public: false, meta: &[] };
        assert_eq!(EventSum::of(&header, b"{}").at([1, 2, 3]), 4_939_262_427_464_978_602);
        assert_eq!(of_record("k", None, b"{}").numbers([1, 2]).stored(), 687_780_449);
    }

    #[test]
    fn a_long_header_has_the_sum_of_its_parts() {
        for len in [0, 1, 200, 300, 400, 5000] {
            let meta = vec![7; len];
            let header =
                Header { stream: "a-1", kind: "a.b", id: &[7; 16], schema: 1, public: true, meta: &meta };
            let parts = Sum::default().numbers([3, 3, len as u64, 3]).bytes(&[7; 16]).bytes(b"a-1a.b");
            assert_eq!(header.sum(), parts.bytes(&meta));
            let place = [4, 5, 6];
            assert!(header.fits(place, EventSum::of(&header, b"{}").at(place)), "{len}");
            assert!(!header.fits([4, 5, 7], EventSum::of(&header, b"{}").at(place)));
        }
    }

    #[test]
    fn nothing_can_move_from_one_part_to_the_next() {
        let header = |stream, kind| Header { stream, kind, id: &[0; 16], schema: 1, public: true, meta: &[] };
        assert_ne!(header("a-1", "1b").sum(), header("a-11", "b").sum());
        assert_ne!(of_record("ab", None, b"c"), of_record("a", None, b"bc"));
        assert_ne!(of_record("a", None, b"b"), of_record("a", Some(0), b"b"));
    }
}
