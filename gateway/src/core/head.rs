//! The head of one HTTP/1.1 request, read strictly: what RFC 9112 lets a server repair is refused here.

/// How the body behind a head is delimited.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// There is no body.
    Empty,
    /// So many bytes.
    Sized(u64),
    /// In chunks.
    Chunked,
}

/// Why a message is refused before anybody tries to understand it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    /// A line ends with a lone LF, or a CR stands alone: parsers disagree on where the line ends.
    #[error("a line of the request does not end with CR LF")]
    LineEnd,
    /// The first line is not `METHOD target HTTP/1.x`, single spaces between, the method in capitals.
    #[error("the request line is malformed")]
    RequestLine,
    /// The protocol's version is not 1.0 or 1.1.
    #[error("the HTTP version is not supported")]
    Version,
    /// A header line has no name, a space before its colon, or bytes a name cannot have.
    #[error("a header's name is malformed")]
    HeaderName,
    /// A header line goes on in the next line (obs-fold).
    #[error("a header is folded over several lines")]
    Folded,
    /// A control character in a header's value.
    #[error("a header's value has a control character")]
    HeaderValue,
    /// No `Host`.
    #[error("the request has no Host header")]
    NoHost,
    /// More than one `Host`.
    #[error("the request has more than one Host header")]
    TwoHosts,
    /// A `Host` that is no host, or another one than the target names.
    #[error("the Host header is malformed, or is not the target's host")]
    BadHost,
    /// A `Content-Length` that is not one plain number, or is given twice.
    #[error("the Content-Length header is not one plain number")]
    ContentLength,
    /// Both `Content-Length` and `Transfer-Encoding`.
    #[error("the request has both Content-Length and Transfer-Encoding")]
    TwoFramings,
    /// A `Transfer-Encoding` other than one `chunked`, or one in HTTP/1.0.
    #[error("the Transfer-Encoding header is not exactly one `chunked`")]
    TransferEncoding,
    /// A chunk whose size line or end is malformed, or has an extension.
    #[error("a chunk of the body is malformed")]
    Chunk,
    /// Headers behind a chunked body.
    #[error("trailers are not accepted in a request")]
    Trailers,
    /// More than one `Authorization`.
    #[error("the request has more than one Authorization header")]
    TwoAuthorizations,
    /// The head is longer than the limit, or has too many headers.
    #[error("the request's head is too large")]
    HeadTooLarge,
    /// The head did not arrive in time.
    #[error("the request's head did not arrive in time")]
    HeadTooSlow,
}

/// How many headers a request may have: with those that we add, fewer than the 100 that the servers behind us read.
pub(crate) const MAX_HEADERS: usize = 90;

/// Checks a whole head, its last empty line included, and says how its body is framed.
pub(super) fn check_head(head: &[u8]) -> Result<Framing, Violation> {
    let lines = head.strip_suffix(b"\r\n\r\n").ok_or(Violation::LineEnd)?;
    let mut lines = split_lines(lines);
    let minor = request_line(lines.next().unwrap_or_default())?;
    let mut seen = Seen::default();
    for (count, line) in lines.enumerate() {
        if count == MAX_HEADERS {
            return Err(Violation::HeadTooLarge);
        }
        seen.line(line)?;
    }
    seen.framing(minor)
}

fn split_lines(mut rest: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut done = false;
    std::iter::from_fn(move || {
        if done {
            return None;
        }
        let end = rest.windows(2).position(|pair| pair == b"\r\n");
        let line = &rest[..end.unwrap_or(rest.len())];
        match end {
            Some(end) => rest = &rest[end + 2..],
            None => done = true,
        }
        Some(line)
    })
}

/// The minor version of a well-formed request line.
fn request_line(line: &[u8]) -> Result<u8, Violation> {
    let mut parts = line.split(|byte| *byte == b' ');
    let (Some(method), Some(target), Some(version), None) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err(Violation::RequestLine);
    };
    let method_is_good = (1..=32).contains(&method.len())
        && method.iter().all(|byte| byte.is_ascii_uppercase() || *byte == b'-');
    let target_is_good = !target.is_empty() && target.iter().all(u8::is_ascii_graphic);
    if !method_is_good || !target_is_good {
        return Err(Violation::RequestLine);
    }
    match version {
        b"HTTP/1.1" => Ok(1),
        b"HTTP/1.0" => Ok(0),
        _ if version.starts_with(b"HTTP/") => Err(Violation::Version),
        _ => Err(Violation::RequestLine),
    }
}

/// What of a head decides its framing.
#[derive(Default)]
struct Seen {
    host: bool,
    length: Option<u64>,
    chunked: bool,
    authorization: bool,
}

impl Seen {
    fn line(&mut self, line: &[u8]) -> Result<(), Violation> {
        if matches!(line.first(), Some(b' ' | b'\t')) {
            return Err(Violation::Folded);
        }
        let colon = line.iter().position(|byte| *byte == b':').ok_or(Violation::HeaderName)?;
        let (name, value) = (&line[..colon], line[colon + 1..].trim_ascii());
        if name.is_empty() || !name.iter().all(|byte| is_token(*byte)) {
            return Err(Violation::HeaderName);
        }
        if line[colon + 1..].iter().any(|byte| (*byte < b' ' && *byte != b'\t') || *byte == 0x7f) {
            return Err(Violation::HeaderValue);
        }
        self.framing_header(name, value)
    }

    fn framing_header(&mut self, name: &[u8], value: &[u8]) -> Result<(), Violation> {
        if name.eq_ignore_ascii_case(b"host") {
            if std::mem::replace(&mut self.host, true) {
                return Err(Violation::TwoHosts);
            }
            if !is_host(value) {
                return Err(Violation::BadHost);
            }
        } else if name.eq_ignore_ascii_case(b"content-length") {
            let length = plain_number(value).ok_or(Violation::ContentLength)?;
            if self.length.replace(length).is_some() {
                return Err(Violation::ContentLength);
            }
        } else if name.eq_ignore_ascii_case(b"transfer-encoding") {
            if !value.eq_ignore_ascii_case(b"chunked") || std::mem::replace(&mut self.chunked, true) {
                return Err(Violation::TransferEncoding);
            }
        } else if name.eq_ignore_ascii_case(b"authorization")
            && std::mem::replace(&mut self.authorization, true)
        {
            return Err(Violation::TwoAuthorizations);
        }
        Ok(())
    }

    fn framing(&self, minor: u8) -> Result<Framing, Violation> {
        if !self.host {
            return Err(Violation::NoHost);
        }
        match (self.length, self.chunked) {
            (Some(_), true) => Err(Violation::TwoFramings),
            (None, true) if minor == 0 => Err(Violation::TransferEncoding),
            (None, true) => Ok(Framing::Chunked),
            (Some(0) | None, false) => Ok(Framing::Empty),
            (Some(length), false) => Ok(Framing::Sized(length)),
        }
    }
}

/// A number of 1 to 15 decimal digits: no sign, no list, no space, far from any overflow.
pub(super) fn plain_number(value: &[u8]) -> Option<u64> {
    if !(1..=15).contains(&value.len()) || !value.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(value).ok()?.parse().ok()
}

/// A host and perhaps a port: no user, no path, no list, no space.
pub(super) fn is_host(value: &[u8]) -> bool {
    let plain = |byte: &u8| {
        byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b':' | b'[' | b']' | b'~')
    };
    (1..=255).contains(&value.len()) && value.iter().all(plain) && !value.starts_with(b":")
}

fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}
