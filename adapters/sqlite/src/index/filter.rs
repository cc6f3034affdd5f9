//! Says which streams a run may have: a Bloom filter (Bloom, 1970) in blocks of a cache line (Putze, Sanders, Singler,
//! 2007) with sixteen bits a stream, about one in five hundred wrong.
//!
//! A commit to a stream that nobody wrote lately asks the filter of every run: each costs one miss of the cache.

const BITS: u64 = 16;
const PROBES: usize = 6;

/// Bits of a block, as a power of two, and the words they are in.
const BLOCK_BITS: u32 = 9;
const BLOCK_WORDS: usize = 8;

/// A cache line: one that stood in two would cost two misses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(align(64))]
struct Block([u64; BLOCK_WORDS]);

/// A set of hashes that may say yes to what was not added, and never no to what was.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Filter {
    blocks: Vec<Block>,
}

impl Filter {
    /// A filter for so many hashes.
    pub(crate) fn new(len: usize) -> Self {
        let blocks = (len as u64 * BITS).div_ceil(1 << BLOCK_BITS).max(1);
        let blocks = usize::try_from(blocks).expect("a filter fits memory");
        Self { blocks: vec![Block([0; BLOCK_WORDS]); blocks] }
    }

    pub(crate) fn add(&mut self, hash: u64) {
        let block = self.block(hash);
        for (word, bit) in bits(hash) {
            self.blocks[block].0[word] |= bit;
        }
    }

    pub(crate) fn may_have(&self, hash: u64) -> bool {
        let Block(block) = &self.blocks[self.block(hash)];
        bits(hash).all(|(word, bit)| block[word] & bit != 0)
    }

    /// The high bits of a product with the length: an even spread without a division.
    fn block(&self, hash: u64) -> usize {
        let product = u128::from(hash) * self.blocks.len() as u128;
        usize::try_from(product >> 64).expect("less than the length")
    }

    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        self.blocks.iter().flat_map(|block| block.0).flat_map(u64::to_le_bytes).collect()
    }

    pub(crate) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (words, rest) = bytes.as_chunks::<8>();
        let words: Vec<u64> = words.iter().map(|word| u64::from_le_bytes(*word)).collect();
        let (blocks, more) = words.as_chunks::<BLOCK_WORDS>();
        (rest.is_empty() && more.is_empty() && !blocks.is_empty())
            .then(|| Self { blocks: blocks.iter().map(|words| Block(*words)).collect() })
    }
}

/// Where in its block a hash is marked.
fn bits(hash: u64) -> impl Iterator<Item = (usize, u64)> {
    // The high bits chose the block.
    let mixed = hash.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (0..PROBES).map(move |probe| {
        let bit = mixed >> (64 - BLOCK_BITS as usize * (probe + 1)) & ((1 << BLOCK_BITS) - 1);
        ((bit >> 6) as usize, 1 << (bit & 63))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hash(n: u64) -> u64 {
        super::super::key::Keys::new([0; 16]).of(&n.to_string()).high()
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
