//! Where an event comes from, and how that is stored beside it.

use uuid::Uuid;

use super::{Tags, Timestamp, TraceContext};

/// Where an event comes from; each part is absent when nobody knew it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Meta {
    /// The trace that the event was recorded in.
    pub trace: Option<TraceContext>,
    /// The first message of the conversation.
    pub correlation: Option<Uuid>,
    /// The message whose handling recorded this.
    pub causation: Option<Uuid>,
    /// Until when handling it is of use to somebody, in whole microseconds (the rest is cut off).
    pub deadline: Option<Timestamp>,
}

const TRACE: u8 = 1;
const CORRELATION: u8 = 2;
const CAUSATION: u8 = 4;
const TAGS: u8 = 8;
/// Written behind all else, so that programs which do not know it read the rest.
const DEADLINE: u8 = 16;

impl Meta {
    /// Writes it and the event's tags as an engine stores them, in place of what is there: a byte that says which
    /// parts are there, then the parts; nothing at all when there are none.
    pub fn encode(&self, tags: &Tags, into: &mut Vec<u8>) {
        into.clear();
        if *self == Self::default() && tags.is_empty() {
            return;
        }
        into.push(0);
        if let Some(trace) = self.trace {
            into[0] |= TRACE;
            into.extend_from_slice(&trace.trace_id.to_be_bytes());
            into.extend_from_slice(&trace.span_id.to_be_bytes());
            into.push(trace.flags);
        }
        for (bit, id) in [(CORRELATION, self.correlation), (CAUSATION, self.causation)] {
            if let Some(id) = id {
                into[0] |= bit;
                into.extend_from_slice(id.as_bytes());
            }
        }
        // Their number and lengths fit a byte: what does not is refused before it comes to an engine.
        if let Ok(count @ 1..) = u8::try_from(tags.len()) {
            into[0] |= TAGS;
            into.push(count);
            for tag in tags.iter() {
                into.push(u8::try_from(tag.len()).unwrap_or(u8::MAX));
                into.extend_from_slice(tag.as_bytes());
            }
        }
        if let Some(deadline) = self.deadline {
            into[0] |= DEADLINE;
            into.extend_from_slice(&deadline.as_microsecond().to_be_bytes());
        }
    }

    /// Reads what [`Meta::encode`] wrote; none when it is damaged.
    pub fn decode(bytes: &[u8]) -> Option<(Self, Tags)> {
        let (mut meta, mut tags) = (Self::default(), Tags::none());
        let Some((&parts, mut rest)) = bytes.split_first() else { return Some((meta, tags)) };
        let mut take = |len: usize| {
            let (part, behind) = rest.split_at_checked(len)?;
            rest = behind;
            Some(part)
        };
        if parts & TRACE != 0 {
            meta.trace = Some(TraceContext {
                trace_id: u128::from_be_bytes(take(16)?.try_into().ok()?),
                span_id: u64::from_be_bytes(take(8)?.try_into().ok()?),
                flags: take(1)?[0],
            });
        }
        if parts & CORRELATION != 0 {
            meta.correlation = Uuid::from_slice(take(16)?).ok();
        }
        if parts & CAUSATION != 0 {
            meta.causation = Uuid::from_slice(take(16)?).ok();
        }
        if parts & TAGS != 0 {
            let mut all: Vec<std::sync::Arc<str>> = Vec::new();
            for _ in 0..take(1)?[0] {
                let len = usize::from(take(1)?[0]);
                all.push(std::str::from_utf8(take(len)?).ok()?.into());
            }
            tags = Tags::new(all);
        }
        if parts & DEADLINE != 0 {
            let micros = i64::from_be_bytes(take(8)?.try_into().ok()?);
            meta.deadline = Some(Timestamp::from_microsecond(micros).ok()?);
        }
        Some((meta, tags))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_read_back_whatever_is_absent_and_not_when_it_is_cut() {
        let trace = Some(TraceContext { trace_id: 7, span_id: 8, flags: 1 });
        let late = Timestamp::from_microsecond(1_700_000_000_123_456).ok();
        let (one, two) = (Some(Uuid::from_u128(1)), Some(Uuid::from_u128(2)));
        for trace in [None, trace] {
            for correlation in [None, one] {
                for causation in [None, two] {
                    for (tags, deadline) in [
                        (Tags::none(), None),
                        (Tags::new(["a:1", "ключ:2"]), None),
                        (Tags::none(), late),
                        (Tags::new(["a:1"]), late),
                    ] {
                        let meta = Meta { trace, correlation, causation, deadline };
                        let mut bytes = Vec::new();
                        meta.encode(&tags, &mut bytes);
                        assert_eq!(Meta::decode(&bytes), Some((meta, tags)));
                        if bytes.len() > 1 {
                            assert_eq!(Meta::decode(&bytes[..bytes.len() - 1]), None);
                        }
                    }
                }
            }
        }
    }
}
