//! One request and its answer over HTTP.

use std::error::Error;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_TYPE};
use http::{HeaderValue, Method, Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};

use super::super::{Answer, Delta, Hear, ModelError};
use super::config::{Config, ConfigError};
use super::sse::Lines;
use super::stream::{Assembly, Piece};
use super::{decode, refusal};

const VERSION: HeaderValue = HeaderValue::from_static("2023-06-01");
const MAX_REFUSAL_BYTES: usize = 64 * 1024;

/// A request that failed, and whether and when to send it again.
#[derive(Debug)]
pub(super) struct Attempt {
    pub(super) error: ModelError,
    pub(super) again: bool,
    pub(super) wait: Option<Duration>,
}

impl Attempt {
    pub(super) fn again(error: ModelError) -> Self {
        Self { error, again: true, wait: None }
    }
}

/// What makes no sense now will make none the next time.
impl From<ModelError> for Attempt {
    fn from(error: ModelError) -> Self {
        Self { error, again: false, wait: None }
    }
}

pub(super) struct Exchange {
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    uri: Uri,
    key: HeaderValue,
    max_bytes: usize,
}

impl Exchange {
    pub(super) fn new(uri: Uri, config: &Config) -> Result<Self, ConfigError> {
        let mut key = HeaderValue::from_str(config.api_key.reveal()).map_err(|_| ConfigError::ApiKey)?;
        if key.is_empty() {
            return Err(ConfigError::ApiKey);
        }
        key.set_sensitive(true);
        let connector = HttpsConnectorBuilder::new()
            .with_webpki_roots()
            .https_or_http()
            .enable_http1()
            .enable_http2()
            .build();
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .build::<_, Full<Bytes>>(connector);
        Ok(Self { client, uri, key, max_bytes: config.max_response_bytes })
    }

    pub(super) async fn answer(&self, body: Bytes, hear: Hear<'_>) -> Result<Answer, Attempt> {
        let response = self.client.request(self.request(body)).await;
        let response = response.map_err(|error| Attempt::again(broken("no connection", error)))?;
        if response.status() != StatusCode::OK {
            return Err(refused(response).await);
        }
        let kind = response.headers().get(CONTENT_TYPE).map_or(&b""[..], HeaderValue::as_bytes);
        if kind.starts_with(b"text/event-stream") {
            return self.streamed(response.into_body(), hear).await;
        }
        let body = Limited::new(response.into_body(), self.max_bytes).collect().await;
        let answer = decode::whole(&body.map_err(cut)?.to_bytes())?;
        let text = answer.full_text();
        if !text.is_empty() {
            hear(Delta::Text(text));
        }
        Ok(answer)
    }

    fn request(&self, body: Bytes) -> Request<Full<Bytes>> {
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = self.uri.clone();
        let headers = request.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(ACCEPT, HeaderValue::from_static("application/json, text/event-stream"));
        headers.insert("anthropic-version", VERSION);
        headers.insert("x-api-key", self.key.clone());
        request
    }

    async fn streamed(&self, body: Incoming, hear: Hear<'_>) -> Result<Answer, Attempt> {
        let mut body = Limited::new(body, self.max_bytes);
        let (mut lines, mut assembly) = (Lines::default(), Assembly::default());
        while !assembly.is_complete() {
            let Some(frame) = body.frame().await else {
                return Err(Attempt::again(ModelError::unavailable(
                    "its stream ended before the answer did",
                )));
            };
            let Ok(bytes) = frame.map_err(cut)?.into_data() else { continue };
            let mut failed = None;
            lines.feed(&bytes, |data| {
                if failed.is_some() {
                    return;
                }
                match assembly.take(data) {
                    Ok(Piece::Text(text)) => hear(Delta::Text(text)),
                    Ok(Piece::Silent) => {}
                    Ok(Piece::Refused(why)) => failed = Some(refusal::of_event(&why)),
                    Err(error) => failed = Some(error.into()),
                }
            });
            if let Some(failed) = failed {
                return Err(failed);
            }
        }
        Ok(assembly.into_answer()?)
    }
}

async fn refused(response: Response<Incoming>) -> Attempt {
    let (head, body) = response.into_parts();
    // The status says enough when the words cannot be read.
    let body = Limited::new(body, MAX_REFUSAL_BYTES).collect().await.map(|body| body.to_bytes());
    refusal::of_status(head.status, &head.headers, &body.unwrap_or_default())
}

fn cut(error: Box<dyn Error + Send + Sync>) -> Attempt {
    if error.is::<LengthLimitError>() {
        return ModelError::malformed("it is larger than allowed").into();
    }
    Attempt::again(ModelError::Unavailable {
        reason: "the connection broke off".to_owned(),
        retry_after: None,
        source: Some(error),
    })
}

fn broken(reason: &str, error: impl Error + Send + Sync + 'static) -> ModelError {
    ModelError::Unavailable { reason: reason.to_owned(), retry_after: None, source: Some(Box::new(error)) }
}
