//! The bytes of an HTTP/1.1 connection, followed from message to message.

use super::head::{Framing, Violation, check_head};

/// Follows a connection's bytes and lets pass only those that belong to a well-formed request.
///
/// It stands in front of the server's parser, because a parser that repairs a message hides that it did: a
/// `Content-Length` beside `Transfer-Encoding`, say, is gone from the headers that a service gets to see. A head passes
/// whole or not at all; a body passes as it comes.
#[derive(Debug)]
pub struct Scanner {
    at: At,
    /// How many bytes of an unfinished head were looked at.
    searched: usize,
    max_head: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum At {
    Head,
    Sized(u64),
    ChunkSize,
    Chunk(u64),
    ChunkEnd,
    LastLine,
}

impl Scanner {
    /// A scanner at the start of a connection whose heads may have `max_head` bytes.
    pub fn new(max_head: usize) -> Self {
        Self { at: At::Head, searched: 0, max_head }
    }

    /// Whether the next byte belongs to a head (or would begin one).
    pub fn in_head(&self) -> bool {
        self.at == At::Head
    }

    /// How many of the bytes that have not passed yet may pass now; 0 if more are needed to say.
    ///
    /// Bytes in front of a violation pass first; the violation is told when it is at the front.
    pub fn scan(&mut self, unread: &[u8]) -> Result<usize, Violation> {
        let mut passed = 0;
        loop {
            match self.step(&unread[passed..]) {
                Ok(0) => return Ok(passed),
                Ok(more) => passed += more,
                Err(violation) if passed == 0 => return Err(violation),
                Err(_) => return Ok(passed),
            }
        }
    }

    fn step(&mut self, rest: &[u8]) -> Result<usize, Violation> {
        if rest.is_empty() {
            return Ok(0);
        }
        match self.at {
            At::Head => self.head(rest),
            At::Sized(left) => Ok(self.pass(rest, left, At::Sized, At::Head)),
            At::ChunkSize => self.chunk_size(rest),
            At::Chunk(left) => Ok(self.pass(rest, left, At::Chunk, At::ChunkEnd)),
            At::ChunkEnd => self.line_end(rest, At::ChunkSize, Violation::Chunk),
            At::LastLine => self.line_end(rest, At::Head, Violation::Trailers),
        }
    }

    fn head(&mut self, rest: &[u8]) -> Result<usize, Violation> {
        let Some(len) = self.head_end(rest)? else {
            return Ok(0);
        };
        let framing = check_head(&rest[..len])?;
        self.searched = 0;
        self.at = match framing {
            Framing::Empty => At::Head,
            Framing::Sized(length) => At::Sized(length),
            Framing::Chunked => At::ChunkSize,
        };
        Ok(len)
    }

    /// Where the head ends. Lone line ends are refused at once: a head made of them would never end.
    fn head_end(&mut self, rest: &[u8]) -> Result<Option<usize>, Violation> {
        let window = &rest[..rest.len().min(self.max_head)];
        for at in self.searched..window.len() {
            let after_cr = at > 0 && window[at - 1] == b'\r';
            if (window[at] == b'\n') != after_cr {
                return Err(Violation::LineEnd);
            }
            if window[..=at].ends_with(b"\r\n\r\n") {
                self.searched = at;
                return Ok(Some(at + 1));
            }
        }
        self.searched = window.len();
        if rest.len() >= self.max_head { Err(Violation::HeadTooLarge) } else { Ok(None) }
    }

    /// Lets pass what is left of a run of bytes.
    fn pass(&mut self, rest: &[u8], left: u64, more: fn(u64) -> At, then: At) -> usize {
        let now = rest.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        let left = left - now as u64;
        self.at = if left == 0 { then } else { more(left) };
        now
    }

