//! What is known of an event but its data, as the one value in which it is stored.
//!
//! SQLite takes its time for each column of a row, when it is written and when it is read (decision 19 has figures): what
//! an event consists of is packed into one.
//!
//! | bytes | |
//! |---|---|
//! | 4 | the checksum of all that follows here, and of the position |
//! | 8, 8 | the version, and the time in microseconds: what the writer gives |
//! | 4 | the checksum of the data |
//! | 16 | the id |
//! | 2, 1 | the schema, and whether it is public |
//! | 1, 2 | the lengths of the stream's name and of the kind |
//! | | the stream's name, the kind, and to the end what [`Meta::encode`] writes |
//!
//! Numbers have their lowest byte first. Behind version and time stands the *body*, which a caller knows before the event
//! has a place.

use purlin::message::Envelope;
#[cfg(doc)]
use purlin::message::Meta;

use crate::checksum::{Sum, data_sum};

/// Bytes before the body.
const PLACE: usize = 4 + 8 + 8;

/// Bytes of a body before the stream's name.
const FIXED: usize = 4 + 16 + 2 + 1 + 1 + 2;

/// An event's parts, but for its place and its data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Header<'a> {
    pub(crate) stream: &'a str,
    pub(crate) kind: &'a str,
    pub(crate) id: [u8; 16],
    pub(crate) schema: u16,
    pub(crate) public: bool,
    /// What [`Meta::encode`] wrote.
    pub(crate) meta: &'a [u8],
}

/// A header that was stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Unpacked<'a> {
    pub(crate) header: Header<'a>,
    pub(crate) version: u64,
    pub(crate) at: i64,
    /// The checksum that the data must have.
    pub(crate) data: u32,
}

/// Adds an event's body to others, each behind its length and its checksum. Nothing is refused here: what is too long
/// was refused before.
pub(crate) fn pack_body(stream: &str, event: &Envelope, meta: &mut Vec<u8>, into: &mut Vec<u8>) {
    event.meta.encode(&event.tags, meta);
    let begin = into.len();
    into.reserve(8 + FIXED + stream.len() + event.kind.len() + meta.len());
    into.extend_from_slice(&[0; 8]);
    into.extend_from_slice(&data_sum(&event.data).to_le_bytes());
    into.extend_from_slice(event.id.as_bytes());
    into.extend_from_slice(&event.schema.to_le_bytes());
    into.extend_from_slice(&[u8::from(event.public), u8::try_from(stream.len()).unwrap_or(u8::MAX)]);
    into.extend_from_slice(&u16::try_from(event.kind.len()).unwrap_or(u16::MAX).to_le_bytes());
    into.extend_from_slice(stream.as_bytes());
    into.extend_from_slice(event.kind.as_bytes());
    into.extend_from_slice(meta);
    let body = begin + 8;
    let len = u32::try_from(into.len() - body).unwrap_or(u32::MAX);
    let sum = Sum::default().bytes(&into[body..]);
    into[begin..begin + 4].copy_from_slice(&len.to_le_bytes());
    into[begin + 4..body].copy_from_slice(&sum.to_bytes());
}

/// The bodies that [`pack_body`] packed, each with its checksum.
pub(crate) fn bodies(mut packed: &[u8]) -> impl Iterator<Item = (Sum, &[u8])> {
    std::iter::from_fn(move || {
        let (len, rest) = packed.split_first_chunk()?;
        let (sum, rest) = rest.split_first_chunk()?;
        let (body, rest) = rest.split_at_checked(u32::from_le_bytes(*len) as usize)?;
        packed = rest;
        Some((Sum::from_bytes(*sum), body))
    })
}

/// The header of a body that now has a place, in place of what was there.
pub(crate) fn pack((sum, body): (Sum, &[u8]), [position, version, at]: [u64; 3], into: &mut Vec<u8>) {
    let sum = sum.numbers([position, version, at]);
    into.clear();
    into.extend_from_slice(&sum.to_bytes());
    into.extend_from_slice(&version.to_le_bytes());
    into.extend_from_slice(&at.to_le_bytes());
    into.extend_from_slice(body);
}

/// The checksum that the data of the event at a position must have; none when its header is not what was written.
pub(crate) fn check(stored: &[u8], position: u64) -> Option<u32> {
    let (sum, [version, at], body) = place(stored)?;
    let fits = Sum::default().bytes(body).numbers([position, version, at]);
    let data = body.first_chunk()?;
    (fits == sum).then(|| u32::from_le_bytes(*data))
}

/// The header of the event at a position; none when it is not what was written.
pub(crate) fn unpack(stored: &[u8], position: u64) -> Option<Unpacked<'_>> {
    check(stored, position)?;
    parse(stored)
}

