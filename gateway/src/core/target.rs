//! One spelling for a path, so that the rule that is asked and the service that answers mean the same thing.

/// The path has no spelling that every parser behind the gateway reads alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadPath {
    /// It does not begin with `/`, or has an empty segment.
    #[error("the path does not begin with `/`, or has an empty segment")]
    Empty,
    /// A `%` without two hex digits behind it.
    #[error("the path has a `%` without two hex digits")]
    Escape,
    /// A slash, a backslash, a semicolon or a control character, plain or escaped, inside a segment.
    #[error("a segment of the path has a slash, a backslash, a semicolon or a control character")]
    Separator,
    /// More `..` than segments before them.
    #[error("the path leads out of the root")]
    Outside,
}

/// The path in its one spelling (RFC 3986, 6.2.2): unreserved characters plain, other escapes in upper case, no dot
/// segments. `/%61dmin/../orders/./7` is `/orders/7`.
pub fn normal_path(path: &str) -> Result<String, BadPath> {
    let segments = path.strip_prefix('/').ok_or(BadPath::Empty)?;
    let mut out: Vec<String> = Vec::new();
    let mut rest = segments.split('/').peekable();
    let mut ends_with_slash = false;
    while let Some(segment) = rest.next() {
        let last = rest.peek().is_none();
        match normal_segment(segment)?.as_str() {
            "" if !last => return Err(BadPath::Empty),
            "" | "." => ends_with_slash = last,
            ".." => {
                out.pop().ok_or(BadPath::Outside)?;
                ends_with_slash = last;
            }
            plain => out.push(plain.to_owned()),
        }
    }
    let mut path = format!("/{}", out.join("/"));
    if ends_with_slash && !out.is_empty() {
        path.push('/');
    }
    Ok(path)
}

fn normal_segment(segment: &str) -> Result<String, BadPath> {
    let bytes = segment.as_bytes();
    let mut out = String::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let (byte, escaped) = match bytes[at] {
            b'%' => (unescape(bytes.get(at + 1..at + 3).ok_or(BadPath::Escape)?)?, true),
            plain => (plain, false),
        };
        at += if escaped { 3 } else { 1 };
        match byte {
            b'/' | b'\\' | b';' | 0..0x20 | 0x7f => return Err(BadPath::Separator),
            unreserved if unreserved.is_ascii_alphanumeric() || b"-._~".contains(&unreserved) => {
                out.push(char::from(unreserved));
            }
            plain if !escaped && plain.is_ascii() => out.push(char::from(plain)),
            other => out.push_str(&format!("%{other:02X}")),
        }
    }
    Ok(out)
}

fn unescape(digits: &[u8]) -> Result<u8, BadPath> {
    let digit = |byte: u8| char::from(byte).to_digit(16).ok_or(BadPath::Escape);
    let value = digit(digits[0])? * 16 + digit(digits[1])?;
    u8::try_from(value).map_err(|_| BadPath::Escape)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn every_way_to_write_a_path_becomes_one() {
        for (written, meant) in [
            ("/", "/"),
            ("/orders", "/orders"),
            ("/orders/", "/orders/"),
            ("/%6frders", "/orders"),
            ("/products/../admin", "/admin"),
            ("/products/%2e%2E/admin", "/admin"),
            ("/./admin/.", "/admin/"),
            ("/admin/x/..", "/admin/"),
            ("/a/..", "/"),
            ("/caf%c3%a9", "/caf%C3%A9"),
            ("/a%20b", "/a%20b"),
            ("/a:b@c", "/a:b@c"),
        ] {
            assert_eq!(normal_path(written).as_deref(), Ok(meant), "{written}");
        }
    }

    #[test]
    fn a_path_that_parsers_read_differently_is_refused() {
        for (path, why) in [
            ("", BadPath::Empty),
            ("*", BadPath::Empty),
            ("//admin", BadPath::Empty),
            ("/a//admin", BadPath::Empty),
            ("/..", BadPath::Outside),
            ("/a/../../admin", BadPath::Outside),
            ("/a%2fadmin", BadPath::Separator),
            ("/a%5cadmin", BadPath::Separator),
            ("/a\\admin", BadPath::Separator),
            ("/admin;x=y", BadPath::Separator),
            ("/admin%3b", BadPath::Separator),
            ("/admin%00", BadPath::Separator),
            ("/admin%0d%0a", BadPath::Separator),
            ("/a%", BadPath::Escape),
            ("/a%2", BadPath::Escape),
            ("/a%zz", BadPath::Escape),
        ] {
            assert_eq!(normal_path(path), Err(why), "{path}");
        }
    }

    proptest! {
        #[test]
        fn a_normal_path_stays_as_it_is(path in "/[a-z%0-9./;A-F\\\\]{0,24}") {
            if let Ok(once) = normal_path(&path) {
                prop_assert_eq!(normal_path(&once), Ok(once.clone()));
                prop_assert!(!once.split('/').any(|segment| segment == "." || segment == ".."));
            }
        }
    }
}
