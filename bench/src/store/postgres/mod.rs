//! PostgreSQL: a server of our own, and what stands beside the store on it.

mod cqrs;
mod disintegrate;
mod insert;
mod server;
mod upserts;

use std::time::Duration;

use anyhow::{Context, Result};
use purlin_bench::Session;
use purlin_bench::append::{self, STREAMS, key};

use super::order::OrderEvent;

pub(crate) use cqrs::{Cqrs, Loads};
pub(crate) use disintegrate::Disintegrate;
pub(crate) use insert::Insert;
pub(crate) use server::Server;
pub(crate) use upserts::Upserts;

/// How long a peer waits for a connection of its pool: longer than a measurement.
const PATIENCE: Duration = Duration::from_secs(60);

/// Connections of a peer: one a caller, as far as that helps a machine of few cores.
pub(crate) const CONNECTIONS: u32 = 64;

/// The server, started when the first case asks for it.
#[derive(Default)]
pub(crate) struct Postgres {
    settings: Vec<String>,
    started: Option<Option<Server>>,
}

impl Postgres {
    /// One that has the memory that PostgreSQL's documentation recommends, a quarter of the machine's, and room between two
    /// checkpoints. As it is installed it has 128 MB, into which no index of ten million streams goes.
    pub(crate) fn with_memory() -> Result<Self> {
        let quarter = memory_kb()? / 4;
        let settings = vec![format!("shared_buffers={quarter}kB"), "max_wal_size=16GB".to_owned()];
        Ok(Self { settings, started: None })
    }

    /// The running server; none, and said once, when PostgreSQL is not installed.
    pub(crate) fn server(&mut self, session: &Session) -> Result<Option<&Server>> {
        if self.started.is_none() {
            self.started = Some(Server::start(session, &self.settings)?);
        }
        Ok(self.started.as_ref().and_then(Option::as_ref))
    }
}

/// The machine's memory, in kB.
fn memory_kb() -> Result<u64> {
    let all = std::fs::read_to_string("/proc/meminfo").context("the machine's memory")?;
    let total = all.lines().find_map(|line| line.strip_prefix("MemTotal:")?.trim().strip_suffix("kB"));
    total.and_then(|kb| kb.trim().parse().ok()).context("the machine does not say how much memory it has")
}

/// The key of the stream that event `n` belongs to, in SQL.
fn stream_sql() -> String {
    format!("'{}' || lpad(to_hex(n % {STREAMS}), 12, '0')", &key(0)[..24])
}

/// The event `n` as `serde_json` writes the enum, in SQL; `key` is that of its stream.
fn event_json(key: &str) -> String {
    let template = OrderEvent::tagged(0).replace(&append::key(0), "%s").replace("tea-0", "tea-%s");
    format!("format('{template}', {key}, n)")
}
