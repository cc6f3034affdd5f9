//! Where the server is.

use redis::{ConnectionAddr, IntoConnectionInfo as _, RedisConnectionInfo};

/// A server and how to greet it.
pub(crate) struct Place {
    pub(crate) host: String,
    pub(crate) port: u16,
    pub(crate) greeting: RedisConnectionInfo,
}

impl Place {
    /// `redis://user:password@host:port/database`, all but the host as needed.
    pub(crate) fn parse(url: &str) -> Result<Self, UrlError> {
        if url.starts_with("rediss:") || url.starts_with("valkeys:") {
            return Err(UrlError::Encrypted);
        }
        // What the parser says may have the password in it.
        let info = url.into_connection_info().map_err(|_| UrlError::Malformed)?;
        let ConnectionAddr::Tcp(host, port) = info.addr() else { return Err(UrlError::Malformed) };
        // A name of ours in `CLIENT LIST` is not worth two more commands.
        let greeting = info.redis_settings().clone().set_skip_set_lib_name();
        Ok(Self { host: host.clone(), port: *port, greeting })
    }
}

/// The URL is not one of a server that can be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum UrlError {
    /// It asks for TLS.
    #[error("connections to Redis are not encrypted: say redis://, over a network that you trust")]
    Encrypted,
    /// It is something else.
    #[error(
        "say redis://HOST:PORT, with USER:PASSWORD@ before the host and /DATABASE behind the port as needed"
    )]
    Malformed,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_url_says_who_and_where() {
        let place = Place::parse("redis://ada:s%40cret@cache:7000/3").unwrap();
        assert_eq!((place.host.as_str(), place.port), ("cache", 7000));
        let greeting = &place.greeting;
        assert_eq!(
            (greeting.username(), greeting.password(), greeting.db()),
            (Some("ada"), Some("s@cret"), 3)
        );
        let place = Place::parse("redis://[::1]").unwrap();
        assert_eq!((place.host.as_str(), place.port, place.greeting.db()), ("::1", 6379, 0));
    }

    #[test]
    fn what_is_no_such_url_is_refused_without_showing_it() {
        for (url, error) in [
            ("rediss://cache", UrlError::Encrypted),
            ("redis+unix:///run/redis.sock", UrlError::Malformed),
            ("redis://", UrlError::Malformed),
            ("redis://:secret@cache/x", UrlError::Malformed),
            ("postgres://cache", UrlError::Malformed),
        ] {
            assert_eq!(Place::parse(url).err(), Some(error), "{url}");
            assert!(!error.to_string().contains("secret"));
        }
    }
}