/// A header that was checked before.
pub(crate) fn parse(stored: &[u8]) -> Option<Unpacked<'_>> {
    let (_, [version, at], body) = place(stored)?;
    let (data, header) = parts(body)?;
    Some(Unpacked { header, version, at: at.cast_signed(), data })
}

/// The checksum, the version and the time, and the body.
fn place(stored: &[u8]) -> Option<(Sum, [u64; 2], &[u8])> {
    let (sum, rest) = stored.split_first_chunk()?;
    let (version, rest) = rest.split_first_chunk()?;
    let (at, body) = rest.split_first_chunk()?;
    Some((Sum::from_bytes(*sum), [version, at].map(|number| u64::from_le_bytes(*number)), body))
}

/// Whether a stored header is that of the event with an id.
pub(crate) fn has_id(stored: &[u8], id: &[u8; 16]) -> bool {
    stored.get(PLACE..).and_then(parts).is_some_and(|(_, header)| header.id == *id)
}

/// The stream's name and the kind as they seem to be, whatever the checksum says.
pub(crate) fn seems(stored: &[u8]) -> Option<(&str, &str)> {
    let (_, header) = parts(stored.get(PLACE..)?)?;
    Some((header.stream, header.kind))
}

/// The checksum of the data, and the parts of a body.
fn parts(body: &[u8]) -> Option<(u32, Header<'_>)> {
    let (data, rest) = body.split_first_chunk()?;
    let (id, rest) = rest.split_first_chunk()?;
    let (&[schema, high, public, stream, kind, longer], rest) = rest.split_first_chunk()?;
    let (stream, kind) = (usize::from(stream), usize::from(u16::from_le_bytes([kind, longer])));
    let (names, meta) = rest.split_at_checked(stream + kind)?;
    let (stream, kind) = std::str::from_utf8(names).ok()?.split_at_checked(stream)?;
    let header = Header {
        stream,
        kind,
        id: *id,
        schema: u16::from_le_bytes([schema, high]),
        public: public == 1,
        meta,
    };
    Some((u32::from_le_bytes(*data), header))
}

#[cfg(test)]
mod tests {
    use purlin::message::Meta;

    use super::*;

    fn stored() -> Vec<u8> {
        let (mut meta, mut bodies_of, mut stored) = (Vec::new(), Vec::new(), Vec::new());
        let mut event = Envelope::raw("a.b", "{}").tagged(["t:1"]);
        event.id = purlin::message::Uuid::from_bytes([7; 16]);
        pack_body("a-1", &event, &mut meta, &mut bodies_of);
        pack(bodies(&bodies_of).next().unwrap(), [1, 2, 3], &mut stored);
        stored
    }

    #[test]
    fn a_header_is_the_same_for_ever() {
        let stored = stored();
        let body = [
            &data_sum(b"{}").to_le_bytes()[..],
            &[7; 16],
            &[1, 0, 0, 3, 3, 0],
            b"a-1a.b",
            &[8, 1, 3],
            b"t:1",
        ]
        .concat();
        assert_eq!(stored[PLACE..], body);
        assert_eq!(stored[4..PLACE], [2, 0, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0]);
        assert!(has_id(&stored, &[7; 16]) && !has_id(&stored, &[8; 16]));
        let unpacked = unpack(&stored, 1).unwrap();
        assert_eq!(check(&stored, 1), Some(data_sum(b"{}")));
        assert_eq!((unpacked.version, unpacked.at, unpacked.header.stream), (2, 3, "a-1"));
        assert_eq!((unpacked.header.kind, unpacked.header.schema, unpacked.header.public), ("a.b", 1, false));
        assert_eq!(Meta::decode(unpacked.header.meta).unwrap().1.as_slice().len(), 1);
    }

    #[test]
    fn whatever_is_changed_or_moved_is_told() {
        let whole = stored();
        assert!(unpack(&whole, 2).is_none() && check(&whole, 2).is_none(), "it is another's");
        for at in 0..whole.len() {
            let mut damaged = whole.clone();
            damaged[at] ^= 1;
            for (damaged, what) in [(&damaged[..], "changed"), (&whole[..at], "cut")] {
                let told = unpack(damaged, 1).is_none() && check(damaged, 1).is_none();
                assert!(told, "{what} at byte {at}");
            }
        }
        assert_eq!(seems(&whole), Some(("a-1", "a.b")));
    }

    #[test]
    fn bodies_stand_side_by_side() {
        let (mut meta, mut all) = (Vec::new(), Vec::new());
        for kind in ["a.b", "a.longer"] {
            pack_body("a-1", &Envelope::raw(kind, "{}"), &mut meta, &mut all);
        }
        let kinds: Vec<_> = bodies(&all).map(|(_, body)| parts(body).unwrap().1.kind).collect();
        assert_eq!(kinds, ["a.b", "a.longer"]);
    }
}
