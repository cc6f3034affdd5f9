//! What the gateway answers itself, instead of a service.

use std::time::Duration;

use http::StatusCode;

use super::{BadPath, Violation};

/// Why a request was not answered by a service.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The message is malformed, or could be read in two ways.
    #[error("{0}")]
    Malformed(Violation),
    /// The path has no single meaning.
    #[error("{0}")]
    Path(BadPath),
    /// The method is not one the gateway lets through anywhere.
    #[error("the method is not known here")]
    UnknownMethod,
    /// An `Expect` other than `100-continue`.
    #[error("the expectation cannot be met")]
    Expectation,
    /// No route has such a path.
    #[error("there is nothing at this path")]
    NotFound,
    /// Routes have the path, but not the method.
    #[error("the path does not take this method")]
    MethodNotAllowed {
        /// The methods that it takes.
        allow: String,
    },
    /// A token is needed, and there is none that holds.
    #[error("{why}")]
    Unauthorized {
        /// What is wrong with the token, or that it is missing.
        why: String,
    },
    /// The caller is known and may not.
    #[error("this takes the role `{role}`")]
    Forbidden {
        /// The role that is needed.
        role: String,
    },
    /// The keys that tokens are verified with could not be had.
    #[error("tokens cannot be verified at the moment")]
    NoKeys,
    /// The caller has used up what the rate limit gives.
    #[error("too many requests")]
    RateLimited {
        /// When the next one has a chance.
        retry_after: Duration,
    },
    /// The body is larger than the route takes.
    #[error("the body is larger than {limit} bytes")]
    BodyTooLarge {
        /// The limit in bytes.
        limit: u64,
    },
    /// The body broke off, or a chunk of it is malformed.
    #[error("the body is incomplete or malformed")]
    BodyBroken,
    /// The body did not arrive before the request's deadline.
    #[error("the body did not arrive in time")]
    BodyTooSlow,
    /// As many requests to the service are under way as may be; nothing was sent.
    #[error("the service has as much in hand as it may")]
    Overloaded,
    /// The service failed too often, or an operator says so, and it is left alone for a while; nothing was sent.
    #[error("{} for a while", left_alone(*held))]
    CircuitOpen {
        /// When the next request has a chance.
        retry_after: Duration,
        /// Whether an operator holds its breaker open, however well it is.
        held: bool,
    },
    /// No endpoint of the service can be reached; nothing was sent.
    #[error("the service cannot be reached at the moment")]
    Unavailable,
    /// The connection to the service broke after something was sent: whether there was an effect is unknown.
    #[error("the service broke off before it answered; whether it had done its work is unknown")]
    BrokeOff,
    /// The service did not answer before the request's deadline: whether there was an effect is unknown.
    #[error("no answer came in time; whether the work was done is unknown")]
    Timeout,
}

fn left_alone(held: bool) -> &'static str {
    if held {
        "an operator has the service left alone"
    } else {
        "the service failed too often and is left alone"
    }
}

impl Refusal {
    /// The status of the answer.
    pub fn status(&self) -> StatusCode {
        match self {
            Self::Malformed(Violation::HeadTooLarge) => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            Self::Malformed(Violation::HeadTooSlow) | Self::BodyTooSlow => StatusCode::REQUEST_TIMEOUT,
            Self::Malformed(Violation::Version) => StatusCode::HTTP_VERSION_NOT_SUPPORTED,
            Self::Malformed(_) | Self::Path(_) | Self::BodyBroken => StatusCode::BAD_REQUEST,
            Self::UnknownMethod => StatusCode::NOT_IMPLEMENTED,
            Self::Expectation => StatusCode::EXPECTATION_FAILED,
            Self::NotFound => StatusCode::NOT_FOUND,
            Self::MethodNotAllowed { .. } => StatusCode::METHOD_NOT_ALLOWED,
            Self::Unauthorized { .. } => StatusCode::UNAUTHORIZED,
            Self::Forbidden { .. } => StatusCode::FORBIDDEN,
            Self::RateLimited { .. } => StatusCode::TOO_MANY_REQUESTS,
            Self::BodyTooLarge { .. } => StatusCode::PAYLOAD_TOO_LARGE,
            Self::NoKeys
            | Self::Overloaded
            | Self::CircuitOpen { .. }
            | Self::Unavailable
            | Self::BrokeOff => StatusCode::SERVICE_UNAVAILABLE,
            Self::Timeout => StatusCode::GATEWAY_TIMEOUT,
        }
    }

    /// The last part of the problem's type: `rate-limited` of `/problems/rate-limited`.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Malformed(Violation::HeadTooLarge) => "head-too-large",
            Self::Malformed(Violation::HeadTooSlow) => "request-too-slow",
            Self::Malformed(_) | Self::Path(_) => "malformed-request",
            Self::BodyBroken => "truncated-body",
            Self::BodyTooSlow => "body-too-slow",
            Self::UnknownMethod => "unknown-method",
            Self::Expectation => "expectation-failed",
            Self::NotFound => "not-found",
            Self::MethodNotAllowed { .. } => "method-not-allowed",
            Self::Unauthorized { .. } => "unauthorized",
            Self::Forbidden { .. } => "forbidden",
            Self::RateLimited { .. } => "rate-limited",
            Self::BodyTooLarge { .. } => "body-too-large",
            Self::Overloaded => "overloaded",
            Self::CircuitOpen { .. } => "circuit-open",
            Self::NoKeys | Self::Unavailable => "unavailable",
            Self::BrokeOff => "broke-off",
            Self::Timeout => "timeout",
        }
    }

    /// Whether it is we who could not do it, rather than the caller who asked for what nobody could.
    pub fn is_ours(&self) -> bool {
        matches!(
            self,
            Self::NoKeys
                | Self::Overloaded
                | Self::CircuitOpen { .. }
                | Self::Unavailable
                | Self::BrokeOff
                | Self::Timeout
        )
    }

    /// Whether a repetition may succeed later without anybody changing it, and when.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::RateLimited { retry_after } | Self::CircuitOpen { retry_after, .. } => Some(*retry_after),
            Self::NoKeys | Self::Overloaded | Self::Unavailable | Self::BrokeOff => {
                Some(Duration::from_secs(1))
            }
            _ => None,
        }
    }
}
