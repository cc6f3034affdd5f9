//! A write as its key sees it: method, path, bytes.

use axum::body::Body;
use axum::extract::{FromRequest, Request};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, Method, StatusCode};
use serde::de::DeserializeOwned;

use crate::http::{Problem, body, extract};

/// The header that bears a request's key.
pub const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// A request that writes: an extractor for handlers that take no body, or read it themselves.
#[derive(Debug, Clone)]
pub struct WriteRequest {
    /// `POST`, say.
    pub method: Method,
    /// The path that the client asked for.
    pub path: String,
    /// The `Idempotency-Key`, if there is one.
    pub key: Option<String>,
    /// The body as it came, at most 1 MiB.
    pub body: Bytes,
    headers: HeaderMap,
}

/// A request that writes, and its JSON body, read as strictly as by [`Json`](crate::http::Json).
#[derive(Debug, Clone)]
pub struct Write<T> {
    /// The request.
    pub request: WriteRequest,
    /// Its body.
    pub body: T,
}

impl WriteRequest {
    /// A request without a key.
    pub fn new(method: &str, path: impl Into<String>, body: impl Into<Bytes>) -> Self {
        let method = Method::from_bytes(method.as_bytes()).unwrap_or(Method::POST);
        Self { method, path: path.into(), key: None, body: body.into(), headers: HeaderMap::new() }
    }

    /// The same request under a key.
    pub fn with_key(mut self, key: impl Into<String>) -> Self {
        self.key = Some(key.into());
        self
    }

    /// Its body as JSON.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T, Problem> {
        extract::is_json(&self.headers)?;
        extract::from_json(&self.body)
    }
}

impl<S: Send + Sync> FromRequest<S> for WriteRequest {
    type Rejection = Problem;

    async fn from_request(request: Request<Body>, _: &S) -> Result<Self, Problem> {
        let (parts, body) = request.into_parts();
        let key = key_of(&parts.headers)?;
        let body = body::read(&parts.headers, body).await?;
        let path = extract::path_of(&parts.uri, &parts.extensions).to_owned();
        Ok(Self { method: parts.method, path, key, body, headers: parts.headers })
    }
}

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Write<T> {
    type Rejection = Problem;

    async fn from_request(request: Request<Body>, state: &S) -> Result<Self, Problem> {
        let request = WriteRequest::from_request(request, state).await?;
        let body = request.json()?;
        Ok(Self { request, body })
    }
}

/// The key of a request: 1 to 255 visible ASCII characters, given once.
fn key_of(headers: &HeaderMap) -> Result<Option<String>, Problem> {
    let mut keys = headers.get_all(IDEMPOTENCY_KEY).iter();
    let Some(key) = keys.next() else { return Ok(None) };
    let text = key.to_str().unwrap_or_default();
    let visible = text.bytes().all(|b| b.is_ascii_graphic() || b == b' ');
    if visible && (1..=255).contains(&text.len()) && keys.next().is_none() {
        return Ok(Some(text.to_owned()));
    }
    Err(Problem::new(StatusCode::BAD_REQUEST, "invalid-idempotency-key")
        .detail("an Idempotency-Key is 1 to 255 visible ASCII characters, given once"))
}
