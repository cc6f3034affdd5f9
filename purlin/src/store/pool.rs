//! For engines: what events that are read together have in common is kept once.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};

use super::{StreamId, StreamIdError};

/// What the events of a page share: a kind that they have in common is kept once, and so is a stream's long name as long
/// as the long names that follow are the same; data stand side by side in chunks. An event then allocates for its tags, for
/// large data, and for a kind or a long name that is new, and for nothing else.
///
/// Who keeps the data of one event keeps the chunk that they are in, which has 64 KiB at the most.
#[derive(Debug, Default)]
pub struct Pool {
    kinds: [Option<Arc<str>>; 8],
    oldest: usize,
    /// The last one with a long name.
    stream: Option<StreamId>,
    room: BytesMut,
    /// Bytes of the next chunk; 0: data stand alone.
    chunk: usize,
}

impl Pool {
    const CHUNK: usize = 64 << 10;

    /// For many events. (The default is for a single one: its data stand alone.)
    #[must_use]
    pub fn of_page() -> Self {
        Self { chunk: 4 << 10, ..Self::default() }
    }

    /// A kind of events.
    pub fn kind(&mut self, kind: &str) -> Arc<str> {
        if let Some(known) = self.kinds.iter().flatten().find(|known| ***known == *kind) {
            return Arc::clone(known);
        }
        let kind: Arc<str> = kind.into();
        self.kinds[self.oldest] = Some(Arc::clone(&kind));
        self.oldest = (self.oldest + 1) % self.kinds.len();
        kind
    }

    /// The stream of a name, as [`StreamId::parse`] reads it.
    #[inline]
    pub fn stream(&mut self, name: &str) -> Result<StreamId, StreamIdError> {
        if StreamId::is_shared(name) { self.long_stream(name) } else { StreamId::parse(name) }
    }

    #[cold]
    fn long_stream(&mut self, name: &str) -> Result<StreamId, StreamIdError> {
        match &self.stream {
            Some(before) if before.as_str() == name => Ok(before.clone()),
            _ => Ok(self.stream.insert(StreamId::parse(name)?).clone()),
        }
    }

    /// An event's data.
    pub fn data(&mut self, data: &[u8]) -> Bytes {
        if data.len() >= self.chunk / 4 {
            return Bytes::copy_from_slice(data);
        }
        if self.room.capacity() < data.len() {
            self.room = BytesMut::with_capacity(self.chunk);
            self.chunk = (2 * self.chunk).min(Self::CHUNK);
        }
        self.room.extend_from_slice(data);
        self.room.split().freeze()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_given_is_what_was_asked_for_however_much_is_kept() {
        for mut pool in [Pool::default(), Pool::of_page()] {
            let mut given = Vec::new();
            let stream = |n: usize| format!("thing-{}", format!("{}", n / 2).repeat(1 + n % 5 * 10));
            for n in 0..3000 {
                let (kind, stream, data) = (format!("kind.{}", n % 11), stream(n), vec![n as u8; n % 1500]);
                given.push((pool.kind(&kind), pool.stream(&stream).unwrap(), pool.data(&data)));
            }
            for (n, (kind, of, data)) in given.iter().enumerate() {
                assert_eq!((&**kind, of.as_str()), (&*format!("kind.{}", n % 11), &*stream(n)));
                assert_eq!(data[..], vec![n as u8; n % 1500][..]);
            }
            assert!(pool.stream("no key").is_err());
        }
    }

    #[test]
    fn events_that_have_a_kind_or_a_long_name_in_common_share_it() {
        let mut pool = Pool::of_page();
        let kinds = [pool.kind("a"), pool.kind("b"), pool.kind("a")];
        assert!(Arc::ptr_eq(&kinds[0], &kinds[2]) && !Arc::ptr_eq(&kinds[0], &kinds[1]));
        let long = format!("thing-{}", "1".repeat(50));
        // One that stands in the value takes nobody's place.
        let [one, _, other] = [&*long, "thing-1", &long].map(|name| pool.stream(name).unwrap());
        assert!(std::ptr::eq(one.as_str(), other.as_str()));
        let [one, other] = [b"1", b"2"].map(|data| pool.data(data));
        assert_eq!(one.as_ptr().wrapping_add(1), other.as_ptr());
    }
}
