//! What a child process is: one of the services, or the gateway.
//!
//! A child says where it listens on its first line, and how it stands on every further one, as JSON; it takes orders
//! on its standard input, and ends when that does, so that no child outlives the benchmark.

mod callee;
mod gateway;
mod middle;
mod other;
mod station;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use axum::Router;
use axum::serve::ListenerExt as _;
use purlin::service::{ServeConfig, serve};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// The first argument of a child.
pub const ROLE: &str = "cascade-role";

/// How often a child says how it stands.
const SAYS: Duration = Duration::from_millis(50);

/// What a child says of itself.
pub(super) type Said = BTreeMap<String, f64>;

/// Is a child: the arguments behind [`ROLE`] say which.
pub fn be(arguments: &[String]) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    runtime.block_on(async {
        match arguments[..] {
            ["callee", port, care] => callee::be(port.parse()?, care.parse()?).await,
            ["other"] => other::be().await,
            ["middle", callee, care] => middle::be(callee, care.parse()?).await,
            ["gateway", middle, other, care] => gateway::be(middle, other, care.parse()?).await,
            _ => bail!("there is no such role: {arguments:?}"),
        }
    })
}

/// Whether a service keeps to what the framework gives it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Care {
    /// Bulkhead, breaker, retries within a budget; work that nobody waits for is dropped.
    Careful,
    /// Timeouts and retries, and nothing else.
    Careless,
}

impl Care {
    /// As an argument.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Careful => "careful",
            Self::Careless => "careless",
        }
    }
}

impl std::str::FromStr for Care {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        match text {
            "careful" => Ok(Self::Careful),
            "careless" => Ok(Self::Careless),
            _ => bail!("`{text}` is neither careful nor careless"),
        }
    }
}

/// Serves `router` on a port of this machine (0: any) until standard input ends; `order` is given each line of it.
async fn run(
    port: u16,
    router: Router,
    order: impl Fn(&str),
    said: impl Fn() -> Vec<(&'static str, f64)>,
) -> Result<()> {
    let listener = TcpListener::bind(("127.0.0.1", port)).await.context("listening")?;
    let address = listener.local_addr()?;
    let listener = listener.tap_io(|io| {
        let _ = io.set_nodelay(true);
    });
    let serving = serve(listener, router, ServeConfig::default(), CancellationToken::new());
    tokio::select! {
        () = serving => Ok(()),
        () = say(address, said) => Ok(()),
        ended = obey(order) => ended,
    }
}

/// Says where it listens, then how it stands, again and again.
async fn say(address: SocketAddr, said: impl Fn() -> Vec<(&'static str, f64)>) {
    println!("{address}");
    let mut ticks = tokio::time::interval(SAYS);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let said: Said = said().into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        println!("{}", serde_json::to_string(&said).expect("a map of numbers is JSON"));
    }
}

async fn obey(order: impl Fn(&str)) -> Result<()> {
    let mut lines = BufReader::new(tokio::io::stdin()).lines();
    while let Some(line) = lines.next_line().await? {
        order(&line);
    }
    Ok(())
}
