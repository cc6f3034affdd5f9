//! The W3C trace context (<https://www.w3.org/TR/trace-context/>, level 1): which trace a message belongs to.

use std::fmt;
use std::str::FromStr;

/// A position in a trace: the trace's id, the id of the span that sent this, and the trace flags.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TraceContext {
    /// 16 bytes, never all zero.
    pub trace_id: u128,
    /// 8 bytes, never all zero.
    pub span_id: u64,
    /// Bit 0 is *sampled*.
    pub flags: u8,
}

impl TraceContext {
    /// The first span of a new trace.
    pub fn root() -> Self {
        Self { trace_id: random(), span_id: random_span(), flags: 1 }
    }

    /// A new span of the same trace.
    pub fn child(self) -> Self {
        Self { span_id: random_span(), ..self }
    }

    /// The trace's id as 32 hex digits.
    pub fn trace_id_hex(&self) -> String {
        format!("{:032x}", self.trace_id)
    }
}

fn random() -> u128 {
    uuid::Uuid::new_v4().as_u128()
}

fn random_span() -> u64 {
    (random() as u64).max(1)
}

impl fmt::Display for TraceContext {
    /// The value of a `traceparent` header.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "00-{:032x}-{:016x}-{:02x}", self.trace_id, self.span_id, self.flags)
    }
}

impl FromStr for TraceContext {
    type Err = ParseTraceError;

    /// Reads a `traceparent` header: lower-case hex only, no zero ids, and from versions after 00 only what
    /// version 00 has.
    fn from_str(text: &str) -> Result<Self, ParseTraceError> {
        let mut parts = text.split('-');
        let mut next = |len: usize| parts.next().filter(|part| part.len() == len && is_lower_hex(part));
        let (version, trace, span, flags) = (next(2), next(32), next(16), next(2));
        let (Some(version), Some(trace), Some(span), Some(flags)) = (version, trace, span, flags) else {
            return Err(ParseTraceError);
        };
        if version == "ff" || (version == "00" && parts.next().is_some()) {
            return Err(ParseTraceError);
        }
        let trace_id = u128::from_str_radix(trace, 16).map_err(|_| ParseTraceError)?;
        let span_id = u64::from_str_radix(span, 16).map_err(|_| ParseTraceError)?;
        let flags = u8::from_str_radix(flags, 16).map_err(|_| ParseTraceError)?;
        if trace_id == 0 || span_id == 0 {
            return Err(ParseTraceError);
        }
        Ok(Self { trace_id, span_id, flags: flags & 1 })
    }
}

fn is_lower_hex(part: &str) -> bool {
    part.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

/// The text is not a `traceparent` header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a traceparent header (00-<32 hex digits>-<16 hex digits>-<2 hex digits>)")]
pub struct ParseTraceError;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_that_was_written_is_read_back() {
        let context = TraceContext::root();
        assert_eq!(context.to_string().parse(), Ok(context));
        assert_eq!(context.child().trace_id, context.trace_id);
        assert_ne!(context.child().span_id, context.span_id);
    }

    #[test]
    fn what_the_standard_forbids_is_refused() {
        let good = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        assert!(good.parse::<TraceContext>().is_ok());
        for bad in [
            "",
            "00",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more",
            "00-4bf92f3577b34da6a3ce929d0e0e47-00f067aa0ba902b7-01",
        ] {
            assert_eq!(bad.parse::<TraceContext>(), Err(ParseTraceError), "{bad}");
        }
    }
}
