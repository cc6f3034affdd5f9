//! The key set as its issuer publishes it: one GET, with limits.

use std::fmt;
use std::str::FromStr;

use bytes::Bytes;
use http::header::HOST;
use http::uri::{Authority, PathAndQuery};
use http::{Request, StatusCode, Uri};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use purlin::message::{Fault, FaultKind};
use tokio::net::TcpStream;

use super::{Jwks, JwksError};

/// Where an issuer publishes its keys: `http://host:port/path`.
///
/// Plain http only, so the way to it must be one that is trusted: the loopback, or a network of one's own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeysUrl {
    authority: Authority,
    path: PathAndQuery,
}

/// The text is not the http address of a key set.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not an address of the form http://host:port/path")]
pub struct KeysUrlError(String);

impl FromStr for KeysUrl {
    type Err = KeysUrlError;

    fn from_str(text: &str) -> Result<Self, KeysUrlError> {
        let refused = || KeysUrlError(text.to_owned());
        let parts = text.parse::<Uri>().map_err(|_| refused())?.into_parts();
        match (parts.scheme, parts.authority, parts.path_and_query) {
            (Some(scheme), Some(authority), Some(path)) if scheme.as_str() == "http" => {
                Ok(Self { authority, path })
            }
            _ => Err(refused()),
        }
    }
}

impl fmt::Display for KeysUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "http://{}{}", self.authority, self.path)
    }
}

/// The key set could not be had.
#[derive(Debug, thiserror::Error)]
pub(super) enum FetchError {
    #[error("no connection")]
    Connect(#[source] std::io::Error),
    #[error("no answer")]
    Http(#[source] hyper::Error),
    #[error("the answer has status {0}")]
    Status(StatusCode),
    #[error("the answer broke off, or is too large")]
    Body,
    #[error("the answer is no key set")]
    Jwks(#[source] JwksError),
    #[error("the key set has no key that tokens can be verified with")]
    Empty,
}

impl Fault for FetchError {
    fn kind(&self) -> FaultKind {
        match self {
            Self::Connect(_) | Self::Http(_) | Self::Body => FaultKind::Unavailable,
            Self::Status(StatusCode::INTERNAL_SERVER_ERROR) => FaultKind::Bug,
            Self::Status(status) if status.is_server_error() => FaultKind::Unavailable,
            Self::Status(_) | Self::Jwks(_) | Self::Empty => FaultKind::Rejected,
        }
    }
}

const MAX_DOCUMENT: usize = 256 << 10;

/// The keys that stand at `url`. It has no deadline of its own.
pub(super) async fn fetch(url: &KeysUrl) -> Result<Jwks, FetchError> {
    let (host, port) = (url.authority.host(), url.authority.port_u16().unwrap_or(80));
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let stream = TcpStream::connect((host, port)).await.map_err(FetchError::Connect)?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(FetchError::Http)?;
    let exchange = async {
        let mut request = Request::new(Empty::<Bytes>::new());
        *request.uri_mut() = Uri::from(url.path.clone());
        let host = url.authority.as_str().parse().expect("an authority is a header value");
        request.headers_mut().insert(HOST, host);
        let response = sender.send_request(request).await.map_err(FetchError::Http)?;
        if response.status() != StatusCode::OK {
            return Err(FetchError::Status(response.status()));
        }
        let body = Limited::new(response.into_body(), MAX_DOCUMENT).collect().await;
        Ok(body.map_err(|_| FetchError::Body)?.to_bytes())
    };
    let document = tokio::select! {
        document = exchange => document?,
        Err(error) = connection => return Err(FetchError::Http(error)),
    };
    let keys = Jwks::parse(&document).map_err(FetchError::Jwks)?;
    if keys.is_empty() { Err(FetchError::Empty) } else { Ok(keys) }
}
