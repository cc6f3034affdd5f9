//! A body that nobody wanted: read if it is small, so that the connection can go on behind it.

use std::time::Duration;

use http::header::EXPECT;
use http::{HeaderMap, Version};
use http_body_util::BodyExt as _;
use hyper::body::{Body as _, Incoming};

/// How much of an unwanted body is read, and how long it is waited for.
const MOST: u64 = 64 << 10;
const WAIT: Duration = Duration::from_secs(1);

/// The body of a request, until somebody takes it.
#[derive(Debug)]
pub(crate) struct Unread {
    body: Option<Incoming>,
    /// Whether the caller sends one at all.
    any: bool,
    /// Whether he sends it only when asked to.
    waits: bool,
}

impl Unread {
    /// The body of a request with these headers.
    pub(crate) fn new(headers: &HeaderMap, body: Incoming) -> Self {
        Self { any: !body.is_end_stream(), body: Some(body), waits: headers.contains_key(EXPECT) }
    }

    /// The body, for whoever reads it.
    pub(crate) fn take(&mut self) -> Option<Incoming> {
        self.body.take()
    }

    /// Gives the body back, or what is left of it.
    pub(crate) fn give_back(&mut self, body: Option<Incoming>) {
        self.body = body;
    }

    /// Reads what is left if that is little; says whether the next request can follow on the connection.
    pub(crate) async fn drain(self, version: Version) -> bool {
        // A stream of HTTP/2 ends without the others.
        if !self.any || version >= Version::HTTP_2 {
            return true;
        }
        match self.body {
            Some(body) if body.is_end_stream() => true,
            Some(body) if !self.waits && body.size_hint().lower() <= MOST => {
                tokio::time::timeout(WAIT, read(body)).await.unwrap_or(false)
            }
            _ => false,
        }
    }
}

/// Reads to the end; whether that came soon enough.
async fn read(mut body: Incoming) -> bool {
    let mut left = MOST;
    while let Some(frame) = body.frame().await {
        let len = frame.ok().and_then(|frame| frame.into_data().ok()).map(|data| data.len() as u64);
        match len.and_then(|len| left.checked_sub(len)) {
            Some(less) => left = less,
            None => return false,
        }
    }
    true
}
