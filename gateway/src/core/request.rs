//! What must hold of a request whatever protocol it came by, before anything is decided about it.

use http::header::{AUTHORIZATION, CONTENT_LENGTH, EXPECT, HOST};
use http::request::Parts;
use http::{HeaderMap, Method, Version};

use super::head::{MAX_HEADERS, is_host, plain_number};
use super::{Refusal, Violation, normal_path};

/// A request that can be read in one way only.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checked {
    /// The path in its one spelling.
    pub path: String,
    /// The host that the caller meant.
    pub host: String,
    /// The body's length, if the request says it.
    pub length: Option<u64>,
    /// Whether the caller waits for a word before he sends the body.
    pub expects_continue: bool,
}

/// Checks a request's method, host, lengths and path.
pub fn check(parts: &Parts) -> Result<Checked, Refusal> {
    let known = [
        Method::GET,
        Method::HEAD,
        Method::POST,
        Method::PUT,
        Method::PATCH,
        Method::DELETE,
        Method::OPTIONS,
    ];
    if !known.contains(&parts.method) {
        return Err(Refusal::UnknownMethod);
    }
    if parts.headers.len() > MAX_HEADERS {
        return Err(Refusal::Malformed(Violation::HeadTooLarge));
    }
    if parts.headers.get_all(AUTHORIZATION).iter().count() > 1 {
        return Err(Refusal::Malformed(Violation::TwoAuthorizations));
    }
    let host = host(parts).map_err(Refusal::Malformed)?;
    let length = length(&parts.headers).map_err(Refusal::Malformed)?;
    let expects_continue = expects_continue(&parts.headers)?;
    let path = normal_path(parts.uri.path()).map_err(Refusal::Path)?;
    Ok(Checked { path, host, length, expects_continue })
}

/// The one host of the request: of the target, of the header, or of both if they agree.
fn host(parts: &Parts) -> Result<String, Violation> {
    let mut headers = parts.headers.get_all(HOST).iter();
    let header = match (headers.next(), headers.next()) {
        (_, Some(_)) => return Err(Violation::TwoHosts),
        (first, None) => first.map(|value| value.as_bytes()),
    };
    let target = parts.uri.authority().map(|authority| authority.as_str().as_bytes());
    let host = match (target, header) {
        (None, None) => return Err(Violation::NoHost),
        (None, Some(_)) if parts.version == Version::HTTP_2 => return Err(Violation::NoHost),
        (Some(target), Some(header)) if !target.eq_ignore_ascii_case(header) => {
            return Err(Violation::BadHost);
        }
        (Some(host), _) | (None, Some(host)) => host,
    };
    if !is_host(host) {
        return Err(Violation::BadHost);
    }
    String::from_utf8(host.to_vec()).map_err(|_| Violation::BadHost)
}

fn length(headers: &HeaderMap) -> Result<Option<u64>, Violation> {
    let mut lengths = headers.get_all(CONTENT_LENGTH).iter();
    match (lengths.next(), lengths.next()) {
        (None, _) => Ok(None),
        (Some(only), None) => plain_number(only.as_bytes()).map(Some).ok_or(Violation::ContentLength),
        _ => Err(Violation::ContentLength),
    }
}

fn expects_continue(headers: &HeaderMap) -> Result<bool, Refusal> {
    match headers.get(EXPECT) {
        None => Ok(false),
        Some(value) if value.as_bytes().eq_ignore_ascii_case(b"100-continue") => Ok(true),
        Some(_) => Err(Refusal::Expectation),
    }
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    fn parts(build: impl FnOnce(http::request::Builder) -> http::request::Builder) -> Parts {
        build(Request::builder()).body(()).unwrap().into_parts().0
    }

    #[test]
    fn the_host_of_target_and_header_must_agree() {
        let host = |uri: &str, hosts: &[&str], version: Version| {
            let with = |request: http::request::Builder| {
                hosts
                    .iter()
                    .fold(request.uri(uri).version(version), |request, host| request.header(HOST, *host))
            };
            check(&parts(with)).map(|checked| checked.host)
        };
        let refused = |violation| Err(Refusal::Malformed(violation));
        assert_eq!(host("/", &["shop"], Version::HTTP_11), Ok("shop".into()));
        assert_eq!(host("http://shop/", &["SHOP"], Version::HTTP_11), Ok("shop".into()));
        assert_eq!(host("http://shop/", &[], Version::HTTP_2), Ok("shop".into()));
        assert_eq!(host("http://shop/", &["other"], Version::HTTP_2), refused(Violation::BadHost));
        assert_eq!(host("http://shop/", &["other"], Version::HTTP_11), refused(Violation::BadHost));
        assert_eq!(host("http://me@shop/", &[], Version::HTTP_2), refused(Violation::BadHost));
        assert_eq!(host("/", &["a", "a"], Version::HTTP_11), refused(Violation::TwoHosts));
        assert_eq!(host("/", &[], Version::HTTP_11), refused(Violation::NoHost));
        assert_eq!(host("/", &["shop"], Version::HTTP_2), refused(Violation::NoHost));
    }

    #[test]
    fn methods_that_nobody_needs_are_refused() {
        for method in ["CONNECT", "TRACE", "PRI", "get"] {
            let request = parts(|request| request.method(method).uri("/").header(HOST, "shop"));
            assert_eq!(check(&request), Err(Refusal::UnknownMethod), "{method}");
        }
    }

    #[test]
    fn only_100_continue_may_be_expected() {
        let expecting = |what| parts(|request| request.uri("/").header(HOST, "shop").header(EXPECT, what));
        assert!(check(&expecting("100-Continue")).unwrap().expects_continue);
        assert_eq!(check(&expecting("a miracle")), Err(Refusal::Expectation));
    }
}