    /// A size line: 1 to 8 hex digits and nothing else.
    fn chunk_size(&mut self, rest: &[u8]) -> Result<usize, Violation> {
        let digits = rest.iter().take(9).take_while(|byte| byte.is_ascii_hexdigit()).count();
        let end = &rest[digits..rest.len().min(digits + 2)];
        if digits > 8 || !b"\r\n".starts_with(end) || (digits == 0 && !end.is_empty()) {
            return Err(Violation::Chunk);
        }
        if end.len() < 2 {
            return Ok(0);
        }
        let size =
            std::str::from_utf8(&rest[..digits]).ok().and_then(|hex| u64::from_str_radix(hex, 16).ok());
        self.at = match size.ok_or(Violation::Chunk)? {
            0 => At::LastLine,
            size => At::Chunk(size),
        };
        Ok(digits + 2)
    }

    fn line_end(&mut self, rest: &[u8], then: At, otherwise: Violation) -> Result<usize, Violation> {
        let end = &rest[..rest.len().min(2)];
        if !b"\r\n".starts_with(end) {
            return Err(otherwise);
        }
        if end.len() < 2 {
            return Ok(0);
        }
        self.at = then;
        Ok(2)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a scanner lets pass of `bytes` when it gets them in pieces of `size`, and what it says in the end.
    fn in_pieces(bytes: &[u8], size: usize) -> (Vec<u8>, Option<Violation>) {
        let mut scanner = Scanner::new(4096);
        let (mut waiting, mut passed) = (Vec::new(), Vec::new());
        for piece in bytes.chunks(size) {
            waiting.extend_from_slice(piece);
            loop {
                match scanner.scan(&waiting) {
                    Ok(0) => break,
                    Ok(more) => passed.extend(waiting.drain(..more)),
                    Err(violation) => return (passed, Some(violation)),
                }
            }
        }
        (passed, None)
    }

    const GOOD: &[u8] = b"GET /a HTTP/1.1\r\nHost: x\r\n\r\nPOST /b HTTP/1.1\r\nhost: x:80\r\ncontent-length: 3\r\n\r\nabc\
        POST /c HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n1a\r\nabcdefghijklmnopqrstuvwxyz\r\n0\r\n\r\n\
        GET /d HTTP/1.0\r\nHost: [::1]:8080\r\n\r\n";

    #[test]
    fn well_formed_requests_pass_whole_however_they_are_cut() {
        for size in 1..=GOOD.len() {
            assert_eq!(in_pieces(GOOD, size), (GOOD.to_vec(), None), "pieces of {size}");
        }
    }

    #[test]
    fn what_comes_before_a_violation_passes_and_nothing_behind_it() {
        let mut bytes = GOOD.to_vec();
        bytes.extend_from_slice(
            b"GET / HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\nGET /e HTTP/1.1\r\nHost: x\r\n\r\n",
        );
        for size in 1..=bytes.len() {
            assert_eq!(
                in_pieces(&bytes, size),
                (GOOD.to_vec(), Some(Violation::TwoHosts)),
                "pieces of {size}"
            );
        }
    }

    #[test]
    fn a_malformed_head_is_refused_however_it_is_cut() {
        use Violation::*;
        for (head, violation) in [
            ("GET / HTTP/1.1\r\n\r\n", NoHost),
            ("GET / HTTP/1.1\r\nHost:\r\n\r\n", BadHost),
            ("GET / HTTP/1.1\r\nHost: a, b\r\n\r\n", BadHost),
            ("GET / HTTP/1.1\r\nHost: user@a\r\n\r\n", BadHost),
            ("GET / HTTP/1.1\r\nHost: a/b\r\n\r\n", BadHost),
            ("GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", TwoHosts),
            ("GET / HTTP/1.1\nHost: a\r\n\r\n", LineEnd),
            ("GET / HTTP/1.1\r\nHost: a\n\n", LineEnd),
            ("GET / HTTP/1.1\r\nHost: a\r\nX: a\rb\r\n\r\n", LineEnd),
            ("\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", RequestLine),
            ("GET  / HTTP/1.1\r\nHost: a\r\n\r\n", RequestLine),
            ("GET / HTTP/1.1 \r\nHost: a\r\n\r\n", RequestLine),
            ("GET /\r\nHost: a\r\n\r\n", RequestLine),
            ("GET /a b HTTP/1.1\r\nHost: a\r\n\r\n", RequestLine),
            ("GET /\x01 HTTP/1.1\r\nHost: a\r\n\r\n", RequestLine),
            ("get / HTTP/1.1\r\nHost: a\r\n\r\n", RequestLine),
            ("G(T / HTTP/1.1\r\nHost: a\r\n\r\n", RequestLine),
            ("GET / HTTP/1.2\r\nHost: a\r\n\r\n", Version),
            ("GET / HTTP/2.0\r\nHost: a\r\n\r\n", Version),
            ("GET / HTTP/1.1\r\nHost : a\r\n\r\n", HeaderName),
            ("GET / HTTP/1.1\r\nHost: a\r\n: b\r\n\r\n", HeaderName),
            ("GET / HTTP/1.1\r\nHost: a\r\nnonsense\r\n\r\n", HeaderName),
            ("GET / HTTP/1.1\r\nHost: a\r\nX Y: b\r\n\r\n", HeaderName),
            ("GET / HTTP/1.1\r\nHost: a\r\nX: b\r\n c\r\n\r\n", Folded),
            ("GET / HTTP/1.1\r\n Host: a\r\n\r\n", Folded),
            ("GET / HTTP/1.1\r\nHost: a\r\nX: a\0b\r\n\r\n", HeaderValue),
            ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n", ContentLength),
            ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1, 1\r\n\r\n", ContentLength),
            ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +1\r\n\r\n", ContentLength),
            ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0x1\r\n\r\n", ContentLength),
            ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length:\r\n\r\n", ContentLength),
            ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999999999999\r\n\r\n", ContentLength),
            (
                "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n",
                TwoFramings,
            ),
            (
                "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n",
                TwoFramings,
            ),
            ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, chunked\r\n\r\n", TransferEncoding),
            ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", TransferEncoding),
            ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: identity\r\n\r\n", TransferEncoding),
            ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: xchunked\r\n\r\n", TransferEncoding),
            (
                "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n",
                TransferEncoding,
            ),
            ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding:\r\n\r\n", TransferEncoding),
            ("POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n", TransferEncoding),
            ("GET / HTTP/1.1\r\nHost: a\r\nAuthorization: a\r\nAuthorization: b\r\n\r\n", TwoAuthorizations),
        ] {
            for size in [1, 2, 3, 7, head.len()] {
                assert_eq!(in_pieces(head.as_bytes(), size), (vec![], Some(violation)), "{head:?} by {size}");
            }
        }
    }

    #[test]
    fn a_malformed_chunk_is_refused() {
        let head = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
        for (body, passes, violation) in [
            ("x\r\n", 0, Violation::Chunk),
            ("\r\n", 0, Violation::Chunk),
            ("5;name=value\r\nhello\r\n", 0, Violation::Chunk),
            ("5 \r\nhello\r\n", 0, Violation::Chunk),
            ("5\nhello\r\n", 0, Violation::Chunk),
            ("-5\r\n", 0, Violation::Chunk),
            ("0x5\r\n", 0, Violation::Chunk),
            ("000000005\r\n", 0, Violation::Chunk),
            ("5\r\nhello!\r\n", 8, Violation::Chunk),
            ("5\r\nhello\n", 8, Violation::Chunk),
            ("0\r\nX: y\r\n\r\n", 3, Violation::Trailers),
        ] {
            let bytes = format!("{head}{body}");
            for size in [1, 2, 5, bytes.len()] {
                let (passed, said) = in_pieces(bytes.as_bytes(), size);
                assert_eq!(
                    (passed.len() - head.len(), said),
                    (passes, Some(violation)),
                    "{body:?} by {size}"
                );
            }
        }
    }

    #[test]
    fn a_head_without_end_is_refused_at_the_limit() {
        let endless = format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}", "x".repeat(5000));
        assert_eq!(in_pieces(endless.as_bytes(), 100).1, Some(Violation::HeadTooLarge));
        let many = format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "X: y\r\n".repeat(200));
        assert_eq!(in_pieces(many.as_bytes(), 100).1, Some(Violation::HeadTooLarge));
    }
}
