//! Who may pass.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::auth::Claims;

use super::Refusal;

/// What a route asks of its callers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Access {
    /// Nothing.
    Public,
    /// A valid token.
    Authenticated,
    /// A valid token whose roles have this one.
    Role(String),
}

/// Who a request comes from, as far as its token says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Caller {
    /// There is no token.
    Anonymous,
    /// The token holds.
    Known(Arc<Claims>),
    /// There is a token, and it does not hold.
    Refused(String),
    /// There is a token, and no key to verify it with could be had.
    Unverified,
}

impl Access {
    /// Whether `caller` may pass.
    pub fn check(&self, caller: &Caller) -> Result<(), Refusal> {
        match (self, caller) {
            (Self::Public, _) | (Self::Authenticated, Caller::Known(_)) => Ok(()),
            (Self::Role(role), Caller::Known(claims)) if claims.has_role(role) => Ok(()),
            (Self::Role(role), Caller::Known(_)) => Err(Refusal::Forbidden { role: role.clone() }),
            (_, Caller::Anonymous) => {
                Err(Refusal::Unauthorized { why: "the request has no bearer token".to_owned() })
            }
            (_, Caller::Refused(why)) => Err(Refusal::Unauthorized { why: why.clone() }),
            (_, Caller::Unverified) => Err(Refusal::NoKeys),
        }
    }
}

impl Caller {
    /// What the rate limit counts the caller under: the user, else the address.
    pub fn rate_key(&self, peer: IpAddr) -> RateKey<'_> {
        match self {
            Self::Known(claims) => RateKey::User(&claims.sub),
            _ => RateKey::of_address(peer),
        }
    }
}

/// Whose share a request takes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RateKey<'a> {
    /// A user's.
    User(&'a str),
    /// An IPv4 address's.
    V4(Ipv4Addr),
    /// An IPv6 network's: the first 64 bits, since whoever has one address there has them all.
    V6([u16; 4]),
}

impl RateKey<'_> {
    /// The share of an address.
    pub fn of_address(peer: IpAddr) -> Self {
        match peer.to_canonical() {
            IpAddr::V4(v4) => Self::V4(v4),
            IpAddr::V6(v6) => {
                let [a, b, c, d, ..] = v6.segments();
                Self::V6([a, b, c, d])
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known(roles: &[&str]) -> Caller {
        let roles = roles.iter().map(|role| (*role).to_owned()).collect();
        Caller::Known(Arc::new(Claims { roles, ..Claims::new("7", 100) }))
    }

    #[test]
    fn a_rule_lets_pass_whom_it_names_and_nobody_else() {
        let admin = Access::Role("admin".into());
        let bad = Caller::Refused("the token has expired".into());
        for caller in [known(&[]), Caller::Anonymous, bad.clone(), Caller::Unverified] {
            assert_eq!(Access::Public.check(&caller), Ok(()));
        }
        assert_eq!(Access::Authenticated.check(&known(&[])), Ok(()));
        assert_eq!(admin.check(&known(&["user", "admin"])), Ok(()));
        assert_eq!(admin.check(&known(&["administrator"])), Err(Refusal::Forbidden { role: "admin".into() }));
        for rule in [Access::Authenticated, admin] {
            assert!(matches!(rule.check(&Caller::Anonymous), Err(Refusal::Unauthorized { .. })));
            assert!(matches!(rule.check(&bad), Err(Refusal::Unauthorized { .. })));
            assert_eq!(rule.check(&Caller::Unverified), Err(Refusal::NoKeys));
        }
    }

    #[test]
    fn an_address_counts_once_whichever_way_it_is_written() {
        let key = |address: &'static str| RateKey::of_address(address.parse().unwrap());
        assert_eq!(key("10.0.0.1"), key("::ffff:10.0.0.1"));
        assert_eq!(key("2001:db8:1:2::1"), key("2001:db8:1:2:ffff::9"));
        assert_ne!(key("2001:db8:1:2::1"), key("2001:db8:1:3::1"));
    }
}
