//! A part of the log on its way from the thread that reads to whoever asked.
//!
//! Few threads read, and all wait for them; and memory that one thread takes and another gives back is slow for both. So
//! what lies in the file is checked and copied by the thread that reads, one event behind the other, and whoever asked
//! makes events of it, each with its data where they are.

use bytes::Bytes;
use purlin::store::pool::Pool;
use purlin::store::{LogPage, Position, ReadError, Recorded};

use crate::codec::Seen;
use crate::error::unreadable_as;

/// Who keeps an event keeps what stands beside it: so many bytes at the most, or the event alone if it is larger.
const BESIDE: usize = 64 << 10;

/// The wanted events of a part of the log.
#[derive(Default)]
pub(crate) struct Part {
    /// Those of which more had to be known where they were read. They come first.
    events: Vec<Recorded>,
    packed: Vec<Packed>,
    /// The packed ones, as they are stored.
    chunks: Vec<Vec<u8>>,
    /// Bytes of data.
    pub(crate) bytes: usize,
    pub(crate) through: Position,
}

/// Where an event is in the chunks.
struct Packed {
    position: u64,
    header: usize,
    data: usize,
}

impl Part {
    pub(crate) fn new(through: Position) -> Self {
        Self { through, ..Self::default() }
    }

    /// How many events it has.
    pub(crate) fn len(&self) -> usize {
        self.events.len() + self.packed.len()
    }

    /// Makes room for events that are to be packed.
    pub(crate) fn reserve(&mut self, events: usize) {
        self.packed.reserve_exact(events);
    }

    /// Adds an event.
    pub(crate) fn push(&mut self, event: Recorded) {
        self.bytes += event.envelope.data.len();
        self.events.push(event);
    }

    /// Adds an event as it is stored; it was checked.
    pub(crate) fn pack(&mut self, position: u64, header: &[u8], data: &[u8]) {
        let packed = Packed { position, header: header.len(), data: data.len() };
        if self.chunks.last().is_none_or(|chunk| chunk.len() + packed.len() > chunk.capacity()) {
            // The first may be the only one.
            let room = if self.chunks.is_empty() { BESIDE / 16 } else { BESIDE };
            self.chunks.push(Vec::with_capacity(room.max(packed.len())));
        }
        if let Some(chunk) = self.chunks.last_mut() {
            chunk.extend_from_slice(header);
            chunk.extend_from_slice(data);
        }
        self.bytes += data.len();
        self.packed.push(packed);
    }

    /// Makes the events.
    pub(crate) fn page(self) -> Result<LogPage, ReadError> {
        let Self { mut events, packed, chunks, through, .. } = self;
        events.reserve_exact(packed.len());
        let (mut pool, mut chunks) = (Pool::of_page(), chunks.into_iter().map(Bytes::from));
        let (mut chunk, mut at) = (Bytes::new(), 0);
        for packed in packed {
            if at == chunk.len() {
                (chunk, at) = (chunks.next().unwrap_or_default(), 0);
            }
            let (data, end) = (at + packed.header, at + packed.len());
            let seen = Seen::checked(packed.position, &chunk[at..data]);
            let event = seen.and_then(|seen| seen.event(chunk.slice(data..end), &mut pool));
            events.push(
                event
                    .map_err(|error| unreadable_as(error, || format!("the event at {}", packed.position)))?,
            );
            at = end;
        }
        Ok(LogPage { events, through })
    }
}

impl Packed {
    fn len(&self) -> usize {
        self.header + self.data
    }
}

impl From<LogPage> for Part {
    fn from(LogPage { events, through }: LogPage) -> Self {
        Self { events, through, ..Self::default() }
    }
}

#[cfg(test)]
mod tests {
    use purlin::message::Envelope;

    use super::*;
    use crate::header::{bodies, pack, pack_body};

    #[test]
    fn events_are_what_was_packed_and_hold_no_more_than_stands_beside_them() {
        let (mut part, mut meta, mut bytes) = (Part::new(Position(400)), Vec::new(), 0);
        let data = |n: u64| {
            vec![b'0' + (n % 10) as u8; if n.is_multiple_of(97) { 2 * BESIDE } else { n as usize * 3 }]
        };
        let packed = (1..=400).map(|n| (n, Envelope::raw("a.b", data(n)).tagged([n.to_string()])));
        let packed: Vec<_> = packed.collect();
        for (n, event) in &packed {
            let (mut body, mut header) = (Vec::new(), Vec::new());
            pack_body("a-1", event, &mut meta, &mut body);
            pack(bodies(&body).next().unwrap(), [*n, n + 1, 7], &mut header);
            part.pack(*n, &header, &event.data);
            bytes += event.data.len();
        }
        assert_eq!((part.len(), part.bytes), (400, bytes));
        let alone = |chunk: &Vec<u8>| chunk.len() > 2 * BESIDE && chunk.capacity() < 2 * BESIDE + 200;
        assert!(part.chunks.iter().all(|chunk| chunk.capacity() <= BESIDE || alone(chunk)));
        assert!(part.chunks.len() < 20, "{}", part.chunks.len());
        let page = part.page().unwrap();
        assert_eq!((page.through, page.events.len()), (Position(400), 400));
        for (event, (n, envelope)) in page.events.iter().zip(packed) {
            assert_eq!((event.position, event.version, event.stream.as_str()), (Position(n), n + 1, "a-1"));
            assert_eq!(event.envelope, envelope);
        }
    }
}
