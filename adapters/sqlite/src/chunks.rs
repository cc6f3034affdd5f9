//! Bytes that are copied one behind the other into few pieces of memory.

/// What was added, in its order. What is added at once lies in one chunk, and whoever keeps some of it keeps that chunk.
///
/// Chunks have 64 KiB at the most, or one addition alone that is larger. The first has 4, for it may be the only one, and
/// each twice as much as the one before. Once a chunk is left, at most a quarter of it is free: all take up to a third more
/// than what was added.
#[derive(Default)]
pub(crate) struct Chunks {
    chunks: Vec<Vec<u8>>,
    /// Bytes of the last one, before anything was given back.
    room: usize,
}

impl Chunks {
    const FIRST: usize = 4 << 10;
    const MOST: usize = 64 << 10;

    /// Adds two parts, side by side.
    pub(crate) fn add(&mut self, one: &[u8], other: &[u8]) {
        let len = one.len() + other.len();
        if self.chunks.last().is_none_or(|chunk| chunk.capacity() - chunk.len() < len) {
            self.begin(len);
        }
        if let Some(chunk) = self.chunks.last_mut() {
            chunk.extend_from_slice(one);
            chunk.extend_from_slice(other);
        }
    }

    /// Begins a chunk for so many bytes at once, and what follows.
    fn begin(&mut self, len: usize) {
        self.leave();
        self.room = (2 * self.room).clamp(Self::FIRST, Self::MOST);
        self.chunks.push(Vec::with_capacity(self.room.max(len)));
    }

    /// Gives back what the last chunk does not need.
    fn leave(&mut self) {
        if let Some(chunk) = self.chunks.last_mut()
            && chunk.capacity() - chunk.len() > chunk.capacity() / 4
        {
            chunk.shrink_to_fit();
        }
    }

    /// The chunks, each with what was added to it.
    pub(crate) fn finished(mut self) -> Vec<Vec<u8>> {
        self.leave();
        self.chunks
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    /// Of all sizes that matter, from a few bytes to more than a chunk.
    fn sizes() -> impl Strategy<Value = Vec<usize>> {
        let size =
            || prop_oneof![0..300_usize, 300..5_000_usize, 20_000..40_000_usize, 60_000..200_000_usize];
        // Pages of one size, too: what is free at the end of a chunk then adds up.
        prop_oneof![
            vec(size(), 0..60),
            (size(), 0..60_usize).prop_map(|(size, count)| std::vec::from_elem(size, count))
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(128))]

        #[test]
        fn chunks_hold_what_was_added_and_little_more(sizes in sizes()) {
            let mut chunks = Chunks::default();
            let all = vec![7; 200_000];
            for size in &sizes {
                chunks.add(&all[..size / 3], &all[size / 3..*size]);
            }
            let chunks = chunks.finished();
            let capacities = chunks.iter().map(Vec::capacity);
            prop_assert!(capacities.clone().all(|most| most <= Chunks::MOST || sizes.contains(&most)));
            let (taken, needed) = (capacities.sum::<usize>(), sizes.iter().sum::<usize>());
            prop_assert!(3 * taken <= 4 * needed + 3, "{taken} bytes for {needed}");
            prop_assert!(chunks.len() <= 6 + 2 * needed / Chunks::MOST, "{} chunks", chunks.len());
            prop_assert_eq!(chunks.iter().map(Vec::len).sum::<usize>(), needed);
        }
    }
}
