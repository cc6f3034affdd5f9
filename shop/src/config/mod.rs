//! What the operator wants: options, then the environment, then `shop.toml`, then defaults.

mod calls;
mod duration;
mod options;
mod places;
mod reread;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail};
use clap::Parser;
use purlin::message::Uuid;
use purlin::resilience::Policies;
use purlin::store::personal::MasterKey;
use purlin::telemetry::logs::Format;

use crate::contracts::numbers::SHORTEST_PASSWORD;

#[cfg(test)]
pub use calls::policies as call_policies;
pub use calls::{Peers, breakers_of};
pub use options::{Options, Role};
pub use places::Places;
pub use reread::Reread;

/// How the program runs.
#[derive(Debug, Clone)]
pub struct Config {
    /// The only role of this process; none: every role but those that `peers` has.
    pub role: Option<Role>,
    /// Where the process keeps its files.
    pub data: PathBuf,
    /// Where services keep their data.
    pub store: String,
    /// How events cross between services.
    pub bus: String,
    /// Where the gateway listens.
    pub gateway: SocketAddr,
    /// Where the console listens.
    pub console: SocketAddr,
    /// Where a single role listens.
    pub listen: Option<SocketAddr>,
    /// Where the roles of other processes are: `host:port`, at least one of each role that is named.
    pub peers: Peers,
    /// Which ledger the payments are, whatever they know of it.
    pub payments_ledger: Option<Uuid>,
    /// How long work in hand may take once the process is to stop.
    pub drain: Duration,
    /// How log lines are written.
    pub log_format: Format,
    /// Which log lines are written.
    pub log: String,
    /// How long a checkout may take.
    pub checkout_deadline: Duration,
    /// The first administrator's password.
    pub admin_password: Option<String>,
    /// What the keys of personal data are wrapped in, in base64.
    pub master_key: Option<String>,
    /// Which model the assistant asks.
    pub model: Model,
    /// Requests a second of one caller.
    pub rate: Rate,
    /// Where gateways count them together.
    pub rate_limits: String,
    /// Connections at once of one address; none: the gateway's own limit, or half of what there can be.
    pub connections_per_address: Option<usize>,
    /// Registrations and log-ins a second of one address.
    pub sign_in_rate: Rate,
    /// How others are called.
    pub calls: Policies,
    /// How many requests each role answers at once.
    pub places: Places,
    /// The file that says so; of these two it is read again when the operator wants it (`purlin calls reload`), and not by
    /// itself.
    pub file: PathBuf,
}

/// Which model the assistant asks.
#[derive(Debug, Clone)]
pub enum Model {
    /// One that follows a script and needs nothing from outside.
    Scripted,
    /// Anthropic's, over the Messages API.
    Anthropic {
        /// The key of the API.
        key: String,
        /// Where the API is.
        url: String,
        /// Which model.
        name: String,
    },
}

/// So many a second, and so many at once.
#[derive(Debug, Clone, Copy)]
pub struct Rate {
    /// A second.
    pub per_second: u32,
    /// At once.
    pub burst: u32,
}

impl Config {
    /// Reads the command line, the environment and `shop.toml`.
    pub fn read() -> anyhow::Result<Self> {
        let given = Options::parse();
        let (path, named) = file_of(&given);
        let file = read_file(&path, named)?;
        Self::from(given.or(file))
    }

    fn from(options: Options) -> anyhow::Result<Self> {
        let (file, _) = file_of(&options);
        if options.role.is_none() && options.listen.is_some() {
            bail!("--listen is where a single role listens: name the role, or say --gateway and --console");
        }
        let data = options.data.unwrap_or_else(|| PathBuf::from("data"));
        let gateway: SocketAddr = options.gateway.unwrap_or_else(|| ([127, 0, 0, 1], 8080).into());
        let store = options.store.unwrap_or_else(|| format!("sqlite:{}", data.display()));
        let model = model(
            options.model.as_deref(),
            options.anthropic_api_key.filter(|key| !key.trim().is_empty()),
            options.anthropic_url,
            options.anthropic_model,
        )?;
        let peers = peers(options.peers.unwrap_or_default())?;
        if options.role.is_none()
            && let Some(role) = peers.keys().find(|role| !role.may_be_elsewhere())
        {
            bail!(
                "--peer {name}=..: without a role of its own this process has the {name}; only users, products, payments \
                 and the assistant may be in a process apart",
                name = role.name()
            );
        }
        if options.payments_ledger.is_some()
            && (options.role.is_some_and(|role| role != Role::Payments)
                || peers.contains_key(&Role::Payments))
        {
            bail!("--payments-ledger: the payments are not in this process: say it where they are");
        }
        Ok(Self {
            role: options.role,
            payments_ledger: options.payments_ledger,
            store,
            bus: options.bus.unwrap_or_else(|| "embedded".into()),
            gateway,
            // With any port for the gateway, nobody expects the console at a certain one.
            console: options
                .console
                .unwrap_or_else(|| ([127, 0, 0, 1], if gateway.port() == 0 { 0 } else { 9090 }).into()),
            listen: options.listen,
            drain: options.drain.map_or(Duration::from_secs(10), |drain| drain.0),
            log_format: match options.log_format {
                Some(format) => format.parse().context("--log-format")?,
                None => Format::Text,
            },
            log: options.log.unwrap_or_else(|| "info".into()),
            checkout_deadline: options.checkout_deadline.map_or(Duration::from_secs(600), |d| d.0),
            admin_password: admin_password(options.admin_password)?,
            master_key: master_key(options.master_key)?,
            model,
            rate: Rate { per_second: options.rate.unwrap_or(200), burst: options.rate_burst.unwrap_or(400) },
            rate_limits: options.rate_limits.unwrap_or_else(|| "memory:".into()),
            connections_per_address: options.connections_per_address,
            sign_in_rate: Rate {
                per_second: options.sign_in_rate.unwrap_or(10),
                burst: options.sign_in_burst.unwrap_or(50),
            },
            calls: calls::policies(options.calls, &file, &peers)?,
            places: options.places.unwrap_or_default().checked(&file)?,
            file,
            peers,
            data,
        })
    }
}

