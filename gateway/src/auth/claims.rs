//! What a token says of its bearer.

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};

/// The claims of a token that this project knows; others are ignored.
///
/// Times are whole seconds since 1970. A claim of the wrong type, `null` too, makes the whole token invalid.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claims {
    /// Whom the token is about.
    pub sub: String,
    /// Until when it holds.
    pub exp: i64,
    /// From when on it holds.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    pub nbf: Option<i64>,
    /// When it was issued.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    pub iat: Option<i64>,
    /// Who issued it.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    pub iss: Option<String>,
    /// Whom it is for.
    #[serde(default, deserialize_with = "one_or_many", skip_serializing_if = "Vec::is_empty")]
    pub aud: Vec<String>,
    /// The token's own id.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    pub jti: Option<String>,
    /// What the bearer may do beyond what everybody may.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub roles: Vec<String>,
}

impl Claims {
    /// Claims about `sub` that hold until `exp`, and say nothing else.
    pub fn new(sub: impl Into<String>, exp: i64) -> Self {
        Self {
            sub: sub.into(),
            exp,
            nbf: None,
            iat: None,
            iss: None,
            aud: Vec::new(),
            jti: None,
            roles: Vec::new(),
        }
    }

    /// Whether the bearer has the role.
    pub fn has_role(&self, role: &str) -> bool {
        self.roles.iter().any(|have| have == role)
    }
}

/// A member that may be absent, but is no `null` when it is there.
pub(super) fn present<'de, T: Deserialize<'de>, D: Deserializer<'de>>(
    from: D,
) -> Result<Option<T>, D::Error> {
    T::deserialize(from).map(Some)
}

/// `"a"` or `["a", "b"]`, not empty.
fn one_or_many<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<String>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Audience {
        One(String),
        Many(Vec<String>),
    }
    match Audience::deserialize(from)? {
        Audience::One(one) => Ok(vec![one]),
        Audience::Many(many) if many.is_empty() => Err(D::Error::custom("an audience of nobody")),
        Audience::Many(many) => Ok(many),
    }
}
