//! The headers that go on: hop-by-hop and forged ones away, then ours.

use std::net::IpAddr;
use std::time::Duration;

use http::HeaderMap;
use http::header::{
    CONNECTION, CONTENT_LENGTH, EXPECT, HOST, HeaderName, HeaderValue, PROXY_AUTHENTICATE,
    PROXY_AUTHORIZATION, TE, TRAILER, TRANSFER_ENCODING, UPGRADE,
};
use purlin::http::{FAULT_KIND, FAULT_OF};
use purlin::message::TraceContext;

/// What the gateway says to a service about a request.
#[derive(Debug, Clone)]
pub struct Forwarded<'a> {
    /// The caller's address.
    pub peer: IpAddr,
    /// The host the caller meant.
    pub host: &'a str,
    /// The request's id.
    pub request_id: &'a str,
    /// The span that the service's work belongs to.
    pub trace: TraceContext,
    /// Whether `trace` goes on with one that the caller began; if not, his `tracestate` means nothing.
    pub continued: bool,
    /// How long the service has.
    pub remaining: Duration,
}

/// What only we may say: a service believes it.
const OURS: [&str; 10] = [
    "forwarded",
    "x-real-ip",
    "x-client-ip",
    "true-client-ip",
    "x-request-id",
    "x-request-timeout-ms",
    "grpc-timeout",
    "traceparent",
    "x-original-url",
    "x-rewrite-url",
];
/// Beginnings of names that only we may say.
const OUR_PREFIXES: [&str; 7] =
    ["x-forwarded-", "x-auth-", "x-user-", "x-remote-", "x-purlin-", "purlin-", "x-http-method"];
/// Identity headers in use that have no prefix of their own.
const IDENTITY: [&str; 4] = ["x-user", "x-auth", "remote-user", "x-authenticated-user"];

/// Makes a caller's headers those of the request to a service.
///
/// What `Connection` names goes first and ours come last: so a caller cannot have ours removed.
pub fn rewrite_request(headers: &mut HeaderMap, forwarded: &Forwarded<'_>) {
    strip_hop_by_hop(headers);
    let forged: Vec<HeaderName> = headers.keys().filter(|name| is_ours(name.as_str())).cloned().collect();
    for name in forged {
        headers.remove(name);
    }
    for name in [EXPECT, HOST, CONTENT_LENGTH] {
        headers.remove(name);
    }
    if !forwarded.continued {
        headers.remove("tracestate");
    }
    let millis = u64::try_from(forwarded.remaining.as_millis()).unwrap_or(u64::MAX);
    let mut set = |name: &'static str, value: String| {
        if let Ok(value) = HeaderValue::try_from(value) {
            headers.insert(HeaderName::from_static(name), value);
        }
    };
    set("x-forwarded-for", forwarded.peer.to_canonical().to_string());
    set("x-forwarded-host", forwarded.host.to_owned());
    set("x-forwarded-proto", "http".to_owned());
    set("x-request-id", forwarded.request_id.to_owned());
    set("traceparent", forwarded.trace.to_string());
    set("x-request-timeout-ms", millis.max(1).to_string());
}

/// Makes a service's headers those of the answer to the caller. Whose fault a failure is services tell us, and nobody else.
pub fn rewrite_response(headers: &mut HeaderMap) {
    strip_hop_by_hop(headers);
    headers.remove(FAULT_OF);
    headers.remove(FAULT_KIND);
}

fn strip_hop_by_hop(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = headers
        .get_all(CONNECTION)
        .iter()
        .flat_map(|value| value.as_bytes().split(|byte| *byte == b','))
        .filter_map(|name| HeaderName::from_bytes(name.trim_ascii()).ok())
        .collect();
    for name in named {
        headers.remove(name);
    }
    for name in [CONNECTION, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, TE, TRAILER, TRANSFER_ENCODING, UPGRADE]
    {
        headers.remove(name);
    }
    for name in ["keep-alive", "proxy-connection", "http2-settings"] {
        headers.remove(name);
    }
}

/// Whether a header is one that a caller may not send on. Names with an underscore go too: many a server reads
/// `X_Forwarded_For` as `X-Forwarded-For`.
fn is_ours(name: &str) -> bool {
    name.contains('_')
        || OURS.contains(&name)
        || IDENTITY.contains(&name)
        || OUR_PREFIXES.iter().any(|prefix| name.starts_with(prefix))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rewritten(written: &[(&str, &str)], continued: bool) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in written {
            headers.append(HeaderName::try_from(*name).unwrap(), HeaderValue::try_from(*value).unwrap());
        }
        let forwarded = Forwarded {
            peer: "10.1.2.3".parse().unwrap(),
            host: "shop",
            request_id: "ours",
            trace: TraceContext { trace_id: 1, span_id: 2, flags: 1 },
            continued,
            remaining: Duration::from_millis(1500),
        };
        rewrite_request(&mut headers, &forwarded);
        headers
    }

    #[test]
    fn what_a_caller_forges_does_not_arrive() {
        let headers = rewritten(
            &[
                ("X-Forwarded-For", "1.1.1.1"),
                ("X-Forwarded-For", "2.2.2.2"),
                ("x_forwarded_for", "3.3.3.3"),
                ("X-Forwarded-Port", "1"),
                ("X-Real-IP", "1.1.1.1"),
                ("Forwarded", "for=1.1.1.1"),
                ("X-User-Id", "root"),
                ("X-User", "root"),
                ("Purlin-Fault-Of", "another"),
                ("X-Auth-Role", "admin"),
                ("X-Original-URL", "/admin"),
                ("X-HTTP-Method-Override", "DELETE"),
                ("X-Request-Timeout-Ms", "99999999"),
                ("Grpc-Timeout", "1n"),
                ("traceparent", "forged"),
                ("tracestate", "a=b"),
                ("accept", "text/html"),
            ],
            false,
        );
        let mut seen: Vec<_> =
            headers.iter().map(|(name, value)| (name.as_str(), value.to_str().unwrap())).collect();
        seen.sort_unstable();
        assert_eq!(
            seen,
            [
                ("accept", "text/html"),
                ("traceparent", "00-00000000000000000000000000000001-0000000000000002-01"),
                ("x-forwarded-for", "10.1.2.3"),
                ("x-forwarded-host", "shop"),
                ("x-forwarded-proto", "http"),
                ("x-request-id", "ours"),
                ("x-request-timeout-ms", "1500"),
            ]
        );
    }

    #[test]
    fn what_connection_names_goes_but_never_ours() {
        let headers = rewritten(
            &[
                ("Connection", "close, X-Forwarded-For,x-forwarded-host , X-Secret"),
                ("connection", "traceparent, keep-alive"),
                ("X-Secret", "1"),
                ("Keep-Alive", "5"),
                ("TE", "trailers"),
                ("Upgrade", "websocket"),
                ("Proxy-Authorization", "x"),
                ("tracestate", "a=b"),
            ],
            true,
        );
        for gone in ["connection", "x-secret", "keep-alive", "te", "upgrade", "proxy-authorization"] {
            assert!(!headers.contains_key(gone), "{gone}");
        }
        assert_eq!(headers["x-forwarded-for"], "10.1.2.3");
        assert_eq!(headers["x-forwarded-host"], "shop");
        assert!(headers.contains_key("traceparent"));
        assert_eq!(headers["tracestate"], "a=b");
    }
}
