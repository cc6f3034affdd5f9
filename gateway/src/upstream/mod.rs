//! The services behind the gateway: whose turn it is, and one request to one of them.
//!
//! A request goes to the endpoints of its pool in turn. It is tried at another one only if nothing of it was sent,
//! because no connection could be made; an endpoint where that happened is tried last for a while. A request that does
//! no harm twice is sent once more when its connection broke before its answer and its body is still whole. Bodies pass
//! through as they come, in both directions; the deadline ends with the head of the answer, so that a stream may last.
//!
//! A request goes through the breaker of its pool: a service that is away is left alone for a while, and whoever wants it
//! is told so at once. What the breaker counts is what the service did; what callers do counts for nothing. While it is
//! half-open a request is a probe only once its body is here, and only for a second: then it goes on, and others may probe.
//!
//! A service that hangs must not take what the others need: of each pool only so many requests are under way, until the
//! last byte of their answers, and the next one is refused at once. Of a pool's endpoints the one with the fewest comes
//! first, so that one that hangs gets hardly more than it has already.

mod aside;
mod blame;
mod body;
#[cfg(test)]
mod cut;
mod pool;
mod room;
mod send;
mod wire;

pub(crate) use room::Room;
pub(crate) use send::{Call, Carried, Upstreams};
