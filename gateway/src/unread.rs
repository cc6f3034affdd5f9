//! The body of a request until a service gets it: waited for where it must be whole first, and one that nobody wanted read
//! if it is small, so that the connection can go on behind it.

use std::collections::VecDeque;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::header::EXPECT;
use http::{HeaderMap, Version};
use http_body_util::BodyExt as _;
use hyper::body::{Body, Frame, Incoming, SizeHint};

/// How much of an unwanted body is read, and how long it is waited for.
const MOST: u64 = 64 << 10;
const WAIT: Duration = Duration::from_secs(1);

/// The body of a request, until somebody takes it.
#[derive(Debug)]
pub(crate) struct Unread {
    body: Option<Inbound>,
    /// Whether the caller sends one at all.
    any: bool,
    /// Whether he sends it only when asked to.
    waits: bool,
}

impl Unread {
    /// The body of a request with these headers.
    pub(crate) fn new(headers: &HeaderMap, body: Incoming) -> Self {
        let any = !body.is_end_stream();
        Self { any, body: Some(Inbound::new(body)), waits: headers.contains_key(EXPECT) }
    }

    /// Whether more of the body is still to come.
    pub(crate) fn is_awaited(&self) -> bool {
        self.body.as_ref().is_some_and(|body| !body.rest.is_end_stream())
    }

    /// Whether the caller says that it is longer than this.
    pub(crate) fn is_longer(&self, than: u64) -> bool {
        self.body.as_ref().is_some_and(|body| body.size_hint().lower() > than)
    }

    /// Waits until the body is here, or `most` bytes of it and more; says whether it is whole. One that breaks off is
    /// none.
    pub(crate) async fn arrives(&mut self, most: u64) -> Option<bool> {
        match &mut self.body {
            Some(body) => body.arrives(most).await,
            None => Some(true),
        }
    }

    /// The body, for whoever reads it.
    pub(crate) fn take(&mut self) -> Option<Inbound> {
        self.body.take()
    }

    /// Gives the body back, or what is left of it.
    pub(crate) fn give_back(&mut self, body: Option<Inbound>) {
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
async fn read(mut body: Inbound) -> bool {
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

/// A caller's body, the beginning of which may be here already.
#[derive(Debug)]
pub(crate) struct Inbound {
    ready: VecDeque<Bytes>,
    rest: Incoming,
}

impl Inbound {
    fn new(rest: Incoming) -> Self {
        Self { ready: VecDeque::new(), rest }
    }

    async fn arrives(&mut self, most: u64) -> Option<bool> {
        let mut have: u64 = self.ready.iter().map(|bytes| bytes.len() as u64).sum();
        while have <= most {
            if self.rest.is_end_stream() {
                return Some(true);
            }
            let Some(frame) = self.rest.frame().await else { return Some(true) };
            // No service asks for trailers, behind which nothing comes.
            let Ok(data) = frame.ok()?.into_data() else { return Some(true) };
            have += data.len() as u64;
            self.ready.push_back(data);
        }
        Some(self.rest.is_end_stream())
    }
}

impl Body for Inbound {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        match self.ready.pop_front() {
            Some(bytes) => Poll::Ready(Some(Ok(Frame::data(bytes)))),
            None => Pin::new(&mut self.rest).poll_frame(context),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.ready.is_empty() && self.rest.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let ready: u64 = self.ready.iter().map(|bytes| bytes.len() as u64).sum();
        let rest = self.rest.size_hint();
        let mut hint = SizeHint::new();
        if let Some(upper) = rest.upper() {
            hint.set_upper(upper.saturating_add(ready));
        }
        hint.set_lower(rest.lower().saturating_add(ready));
        hint
    }
}
