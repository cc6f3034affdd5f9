//! Who asks: every service verifies tokens itself, whatever the gateway has verified before.

use axum::extract::FromRequestParts;
use http::request::Parts;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use purlin::http::Problem;
use purlin::message::Uuid;
use purlin_gateway::auth::{Verifier, VerifyError};
use serde::{Deserialize, Serialize};

/// What somebody may do.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// A customer.
    #[default]
    User,
    /// One who runs the shop.
    Admin,
}

impl Role {
    /// As it stands in a token.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Admin => "admin",
        }
    }
}

/// Somebody with a token that holds; an extractor that answers 401 to everybody else.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Known {
    /// Who he is.
    pub id: Uuid,
    /// What he may do.
    pub role: Role,
}

impl Known {
    /// Whether he runs the shop.
    pub fn is_admin(self) -> bool {
        self.role == Role::Admin
    }

    /// Whose idempotency keys he uses.
    pub fn caller(self) -> Caller {
        Caller::Known(self)
    }

    /// Who bears this token.
    pub async fn of_token(verifier: &Verifier, token: &str) -> Result<Self, Problem> {
        let claims = verifier.verify(token).await.map_err(|error| match error {
            VerifyError::Invalid(why) => unauthorized(&why.to_string()),
            unreachable => Problem::from(unreachable),
        })?;
        let id = claims.sub.parse().map_err(|_| unauthorized("the token names no user of this shop"))?;
        let role = if claims.has_role(Role::Admin.as_str()) { Role::Admin } else { Role::User };
        Ok(Self { id, role })
    }

    /// Who sent a request with these headers.
    pub async fn of_headers(verifier: &Verifier, headers: &HeaderMap) -> Result<Self, Problem> {
        let token = bearer(headers).ok_or_else(|| unauthorized("the request has no bearer token"))?;
        Self::of_token(verifier, token).await
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Known {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        Self::of_headers(verifier(parts)?, &parts.headers).await
    }
}

/// Somebody who runs the shop; an extractor that answers 403 to other users and 401 to everybody else.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Admin(pub Known);

impl<S: Send + Sync> FromRequestParts<S> for Admin {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let known = Known::from_request_parts(parts, state).await?;
        if known.is_admin() {
            return Ok(Self(known));
        }
        Err(forbidden("this is for those who run the shop"))
    }
}

/// Whoever asks, token or not, as far as his idempotency keys need a name: the user, else the address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Caller {
    /// Somebody with a token.
    Known(Known),
    /// Somebody at an address.
    Address(String),
}

impl Caller {
    /// What his keys are kept under.
    pub fn name(&self) -> String {
        match self {
            Self::Known(known) => format!("user {}", known.id),
            Self::Address(address) => format!("address {address}"),
        }
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Caller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        if let Ok(known) = Known::of_headers(verifier(parts)?, &parts.headers).await {
            return Ok(known.caller());
        }
        let address = parts.headers.get("x-forwarded-for").and_then(|value| value.to_str().ok());
        Ok(Self::Address(address.unwrap_or("unknown").to_owned()))
    }
}

/// The bearer token of a request.
pub fn bearer(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

/// 403, and why.
pub fn forbidden(why: &str) -> Problem {
    Problem::new(StatusCode::FORBIDDEN, "forbidden").detail(why)
}

/// 401, and why.
pub fn unauthorized(why: &str) -> Problem {
    Problem::new(StatusCode::UNAUTHORIZED, "unauthorized")
        .detail(why)
        .header(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"))
}

fn verifier(parts: &Parts) -> Result<&Verifier, Problem> {
    parts.extensions.get::<Verifier>().ok_or_else(Problem::bug)
}
