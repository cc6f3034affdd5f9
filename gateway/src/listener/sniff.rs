//! Which protocol a connection speaks: its first bytes say.

use std::io;

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncReadExt as _};

/// What a client that speaks HTTP/2 without being asked sends first (RFC 9113, 3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// The protocol, and the bytes that were read to know it.
#[derive(Debug)]
pub(super) enum Protocol {
    Http1(BytesMut),
    Http2(BytesMut),
}

/// Reads until the protocol is known; nothing if the connection ends before its first byte.
pub(super) async fn sniff(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Option<Protocol>> {
    let mut read = BytesMut::with_capacity(4096);
    loop {
        if stream.read_buf(&mut read).await? == 0 {
            return Ok((!read.is_empty()).then_some(Protocol::Http1(read)));
        }
        let seen = read.len().min(PREFACE.len());
        if read[..seen] != PREFACE[..seen] {
            return Ok(Some(Protocol::Http1(read)));
        }
        if seen == PREFACE.len() {
            return Ok(Some(Protocol::Http2(read)));
        }
    }
}
