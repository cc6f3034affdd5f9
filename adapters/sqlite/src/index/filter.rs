//! Says which streams a run may have: a Bloom filter (Bloom, 1970) of ten bits a stream, about one in a hundred
//! wrong.

const BITS: u64 = 10;
const PROBES: u64 = 6;

/// A set of hashes that may say yes to what was not added, and never no to what was.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Filter {
    words: Vec<u64>,
}

impl Filter {
    /// A filter for so many hashes.
    pub(crate) fn new(len: usize) -> Self {
        let words = (len as u64 * BITS).div_ceil(64).max(1);
        Self { words: vec![0; usize::try_from(words).expect("a filter fits memory")] }
    }

    pub(crate) fn add(&mut self, hash: u64) {
        for bit in self.bits(hash) {
            self.words[bit / 64] |= 1 << (bit % 64);
        }
    }

    pub(crate) fn may_have(&self, hash: u64) -> bool {
        self.bits(hash).all(|bit| self.words[bit / 64] & (1 << (bit % 64)) != 0)
    }

    /// Where a hash is marked: double hashing (Kirsch and Mitzenmacher, 2006).
    fn bits(&self, hash: u64) -> impl Iterator<Item = usize> + use<> {
        let len = self.words.len() as u64 * 64;
        let step = hash.rotate_left(32) | 1;
        (0..PROBES).map(move |probe| {
            let mixed = hash.wrapping_add(probe.wrapping_mul(step));
            // The high bits of a product with the length: an even spread without a division.
            usize::try_from((u128::from(mixed) * u128::from(len)) >> 64).expect("less than the length")
        })
    }

    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        self.words.iter().flat_map(|word| word.to_le_bytes()).collect()
    }

    pub(crate) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (words, rest) = bytes.as_chunks::<8>();
        (rest.is_empty() && !words.is_empty())
            .then(|| Self { words: words.iter().map(|word| u64::from_le_bytes(*word)).collect() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hash(n: u64) -> u64 {
        super::super::key::place(&n.to_string())
    }

    #[test]
    fn what_was_added_is_there_and_little_else() {
        let mut filter = Filter::new(10_000);
        (0..10_000).for_each(|n| filter.add(hash(n)));
        let filter = Filter::from_bytes(&filter.to_bytes()).unwrap();
        assert!((0..10_000).all(|n| filter.may_have(hash(n))));
        let wrong = (10_000..110_000).filter(|n| filter.may_have(hash(*n))).count();
        assert!(wrong < 3_000, "{wrong} of 100,000");
    }
}
