//! Where the API is, who we are there, and how patient we are.

use std::fmt;
use std::time::Duration;

use http::Uri;

/// How to reach a model behind the Messages API.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Where `/v1/messages` stands: `https://api.anthropic.com`, or a server that speaks the same.
    pub base_url: String,
    /// The key of the account.
    pub api_key: Secret,
    /// The model's name at its vendor.
    pub model: String,
    /// Whether text is heard as it is made, or all at once.
    pub transfer: Transfer,
    /// How often a request is sent at most.
    pub max_attempts: u32,
    /// How long one attempt may take.
    pub attempt_timeout: Duration,
    /// How long to wait after the first failed attempt; it doubles each time.
    pub first_pause: Duration,
    /// The longest wait of our own; a server may ask for a longer one.
    pub max_pause: Duration,
    /// The largest answer that is read.
    pub max_response_bytes: usize,
}

impl Config {
    /// The usual patience, at Anthropic's own address.
    pub fn new(model: impl Into<String>, api_key: Secret) -> Self {
        Self {
            base_url: "https://api.anthropic.com".to_owned(),
            api_key,
            model: model.into(),
            transfer: Transfer::Streamed,
            max_attempts: 4,
            attempt_timeout: Duration::from_secs(60),
            first_pause: Duration::from_millis(500),
            max_pause: Duration::from_secs(8),
            max_response_bytes: 4 * 1024 * 1024,
        }
    }

    pub(super) fn endpoint(&self) -> Result<Uri, ConfigError> {
        let wrong = || ConfigError::BaseUrl { url: self.base_url.clone() };
        let uri: Uri =
            format!("{}/v1/messages", self.base_url.trim_end_matches('/')).parse().map_err(|_| wrong())?;
        match (uri.scheme_str(), uri.host()) {
            (Some("http" | "https"), Some(_)) => Ok(uri),
            _ => Err(wrong()),
        }
    }
}

/// How an answer comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transfer {
    /// Piece by piece, as server-sent events.
    Streamed,
    /// As one JSON body.
    Whole,
}

/// A text that is never shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Hides a text.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    pub(super) fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[hidden]")
    }
}

/// The model cannot be reached like this.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// The address is not one.
    #[error("`{url}` is not an address such as https://api.anthropic.com")]
    BaseUrl {
        /// What was given.
        url: String,
    },
    /// The key cannot be sent.
    #[error("the API key is empty or has characters that a header cannot carry")]
    ApiKey,
}
