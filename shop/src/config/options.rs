//! The options: each is also an environment variable and a key of `shop.toml`.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Parser, ValueEnum};
use purlin::message::Uuid;
use purlin::resilience::policies::Section;
use serde::Deserialize;

use super::duration::Span;
use super::places::Places;

/// The shop: a gateway, six services, an assistant and a console, in one process or in many.
///
/// Every option is also an environment variable and a key of shop.toml (with _ for -). An option goes before the
/// environment, the environment before the file, the file before the default.
#[derive(Debug, Clone, Default, Parser, Deserialize)]
#[command(name = "shop", version)]
#[serde(default, deny_unknown_fields)]
pub struct Options {
    /// The only role of this process [default: every role]
    #[arg(value_enum)]
    #[serde(skip)]
    pub role: Option<Role>,
    /// Where the process keeps its files; made if it is not there [default: data]
    #[arg(long, env = "SHOP_DATA", value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// Where services keep their data: sqlite:DIR, postgres://USER@HOST/DATABASE, or memory: (nothing lasts) [default: sqlite: in the data folder]
    #[arg(long, env = "SHOP_STORE", value_name = "URL")]
    pub store: Option<String>,
    /// How events cross between services: embedded (within one process) [default: embedded]
    #[arg(long, env = "SHOP_BUS", value_name = "URL")]
    pub bus: Option<String>,
    /// Where the gateway listens; port 0 is any free port, also for every other listener [default: 127.0.0.1:8080]
    #[arg(long, env = "SHOP_GATEWAY", value_name = "ADDR")]
    pub gateway: Option<SocketAddr>,
    /// Where the console listens; port 0 is any free port [default: 127.0.0.1:9090]
    #[arg(long, env = "SHOP_CONSOLE", value_name = "ADDR")]
    pub console: Option<SocketAddr>,
    /// Where a single role listens [default: the role's own port on 127.0.0.1]
    #[arg(long, env = "SHOP_LISTEN", value_name = "ADDR")]
    pub listen: Option<SocketAddr>,
    /// Where a role of another process is, as often as needed; of several for one role the gateway takes each in turn,
    /// and a service the first. They are called in plain http, with passwords and tokens, those of administrators too: to
    /// another machine the network must be one that nobody else reads (a tunnel, a service mesh). Without a role, this process has all but those: users, products, payments and the
    /// assistant may be apart. With the payments apart no event reaches them, and the choreographed flow is refused
    /// (409 flow-unavailable) [default: the role's own port on 127.0.0.1]
    #[arg(long = "peer", env = "SHOP_PEERS", value_name = "ROLE=URL", value_delimiter = ',')]
    #[serde(rename = "peer", alias = "peers")]
    pub peers: Option<Vec<String>>,
    /// Which ledger the payments of this process are from now on, though their data do not say so, because those were lost.
    /// It is the one that the orders were paid in, which the refusal to start or to charge names. Each start with
    /// it says anew that what choreographed orders asked for until then may be paid, and is not charged. Only here, and
    /// neither in the environment nor in the file: it is done once
    #[arg(long, value_name = "UUID")]
    #[serde(skip)]
    pub payments_ledger: Option<Uuid>,
    /// How long work in hand may take once the process is to stop [default: 10s]
    #[arg(long, env = "SHOP_DRAIN", value_name = "DURATION")]
    pub drain: Option<Span>,
    /// How log lines are written: text or json [default: text]
    #[arg(long, env = "SHOP_LOG_FORMAT", value_name = "FORMAT")]
    pub log_format: Option<String>,
    /// Which log lines are written: a level, or target=level, separated by commas [default: info]
    #[arg(long, env = "SHOP_LOG", value_name = "FILTER")]
    pub log: Option<String>,
    /// The file of options; only a named one must exist [default: shop.toml]
    #[arg(long, env = "SHOP_CONFIG", value_name = "FILE")]
    #[serde(skip)]
    pub config: Option<PathBuf>,
    /// How long a checkout may take before it is given up [default: 10m]
    #[arg(long, env = "SHOP_CHECKOUT_DEADLINE", value_name = "DURATION")]
    pub checkout_deadline: Option<Span>,
    /// The first administrator's password, on first start [default: one is made up and written to a file]
    #[arg(long, env = "SHOP_ADMIN_PASSWORD", value_name = "PASSWORD", hide_env_values = true)]
    pub admin_password: Option<String>,
    /// What the keys of personal data are wrapped in: 32 bytes in base64. Once given, always needed [default: none]
    #[arg(long, env = "SHOP_MASTER_KEY", value_name = "KEY", hide_env_values = true)]
    pub master_key: Option<String>,
    /// Which model the assistant asks: scripted or anthropic [default: anthropic with a key, else scripted]
    #[arg(long, env = "SHOP_MODEL", value_name = "MODEL")]
    pub model: Option<String>,
    /// The key of Anthropic's API [default: none]
    #[arg(long, env = "ANTHROPIC_API_KEY", value_name = "KEY", hide_env_values = true)]
    pub anthropic_api_key: Option<String>,
    /// Where Anthropic's API is [default: api.anthropic.com over https]
    #[arg(long, env = "SHOP_ANTHROPIC_URL", value_name = "URL")]
    pub anthropic_url: Option<String>,
    /// Which of Anthropic's models [default: claude-sonnet-4-5]
    #[arg(long, env = "SHOP_ANTHROPIC_MODEL", value_name = "NAME")]
    pub anthropic_model: Option<String>,
    /// Requests a second of each caller [default: 200]
    #[arg(long, env = "SHOP_RATE", value_name = "N")]
    pub rate: Option<u32>,
    /// Requests at once of each caller [default: 400]
    #[arg(long, env = "SHOP_RATE_BURST", value_name = "N")]
    pub rate_burst: Option<u32>,
    /// Where gateways count the requests of their callers together: redis://HOST:PORT, or memory: (each for itself)
    /// [default: memory:]
    #[arg(long, env = "SHOP_RATE_LIMITS", value_name = "URL", hide_env_values = true)]
    pub rate_limits: Option<String>,
    /// Connections at once of each address; further ones are answered 503 [default: 2000, or half of what the process may
    /// open if that is less]
    #[arg(long, env = "SHOP_CONNECTIONS_PER_ADDRESS", value_name = "N")]
    pub connections_per_address: Option<usize>,
    /// Registrations, and log-ins, a second of each address [default: 10]
    #[arg(long, env = "SHOP_SIGN_IN_RATE", value_name = "N")]
    pub sign_in_rate: Option<u32>,
    /// Registrations, and log-ins, at once of each address [default: 50]
    #[arg(long, env = "SHOP_SIGN_IN_BURST", value_name = "N")]
    pub sign_in_burst: Option<u32>,
    /// How others are called; only in the file, as its table `calls`.
    #[arg(skip)]
    pub calls: Option<Section>,
    /// How many requests each role answers at once; only in the file, as its table `places`.
    #[arg(skip)]
    pub places: Option<Places>,
}

