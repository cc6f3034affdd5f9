//! Where every role is: listeners of this process, addresses of others.

use std::collections::{BTreeMap, BTreeSet};
use std::io::ErrorKind;
use std::net::SocketAddr;

use anyhow::Context;
use tokio::net::TcpListener;

use crate::config::{Config, Peers, Role};

/// The listeners of this process, and where each role is reached.
pub struct Addresses {
    listeners: BTreeMap<Role, TcpListener>,
    local: BTreeMap<Role, SocketAddr>,
    peers: Peers,
    /// Where the process with the gateway answers administrators about breakers: nobody but the gateway asks there.
    breakers: Option<(TcpListener, SocketAddr)>,
}

impl Addresses {
    /// Listens for every role of this process.
    pub async fn bind(config: &Config, roles: &BTreeSet<Role>) -> anyhow::Result<Self> {
        let any_port = config.role.is_none() && config.gateway.port() == 0;
        let (mut listeners, mut local) = (BTreeMap::new(), BTreeMap::new());
        for role in roles {
            let address = match (role, config.role.and(config.listen)) {
                (_, Some(listen)) => listen,
                (Role::Gateway, None) => config.gateway,
                (Role::Console, None) => config.console,
                (other, None) => ([127, 0, 0, 1], if any_port { 0 } else { other.port() }).into(),
            };
            let own = config.role.is_none() && !matches!(role, Role::Gateway | Role::Console);
            let listener = match TcpListener::bind(address).await {
                // Only this process needs to know where its services are.
                Err(error) if own && error.kind() == ErrorKind::AddrInUse => {
                    TcpListener::bind((address.ip(), 0)).await
                }
                bound => bound,
            };
            let listener =
                listener.with_context(|| format!("the {} cannot listen on {address}", role.name()))?;
            local.insert(*role, listener.local_addr()?);
            listeners.insert(*role, listener);
        }
        let breakers = match roles.contains(&Role::Gateway) {
            true => {
                let listener = TcpListener::bind(("127.0.0.1", 0)).await.context("no port is free")?;
                let address = listener.local_addr()?;
                Some((listener, address))
            }
            false => None,
        };
        Ok(Self { listeners, local, peers: config.peers.clone(), breakers })
    }

    /// Where administrators are answered about breakers, if that is here; the listener only once.
    pub fn breakers(&mut self) -> Option<TcpListener> {
        self.breakers.take().map(|(listener, _)| listener)
    }

    /// Where that is.
    pub fn breakers_at(&self) -> Option<SocketAddr> {
        self.breakers.as_ref().map(|(_, address)| *address)
    }

    /// The places of other processes, each with the first role that is said to be there.
    pub fn others(&self) -> BTreeMap<String, Role> {
        let mut others = BTreeMap::new();
        let behind = Role::ALL.into_iter().filter(|role| role.is_behind_gateway());
        for role in behind.filter(|role| self.local(*role).is_none()) {
            for endpoint in self.endpoints(role) {
                others.entry(endpoint).or_insert(role);
            }
        }
        others
    }

    /// The listener of a role of this process; only once.
    pub fn listener(&mut self, role: Role) -> anyhow::Result<TcpListener> {
        self.listeners.remove(&role).with_context(|| format!("the {} has no listener", role.name()))
    }

    /// Where a role of this process is.
    pub fn local(&self, role: Role) -> Option<SocketAddr> {
        self.local.get(&role).map(|address| reachable(*address))
    }

    /// Where a role is reached; the first place if there are several.
    pub fn url(&self, role: Role) -> String {
        format!("http://{}", self.endpoints(role)[0])
    }

    /// `host:port` of each place where a role is reached: at least one.
    pub fn endpoints(&self, role: Role) -> Vec<String> {
        match (self.local(role), self.peers.get(&role)) {
            (Some(address), _) => vec![address.to_string()],
            (None, Some(peers)) => peers.clone(),
            (None, None) => vec![format!("127.0.0.1:{}", role.port())],
        }
    }
}

/// An address that listens everywhere is reached on the loopback.
fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = address.ip();
    match (ip.is_unspecified(), ip.is_ipv4()) {
        (true, true) => ([127, 0, 0, 1], address.port()).into(),
        (true, false) => ([0, 0, 0, 0, 0, 0, 0, 1], address.port()).into(),
        _ => address,
    }
}

/// The peers that are not on this machine, as far as their addresses say so.
pub fn elsewhere(peers: &Peers) -> Vec<&str> {
    peers.values().flatten().map(String::as_str).filter(|endpoint| !is_loopback(endpoint)).collect()
}

/// Whether `host:port` is this machine itself.
fn is_loopback(endpoint: &str) -> bool {
    let host = endpoint.rsplit_once(':').map_or(endpoint, |(host, _)| host);
    match endpoint.parse::<SocketAddr>() {
        Ok(address) => address.ip().to_canonical().is_loopback(),
        Err(_) => host.eq_ignore_ascii_case("localhost"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn peers_are_elsewhere_unless_their_address_is_of_this_machine() {
        let endpoints = [
            "127.0.0.1:1",
            "127.8.0.1:1",
            "[::1]:1",
            "[::ffff:127.0.0.1]:1",
            "localhost:1",
            "LocalHost:1",
            "10.0.0.7:1",
            "[fe80::1]:1",
            "users:1",
            "localhost.example.org:1",
        ];
        let peers = Peers::from([(Role::Users, endpoints.map(str::to_owned).to_vec())]);
        assert_eq!(elsewhere(&peers), ["10.0.0.7:1", "[fe80::1]:1", "users:1", "localhost.example.org:1"]);
    }
}