/// The file of options that need not be there.
const DEFAULT_FILE: &str = "shop.toml";

/// The file that was named, or `shop.toml`; and whether it was named.
fn file_of(options: &Options) -> (PathBuf, bool) {
    let named = options.config.is_some();
    (options.config.clone().unwrap_or_else(|| PathBuf::from(DEFAULT_FILE)), named)
}

/// What a file says; only a named one must be there.
fn read_file(path: &Path, named: bool) -> anyhow::Result<Options> {
    match std::fs::read_to_string(path) {
        Ok(text) => {
            toml::from_str(&text).with_context(|| format!("{} is not as it should be", path.display()))
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound && !named => Ok(Options::default()),
        Err(error) => Err(error).with_context(|| format!("cannot read {}", path.display())),
    }
}

/// The first administrator's password, which is as long as everybody's.
fn admin_password(given: Option<String>) -> anyhow::Result<Option<String>> {
    let given = given.filter(|password| !password.is_empty());
    if given.as_ref().is_some_and(|password| password.chars().count() < SHORTEST_PASSWORD) {
        bail!("SHOP_ADMIN_PASSWORD is too short: a password has at least {SHORTEST_PASSWORD} characters");
    }
    Ok(given)
}

/// The master key, which is one.
fn master_key(given: Option<String>) -> anyhow::Result<Option<String>> {
    let given = given.filter(|key| !key.trim().is_empty());
    if let Some(key) = &given {
        MasterKey::parse(key).context("SHOP_MASTER_KEY")?;
    }
    Ok(given)
}

fn peers(given: Vec<String>) -> anyhow::Result<BTreeMap<Role, Vec<String>>> {
    let mut peers = BTreeMap::<Role, Vec<String>>::new();
    for peer in given {
        let Some((role, url)) = peer.split_once('=') else {
            bail!("--peer {peer}: say ROLE=URL, for example users=http://10.0.0.7:8081");
        };
        let Some(role) = Role::ALL.into_iter().find(|known| known.name() == role.trim()) else {
            bail!(
                "--peer {peer}: there is no role `{}`, but: {}",
                role.trim(),
                Role::ALL.map(Role::name).join(", ")
            );
        };
        let Some(endpoint) = endpoint(url.trim()) else {
            bail!("--peer {peer}: the URL is http://HOST:PORT and no more, for example http://10.0.0.7:8081");
        };
        peers.entry(role).or_default().push(endpoint);
    }
    Ok(peers)
}

/// `host:port` of a plain `http://host:port`.
fn endpoint(url: &str) -> Option<String> {
    let url: http::Uri = url.parse().ok()?;
    let plain = url.scheme_str() == Some("http") && url.path() == "/" && url.query().is_none();
    let authority = url.authority().filter(|authority| plain && authority.port_u16().is_some())?;
    Some(authority.as_str().to_owned())
}

fn model(
    wanted: Option<&str>,
    key: Option<String>,
    url: Option<String>,
    name: Option<String>,
) -> anyhow::Result<Model> {
    let anthropic = |key| Model::Anthropic {
        key,
        url: url.unwrap_or_else(|| "https://api.anthropic.com".into()),
        name: name.unwrap_or_else(|| "claude-sonnet-4-5".into()),
    };
    match (wanted, key) {
        (None | Some("anthropic"), Some(key)) => Ok(anthropic(key)),
        (None, None) | (Some("scripted"), _) => Ok(Model::Scripted),
        (Some("anthropic"), None) => bail!("--model anthropic needs --anthropic-api-key (ANTHROPIC_API_KEY)"),
        (Some(other), _) => bail!("--model {other}: known are scripted and anthropic"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_option_goes_before_the_file_and_the_file_before_the_default() {
        let file: Options = toml::from_str("data = \"/from/file\"\ndrain = \"3s\"\nrate = 7").unwrap();
        let given = Options { data: Some("/from/option".into()), ..Options::default() };
        let config = Config::from(given.or(file)).unwrap();
        assert_eq!(config.data, PathBuf::from("/from/option"));
        assert_eq!(config.store, "sqlite:/from/option");
        assert_eq!(config.drain, Duration::from_secs(3));
        assert_eq!((config.rate.per_second, config.rate.burst), (7, 400));
    }

    #[test]
    fn a_key_of_the_file_that_is_not_known_is_refused() {
        assert!(toml::from_str::<Options>("dat = \"/x\"").is_err());
    }

    #[test]
    fn a_file_may_say_seconds_and_peers_as_the_command_line_does() {
        let file: Options =
            toml::from_str("drain = 3\npeer = [\"users=http://a:1/\", \"users=http://b:2\"]").unwrap();
        let config = Config::from(Options { role: Some(Role::Gateway), ..file }).unwrap();
        assert_eq!(config.drain, Duration::from_secs(3));
        assert_eq!(config.peers[&Role::Users], ["a:1", "b:2"]);
        assert!(toml::from_str::<Options>("peers = [\"users=http://a:1\"]").unwrap().peers.is_some());
    }

    #[test]
    fn the_first_administrators_password_is_as_long_as_everybodys() {
        let with = |password: &str| {
            Config::from(Options { admin_password: Some(password.into()), ..Options::default() })
        };
        assert!(with("short").is_err());
        assert!(with("long enough").is_ok());
        assert!(with("").unwrap().admin_password.is_none(), "an empty one is none");
    }

    #[test]
    fn what_the_file_says_of_calls_goes_before_what_the_shop_says() {
        let file: Options = toml::from_str("[calls.payments]\ntimeout = \"9s\"").unwrap();
        let calls = Config::from(file).unwrap().calls;
        let (payments, keys) = (calls.of("payments").policy, calls.of("keys-users").policy);
        assert_eq!((payments.timeout, payments.attempt), (Duration::from_secs(9), Duration::from_secs(8)));
        assert_eq!((keys.timeout, keys.retry.max_attempts), (Duration::from_secs(1), 1));
        let wrong: Options = toml::from_str("[calls.payments]\nattempt = \"9s\"").unwrap();
        let error = Config::from(wrong).unwrap_err().to_string();
        assert!(error.starts_with("shop.toml: `calls.payments.attempt`"), "{error}");
    }

    #[test]
    fn a_master_key_is_one() {
        let with = |key: &str| Config::from(Options { master_key: Some(key.into()), ..Options::default() });
        assert!(with("c2hvcnQ=").is_err());
        assert!(with(" ").unwrap().master_key.is_none());
        let key = format!("{}=", "A".repeat(43));
        assert_eq!(with(&key).unwrap().master_key, Some(key));
    }

    #[test]
    fn an_option_that_could_do_nothing_is_refused() {
        let peer = |peer: &str| Options { peers: Some(vec![peer.to_owned()]), ..Options::default() };
        for (options, said) in [
            (Options { listen: Some(([127, 0, 0, 1], 1).into()), ..Options::default() }, "name the role"),
            (
                Options { payments_ledger: Some(Uuid::nil()), ..peer("payments=http://a:1") },
                "not in this process",
            ),
            (peer("orders=http://a:1"), "this process has the orders"),
            (peer("gateway=http://a:1"), "this process has the gateway"),
            (Options { role: Some(Role::Gateway), ..peer("user=http://a:1") }, "there is no role `user`"),
            (Options { role: Some(Role::Gateway), ..peer("users=https://a:1") }, "http://HOST:PORT"),
            (Options { role: Some(Role::Gateway), ..peer("users=http://a") }, "http://HOST:PORT"),
            (Options { role: Some(Role::Gateway), ..peer("users=http://a:1/x") }, "http://HOST:PORT"),
        ] {
            let error = Config::from(options).unwrap_err().to_string();
            assert!(error.contains(said), "{error}");
        }
    }

    #[test]
    fn a_key_makes_the_assistant_ask_anthropic() {
        let config = Config::from(Options { anthropic_api_key: Some("k".into()), ..Options::default() });
        assert!(matches!(config.unwrap().model, Model::Anthropic { .. }));
        let options = Options { model: Some("anthropic".into()), ..Options::default() };
        assert!(Config::from(options).is_err());
    }
}
