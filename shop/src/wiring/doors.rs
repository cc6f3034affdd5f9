//! The gateway's routes: who may go where.

use std::collections::BTreeMap;
use std::time::Duration;

use purlin_gateway::config::{Config as GatewayConfig, Limits, Pool, Rate, Route, Tokens};
use purlin_gateway::core::Access;

use super::addresses::Addresses;
use crate::config::{Config, Rate as Wanted, Role};

/// Everything the gateway lets through.
pub fn gateway(config: &Config, addresses: &Addresses) -> GatewayConfig {
    let sign_in = Some(rate(config.sign_in_rate));
    let admin = || Access::Role("admin".into());
    let routes = vec![
        Route { rate: sign_in, ..route("POST", "/users", true, Access::Public, Role::Users) },
        route("GET", "/users/me", true, Access::Authenticated, Role::Users),
        Route { rate: sign_in, ..route("POST", "/sessions", true, Access::Public, Role::Users) },
        route("GET", "/.well-known/jwks.json", true, Access::Public, Role::Users),
        route("GET", "/products", false, Access::Public, Role::Products),
        route("POST", "/products", true, admin(), Role::Products),
        route("PATCH", "/products", false, admin(), Role::Products),
        // All that is posted below a product is about its stock.
        route("POST", "/products", false, admin(), Role::Inventory),
        route("GET", "/orders", false, Access::Authenticated, Role::Orders),
        route("POST", "/orders", false, Access::Authenticated, Role::Orders),
        Route {
            timeout_ms: Some(65_000),
            ..route("POST", "/assistant", true, Access::Authenticated, Role::Assistant)
        },
        route("GET", "/admin/ledger", true, admin(), Role::Payments),
        route("GET", "/admin/breakers", true, admin(), Role::Orders),
        route("GET", "/admin/stock", true, admin(), Role::Inventory),
        route("GET", "/admin/shipments", true, admin(), Role::Shipping),
    ];
    GatewayConfig {
        routes,
        pools: pools(addresses),
        tokens: Some(Tokens {
            jwks_url: keys_url(addresses),
            issuer: Some("shop".into()),
            audience: None,
            skew_s: 0,
        }),
        rate: Some(rate(config.rate)),
        limits: Limits { drain_timeout_ms: millis(config.drain), ..Limits::default() },
    }
}

/// Where the keys are that tokens are verified with.
pub fn keys_url(addresses: &Addresses) -> String {
    format!("{}/.well-known/jwks.json", addresses.url(Role::Users))
}

fn route(method: &str, path: &str, exact: bool, access: Access, role: Role) -> Route {
    Route { exact, methods: vec![method.to_owned()], ..Route::new(path, access, role.name()) }
}

fn pools(addresses: &Addresses) -> BTreeMap<String, Pool> {
    let behind = Role::ALL.into_iter().filter(|role| !matches!(role, Role::Gateway | Role::Console));
    behind.map(|role| (role.name().to_owned(), Pool { endpoints: vec![addresses.endpoint(role)] })).collect()
}

fn rate(wanted: Wanted) -> Rate {
    Rate { per_second: wanted.per_second, burst: wanted.burst }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX).max(1)
}
