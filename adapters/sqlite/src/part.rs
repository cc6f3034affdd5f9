//! A part of the log on its way from the thread that reads to whoever asked.
//!
//! Few threads read, and all wait for them. Where a filter asks nothing but what stands in an event's header, what lies in
//! the file is checked and copied by the thread that reads, one event behind the other, and whoever asked makes events of
//! it, each with its data where they are: no memory is taken by one thread and given back by another but the chunks in
//! which they lie. (`cargo xtask bench store --only "replay sqlite"` measures it; decision 19 has figures.) Of what older
//! formats wrote, and where tags or a tenant are asked for, the thread that reads makes the events.

use std::sync::Arc;
use std::vec::IntoIter;

use bytes::Bytes;
use purlin::message::Envelope;
use purlin::store::pool::Pool;
use purlin::store::{Limits, LogPage, Position, ReadError, Recorded};

use crate::chunks::Chunks;
use crate::codec::{Seen, whose_stored};
use crate::error::unreadable_as;

/// Events that are made before others have their turn on a thread: a usual page.
const TURN: usize = 1024;

/// The wanted events of a part of the log.
pub(crate) struct Part {
    made: Vec<Recorded>,
    packed: Vec<Packed>,
    chunks: Chunks,
    most: Most,
    /// Bytes of memory that its events take: at the most, for what they share is counted for each. What is free in the
    /// chunks is not counted.
    pub(crate) bytes: usize,
    pub(crate) through: Position,
}

/// How much a part has at the most. The event that makes it so many bytes is in it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Most {
    pub(crate) events: usize,
    pub(crate) bytes: usize,
}

/// An event as it is stored, behind the one before in the chunks.
struct Packed {
    position: u64,
    header: usize,
    data: usize,
}

impl Most {
    /// For whoever asks for so many events.
    pub(crate) fn page(events: usize) -> Self {
        Self { events, bytes: Limits::PAGE }
    }
}

impl Part {
    pub(crate) fn new(through: Position, most: Most) -> Self {
        let (made, packed, chunks) = (Vec::new(), Vec::new(), Chunks::default());
        Self { made, packed, chunks, most, bytes: 0, through }
    }

    /// Whether nothing more is to be added.
    pub(crate) fn is_full(&self) -> bool {
        self.made.len() + self.packed.len() >= self.most.events || self.bytes >= self.most.bytes
    }

    /// Makes room for events that are to be packed.
    pub(crate) fn reserve(&mut self, events: usize) {
        self.packed.reserve_exact(events.min(self.most.events));
    }

    /// Adds an event, in the order of the log.
    pub(crate) fn push(&mut self, event: Recorded) {
        self.bytes += memory_of(&event);
        self.made.push(event);
    }

    /// Adds an event as it is stored, in the order of the log; it was checked.
    pub(crate) fn pack(&mut self, position: u64, header: &[u8], data: &[u8]) {
        self.chunks.add(header, data);
        let packed = Packed { position, header: header.len(), data: data.len() };
        self.bytes += size_of::<Packed>() + packed.len();
        self.packed.push(packed);
    }

    /// Makes the events, on the thread of who waits for them.
    pub(crate) async fn page(self) -> Result<LogPage, ReadError> {
        let through = self.through;
        let mut making = Making::of(self);
        while making.go_on()? {
            tokio::task::yield_now().await;
        }
        Ok(LogPage { events: making.events, through })
    }
}

/// Bytes of memory that an event takes, as if it shared none with others.
fn memory_of(event: &Recorded) -> usize {
    /// Before what is shared stand two counters.
    const SHARED: usize = 2 * size_of::<usize>();
    let Envelope { kind, tags, data, .. } = &event.envelope;
    let of_tag = |tag: &Arc<str>| size_of_val(tag) + SHARED + tag.len();
    let tags = tags.as_slice().iter().map(of_tag).sum::<usize>();
    let names = [event.stream.as_str(), kind].map(|name| SHARED + name.len());
    size_of_val(event) + names.iter().sum::<usize>() + SHARED + tags + data.len()
}

impl Packed {
    fn len(&self) -> usize {
        self.header + self.data
    }
}

/// On the way from a part to its events.
struct Making {
    made: IntoIter<Recorded>,
    packed: IntoIter<Packed>,
    chunks: IntoIter<Vec<u8>>,
    /// Where the next packed event lies, and behind what of it.
    chunk: Bytes,
    at: usize,
    pool: Pool,
    events: Vec<Recorded>,
}

impl Making {
    fn of(Part { made, packed, chunks, .. }: Part) -> Self {
        // Most parts are of one sort.
        let (events, made) = if packed.is_empty() { (made, Vec::new()) } else { (Vec::new(), made) };
        let mut making = Self {
            made: made.into_iter(),
            packed: packed.into_iter(),
            chunks: chunks.finished().into_iter(),
            chunk: Bytes::new(),
            at: 0,
            pool: Pool::of_page(),
            events,
        };
        making.events.reserve_exact(making.made.len() + making.packed.len());
        making
    }

    /// Makes some events; whether there are more to be made.
    fn go_on(&mut self) -> Result<bool, ReadError> {
        for packed in self.packed.by_ref().take(TURN) {
            if self.made.as_slice().first().is_some_and(|made| made.position.0 < packed.position) {
                take_before(packed.position, &mut self.made, &mut self.events);
            }
            if self.at == self.chunk.len() {
                (self.chunk, self.at) = (self.chunks.next().unwrap_or_default().into(), 0);
            }
            let (data, end) = (self.at + packed.header, self.at + packed.len());
            let stored = &self.chunk[self.at..data];
            let seen = Seen::checked(packed.position, stored);
            let event = seen.and_then(|seen| seen.event(self.chunk.slice(data..end), &mut self.pool));
            let whose = || whose_stored(packed.position, Some(stored));
            self.events.push(event.map_err(|error| unreadable_as(error, whose))?);
            self.at = end;
        }
        let more = self.packed.len() > 0;
        if !more {
            self.events.extend(self.made.by_ref());
        }
        Ok(more)
    }
}

