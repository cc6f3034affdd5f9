//! The gateway's decisions, pure: no socket, no clock, no dice; what they need to know is an argument.
//!
//! [`wire`] reads the bytes of an HTTP/1.1 connection before the server's own parser does and refuses every message
//! that two parsers could read differently. [`target`] gives a path the one spelling that routing, access and
//! forwarding all use. [`route`] picks the longest matching route, [`access`] says who may pass, [`headers`] writes
//! what goes on. What is not let through becomes a [`Refusal`].
//!
//! ```
//! use purlin_gateway::core::{Framing, Scanner, Violation};
//!
//! let mut scanner = Scanner::new(16 << 10);
//! let good = b"GET / HTTP/1.1\r\nHost: shop\r\n\r\n";
//! assert_eq!(scanner.scan(good), Ok(good.len()));
//! let smuggled = b"POST / HTTP/1.1\r\nHost: shop\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n";
//! assert_eq!(scanner.scan(smuggled), Err(Violation::TwoFramings));
//! ```

mod access;
mod head;
mod headers;
mod refusal;
mod request;
mod route;
mod target;
mod wire;

pub use access::{Access, Caller, RateKey};
pub use head::{Framing, Violation};
pub use headers::{Forwarded, rewrite_request, rewrite_response};
pub use refusal::Refusal;
pub use request::{Checked, check};
pub use route::{NoRoute, RouteTable};
pub use target::{BadPath, normal_path};
pub use wire::Scanner;
