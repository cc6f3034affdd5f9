//! The gateway's routes: who may go where.

use std::collections::BTreeMap;
use std::time::Duration;

use purlin::resilience::Criticality;
use purlin_gateway::config::{Config as GatewayConfig, Limits, Pool, Rate, Route, Tokens};
use purlin_gateway::core::Access;

use super::addresses::Addresses;
use crate::breakers;
use crate::config::{Config, Rate as Wanted, Role};

/// Everything the gateway lets through, in a process that may have so many files and connections open.
pub fn gateway(config: &Config, addresses: &Addresses, descriptors: u64) -> GatewayConfig {
    let sign_in = Some(rate(config.sign_in_rate));
    let admin = || Access::Role("admin".into());
    let routes = vec![
        Route { rate: sign_in, ..route("POST", "/users", Access::Public, Role::Users) },
        route("GET", "/users/me", Access::Authenticated, Role::Users),
        route("DELETE", "/users/{id}", admin(), Role::Users),
        Route { rate: sign_in, ..route("POST", "/sessions", Access::Public, Role::Users) },
        route("GET", "/.well-known/jwks.json", Access::Public, Role::Users),
        list("/products", Access::Public, Role::Products),
        route("POST", "/products", admin(), Role::Products),
        route("GET", "/products/{id}", Access::Public, Role::Products),
        route("PATCH", "/products/{id}", admin(), Role::Products),
        route("POST", "/products/{id}/stock", admin(), Role::Inventory),
        list("/orders", Access::Authenticated, Role::Orders),
        route("POST", "/orders", Access::Authenticated, Role::Orders),
        route("GET", "/orders/{id}", Access::Authenticated, Role::Orders),
        route("POST", "/orders/{id}/items", Access::Authenticated, Role::Orders),
        route("POST", "/orders/{id}/submit", Access::Authenticated, Role::Orders),
        route("POST", "/orders/{id}/cancel", Access::Authenticated, Role::Orders),
        route("GET", "/orders/{id}/saga", Access::Authenticated, Role::Orders),
        Route {
            timeout_ms: Some(65_000),
            criticality: Criticality::SheddablePlus,
            ..route("POST", "/assistant", Access::Authenticated, Role::Assistant)
        },
        list("/admin/ledger", admin(), Role::Payments),
        of_breakers("GET", "/admin/breakers"),
        of_breakers("POST", "/admin/breakers/{name}/open"),
        of_breakers("POST", "/admin/breakers/{name}/close"),
        of_breakers("POST", "/admin/breakers/{name}/reset"),
        list("/admin/stock", admin(), Role::Inventory),
        list("/admin/shipments", admin(), Role::Shipping),
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
        limits: limits(config, descriptors),
    }
}

/// Where the keys are that tokens are verified with.
pub fn keys_url(addresses: &Addresses) -> String {
    format!("{}/.well-known/jwks.json", addresses.url(Role::Users))
}

/// A request takes about three descriptors when all roles are in one process (the caller's connection and both ends of
/// that to a service), and the stores want theirs.
fn limits(config: &Config, descriptors: u64) -> Limits {
    let usual = Limits::default();
    let room = usize::try_from(descriptors / 4).unwrap_or(usize::MAX).max(1);
    let connections = usual.connections.min(room);
    let each = || usual.connections_per_address.min(connections.div_ceil(2));
    let connections_per_address = config.connections_per_address.unwrap_or_else(each);
    Limits { connections, connections_per_address, drain_timeout_ms: millis(config.drain), ..usual }
}

/// A method of one path of a service: what a service answers to is listed here as well, or nobody reaches it.
fn route(method: &str, path: &str, access: Access, role: Role) -> Route {
    Route { exact: true, methods: vec![method.to_owned()], ..Route::new(path, access, role.name()) }
}

/// A list, which can be had again a little later: a service that has too much to do refuses it before it refuses an order.
fn list(path: &str, access: Access, role: Role) -> Route {
    Route { criticality: Criticality::SheddablePlus, ..route("GET", path, access, role) }
}

/// What administrators ask of breakers is answered beside the gateway: it must not need a service that may be away.
fn of_breakers(method: &str, path: &str) -> Route {
    Route {
        pool: breakers::POOL.to_owned(),
        ..route(method, path, Access::Role("admin".into()), Role::Gateway)
    }
}

fn pools(addresses: &Addresses) -> BTreeMap<String, Pool> {
    let behind = Role::ALL.into_iter().filter(|role| role.is_behind_gateway());
    let of_role = |role: Role| (role.name().to_owned(), Pool { endpoints: addresses.endpoints(role) });
    let beside = addresses
        .breakers_at()
        .map(|address| (breakers::POOL.to_owned(), Pool { endpoints: vec![address.to_string()] }));
    behind.map(of_role).chain(beside).collect()
}

fn rate(wanted: Wanted) -> Rate {
    Rate { per_second: wanted.per_second, burst: wanted.burst }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX).max(1)
}
