//! Where a server is: the hosts of a URL, and the addresses behind their names.

use std::fmt;
use std::io;
use std::net::IpAddr;

use purlin::message::new_id;
use tokio_postgres::Config;
use tokio_postgres::config::{Host, LoadBalanceHosts};

/// A host of a URL.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Named {
    host: Host,
    address: Option<IpAddr>,
    port: u16,
}

/// One server: a host, behind which there is an address unless it is a socket of the file system.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Address(Named);

impl Named {
    /// The hosts in the order in which they are to be tried; none when what is said of them does not go together.
    pub(crate) fn all(config: &Config) -> Option<Vec<Self>> {
        let (hosts, addresses, ports) = (config.get_hosts(), config.get_hostaddrs(), config.get_ports());
        let fits = |others: usize, few: usize| others <= few || others == hosts.len();
        if hosts.is_empty() || !fits(addresses.len(), 0) || !fits(ports.len(), 1) {
            return None;
        }
        let port = |n: usize| ports.get(n).or(ports.first()).copied().unwrap_or(5432);
        let of = |(n, host): (usize, &Host)| Self {
            host: host.clone(),
            address: addresses.get(n).copied(),
            port: port(n),
        };
        Some(in_turn(config, hosts.iter().enumerate().map(of).collect()))
    }

    /// The servers behind it, in the order in which they are to be tried.
    pub(crate) async fn servers(&self, config: &Config) -> io::Result<Vec<Address>> {
        let name = match (&self.host, self.address) {
            (Host::Tcp(name), None) => name,
            _ => return Ok(vec![Address(self.clone())]),
        };
        let of = |address: IpAddr| Address(Self { address: Some(address), ..self.clone() });
        let found = tokio::net::lookup_host((name.as_str(), self.port)).await?;
        Ok(in_turn(config, found.map(|found| of(found.ip())).collect()))
    }
}

/// All, in the order in which they were said unless the URL leaves it to chance.
fn in_turn<T>(config: &Config, mut all: Vec<T>) -> Vec<T> {
    if config.get_load_balance_hosts() == LoadBalanceHosts::Random {
        // The last 32 bits of an id are random.
        all.sort_by_cached_key(|_| new_id().as_u128() as u32);
    }
    all
}

impl Address {
    /// How one connects to this server alone, and otherwise as said.
    pub(crate) fn only(&self, said: &Config) -> Config {
        let Named { host, address, port } = &self.0;
        let mut config = Config::new();
        match host {
            Host::Tcp(name) => config.host(name),
            #[cfg(unix)]
            Host::Unix(folder) => config.host_path(folder),
        };
        if let Some(address) = address {
            config.hostaddr(*address);
        }
        if let Some(user) = said.get_user() {
            config.user(user);
        }
        if let Some(password) = said.get_password() {
            config.password(password);
        }
        if let Some(database) = said.get_dbname() {
            config.dbname(database);
        }
        if let Some(options) = said.get_options() {
            config.options(options);
        }
        if let Some(name) = said.get_application_name() {
            config.application_name(name);
        }
        if let Some(timeout) = said.get_connect_timeout() {
            config.connect_timeout(*timeout);
        }
        if let Some(timeout) = said.get_tcp_user_timeout() {
            config.tcp_user_timeout(*timeout);
        }
        if let Some(interval) = said.get_keepalives_interval() {
            config.keepalives_interval(interval);
        }
        if let Some(retries) = said.get_keepalives_retries() {
            config.keepalives_retries(retries);
        }
        config
            .port(*port)
            .ssl_mode(said.get_ssl_mode())
            .ssl_negotiation(said.get_ssl_negotiation())
            .keepalives(said.get_keepalives())
            .keepalives_idle(said.get_keepalives_idle())
            .target_session_attrs(said.get_target_session_attrs())
            .channel_binding(said.get_channel_binding())
            .load_balance_hosts(said.get_load_balance_hosts());
        config
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for Named {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, address, port } = self;
        match (host, address) {
            (Host::Tcp(name), Some(address)) if *name != address.to_string() => {
                write!(f, "{name}:{port} ({address})")
            }
            (Host::Tcp(name), _) => write!(f, "{name}:{port}"),
            #[cfg(unix)]
            (Host::Unix(folder), _) => write!(f, "{}/.s.PGSQL.{port}", folder.display()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(said: &str) -> Option<Vec<Named>> {
        Named::all(&said.parse().unwrap())
    }

    #[test]
    fn each_host_has_its_address_and_port() {
        let said = "host=a,b hostaddr=10.0.0.1,10.0.0.2 port=1,2 user=u";
        let named: Vec<_> = all(said).unwrap().into_iter().map(|named| named.to_string()).collect();
        assert_eq!(named, ["a:1 (10.0.0.1)", "b:2 (10.0.0.2)"]);
        let one_port = all("host=a,/run/pg port=7 user=u").unwrap();
        assert_eq!(one_port[1].to_string(), "/run/pg/.s.PGSQL.7");
        assert_eq!(all("host=a user=u").unwrap()[0].port, 5432);
        for odd in ["user=u", "host=a,b hostaddr=10.0.0.1 user=u", "host=a,b,c port=1,2 user=u"] {
            assert_eq!(all(odd), None, "{odd}");
        }
    }

    #[test]
    fn what_is_left_to_chance_comes_in_every_order() {
        let random = "host=a,b,c load_balance_hosts=random user=u";
        let orders: std::collections::BTreeSet<String> =
            (0..1000).map(|_| all(random).unwrap().iter().map(Named::to_string).collect()).collect();
        assert_eq!(orders.len(), 6, "{orders:?}");
    }

    #[test]
    fn a_server_alone_is_connected_to_as_was_said_of_all() {
        let said = "host=a hostaddr=10.0.0.1 port=7 user=u password=p dbname=d options='-c a=b' application_name=n \
                    sslmode=require sslnegotiation=direct connect_timeout=3 tcp_user_timeout=4 keepalives=0 \
                    keepalives_idle=5 keepalives_interval=6 keepalives_retries=7 target_session_attrs=read-write \
                    channel_binding=require load_balance_hosts=random";
        let config: Config = said.parse().unwrap();
        let only = Address(Named::all(&config).unwrap().remove(0)).only(&config);
        assert_eq!(format!("{only:?}"), format!("{config:?}"));
        assert_eq!(only.get_password(), config.get_password());
    }
}