/// What a process can be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, ValueEnum)]
pub enum Role {
    /// The only door for customers.
    Gateway,
    /// Who may do what.
    Users,
    /// What is for sale.
    Products,
    /// How many of it there are.
    Inventory,
    /// What was ordered.
    Orders,
    /// What was paid.
    Payments,
    /// What was sent.
    Shipping,
    /// Answers questions.
    Assistant,
    /// Shows operators what is going on.
    Console,
}

impl Role {
    /// Every role.
    pub const ALL: [Self; 9] = [
        Self::Gateway,
        Self::Users,
        Self::Products,
        Self::Inventory,
        Self::Orders,
        Self::Payments,
        Self::Shipping,
        Self::Assistant,
        Self::Console,
    ];

    /// The role's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Gateway => "gateway",
            Self::Users => "users",
            Self::Products => "products",
            Self::Inventory => "inventory",
            Self::Orders => "orders",
            Self::Payments => "payments",
            Self::Shipping => "shipping",
            Self::Assistant => "assistant",
            Self::Console => "console",
        }
    }

    /// The role's own port.
    pub fn port(self) -> u16 {
        match self {
            Self::Gateway => 8080,
            Self::Users => 8081,
            Self::Products => 8082,
            Self::Inventory => 8083,
            Self::Orders => 8084,
            Self::Payments => 8085,
            Self::Shipping => 8086,
            Self::Assistant => 8087,
            Self::Console => 9090,
        }
    }

    /// Whether it answers what the gateway lets through.
    pub fn is_behind_gateway(self) -> bool {
        !matches!(self, Self::Gateway | Self::Console)
    }

    /// Whether it keeps files in the data folder.
    pub fn keeps_data(self) -> bool {
        !matches!(self, Self::Gateway | Self::Assistant | Self::Console)
    }

    /// Whether the process that has all other roles may do without it.
    pub fn may_be_elsewhere(self) -> bool {
        matches!(self, Self::Users | Self::Products | Self::Payments | Self::Assistant)
    }

    /// Whether it hears events of other services, or is heard by them.
    pub fn hears_events(self) -> bool {
        matches!(self, Self::Inventory | Self::Orders | Self::Payments | Self::Shipping)
    }

    /// Whether it is of no use where no event reaches it. The payments carry out what they are asked for as well: all of
    /// an orchestrated checkout.
    pub fn needs_bus(self) -> bool {
        self.hears_events() && self != Self::Payments
    }
}

impl Options {
    /// These options, and where they say nothing, others.
    pub fn or(self, other: Self) -> Self {
        Self {
            role: self.role.or(other.role),
            data: self.data.or(other.data),
            store: self.store.or(other.store),
            bus: self.bus.or(other.bus),
            gateway: self.gateway.or(other.gateway),
            console: self.console.or(other.console),
            listen: self.listen.or(other.listen),
            peers: self.peers.or(other.peers),
            payments_ledger: self.payments_ledger.or(other.payments_ledger),
            drain: self.drain.or(other.drain),
            log_format: self.log_format.or(other.log_format),
            log: self.log.or(other.log),
            config: self.config.or(other.config),
            checkout_deadline: self.checkout_deadline.or(other.checkout_deadline),
            admin_password: self.admin_password.or(other.admin_password),
            master_key: self.master_key.or(other.master_key),
            model: self.model.or(other.model),
            anthropic_api_key: self.anthropic_api_key.or(other.anthropic_api_key),
            anthropic_url: self.anthropic_url.or(other.anthropic_url),
            anthropic_model: self.anthropic_model.or(other.anthropic_model),
            rate: self.rate.or(other.rate),
            rate_burst: self.rate_burst.or(other.rate_burst),
            calls: self.calls.or(other.calls),
            places: self.places.or(other.places),
            rate_limits: self.rate_limits.or(other.rate_limits),
            connections_per_address: self.connections_per_address.or(other.connections_per_address),
            sign_in_rate: self.sign_in_rate.or(other.sign_in_rate),
            sign_in_burst: self.sign_in_burst.or(other.sign_in_burst),
        }
    }
}