/// Takes the events that come before a position.
#[cold]
fn take_before(position: u64, made: &mut IntoIter<Recorded>, events: &mut Vec<Recorded>) {
    let count = made.as_slice().partition_point(|event| event.position.0 < position);
    events.extend(made.take(count));
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    use purlin::message::Timestamp;
    use purlin::store::StreamId;

    use super::*;
    use crate::header::{bodies, pack, pack_body};

    const ALL: Most = Most { events: usize::MAX, bytes: usize::MAX };

    fn header(position: u64, stream: &str, event: &Envelope) -> Vec<u8> {
        let (mut meta, mut body, mut header) = (Vec::new(), Vec::new(), Vec::new());
        pack_body(stream, event, &mut meta, &mut body);
        pack(bodies(&body).next().unwrap(), [position, position + 1, 7], &mut header);
        header
    }

    fn event(position: u64) -> Recorded {
        let len = if position.is_multiple_of(97) { 130_000 } else { position as usize % 500 };
        let data = vec![b'0' + (position % 10) as u8; len];
        Recorded {
            position: Position(position),
            stream: StreamId::new("a", position / 3).unwrap(),
            version: position + 1,
            at: Timestamp::from_microsecond(7).unwrap(),
            envelope: Envelope::raw("a.b", data).tagged([position.to_string()]),
        }
    }

    fn pack_into(part: &mut Part, event: &Recorded) {
        let header = header(event.position.0, event.stream.as_str(), &event.envelope);
        part.pack(event.position.0, &header, &event.envelope.data);
    }

    /// The page, and how often others had their turn while it was made.
    fn made(part: Part) -> (Result<LogPage, ReadError>, usize) {
        let (mut page, mut turns) = (pin!(part.page()), 0);
        loop {
            match page.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
                Poll::Ready(page) => return (page, turns),
                Poll::Pending => turns += 1,
            }
        }
    }

    #[test]
    fn events_are_what_was_added_in_the_order_of_the_log_whichever_way_they_came() {
        let events: Vec<Recorded> = (1..=400).map(event).collect();
        let is_made: [fn(u64) -> bool; 5] =
            [|_| false, |_| true, |n| n <= 100, |n| n > 300, |n| n / 7 % 2 == 0 || n > 397];
        for is_made in is_made {
            let mut part = Part::new(Position(401), ALL);
            for event in &events {
                match is_made(event.position.0) {
                    true => part.push(event.clone()),
                    false => pack_into(&mut part, event),
                }
            }
            let page = made(part).0.unwrap();
            assert_eq!((page.through, page.events.len()), (Position(401), events.len()));
            assert!(page.events == events);
        }
    }

    #[test]
    fn a_part_is_full_once_it_has_so_many_events_or_takes_so_many_bytes_however_they_came() {
        let without_data = |n| Recorded { envelope: Envelope::raw("a.b", ""), ..event(n) };
        let most = [(10, usize::MAX, 10), (usize::MAX, 9 * memory_of(&without_data(1)) + 1, 10), (0, 0, 0)];
        for (events, bytes, count) in most {
            let mut part = Part::new(Position(99), Most { events, bytes });
            (1..=count).for_each(|n| {
                assert!(!part.is_full(), "{n}");
                part.push(without_data(n));
            });
            assert!(part.is_full());
        }
        // Names and tags take as much as data do.
        let tagged = |n: u64| {
            let tags = (0..16).map(|tag| format!("{tag:0>100}"));
            let stream = StreamId::new("a", format!("{n:0>100}")).unwrap();
            Recorded { stream, envelope: Envelope::raw("a.b", "").tagged(tags), ..event(n) }
        };
        for is_made in [false, true] {
            let (mut part, mut count) =
                (Part::new(Position(99), Most { events: usize::MAX, bytes: 20_000 }), 0);
            while !part.is_full() {
                count += 1;
                match is_made {
                    true => part.push(tagged(count)),
                    false => pack_into(&mut part, &tagged(count)),
                }
            }
            assert!((8..13).contains(&count), "{count}");
        }
    }

    #[test]
    fn who_makes_many_events_leaves_others_their_turn_and_who_makes_a_usual_page_does_not_wait() {
        for (events, expected) in [(0, 0), (1, 0), (TURN, 0), (TURN + 1, 1), (3 * TURN, 2)] {
            let mut part = Part::new(Position(events as u64), ALL);
            (1..=events as u64)
                .for_each(|n| pack_into(&mut part, &Recorded { position: Position(n), ..event(1) }));
            let (page, turns) = made(part);
            assert_eq!((page.unwrap().events.len(), turns), (events, expected));
        }
    }

    #[test]
    fn an_event_that_cannot_be_made_is_named() {
        let mut part = Part::new(Position(9), ALL);
        pack_into(&mut part, &event(7));
        part.pack(8, &header(8, "nameless", &Envelope::raw("a.b", "1")), b"1");
        let Err(ReadError::Unreadable { what, source }) = made(part).0 else { panic!("it was made") };
        assert_eq!(what, "the event at 8 (`a.b` of the stream `nameless`)");
        assert!(source.to_string().contains("dash"), "{source}");
    }
}
