//! PostgreSQL: a server of our own, and what stands beside the store on it.

mod cqrs;
mod disintegrate;
mod insert;
mod server;
mod upserts;

use std::time::Duration;

use anyhow::Result;
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
    started: Option<Option<Server>>,
}

impl Postgres {
    /// The running server; none, and said once, when PostgreSQL is not installed.
    pub(crate) fn server(&mut self, session: &Session) -> Result<Option<&Server>> {
        if self.started.is_none() {
            self.started = Some(Server::start(session)?);
        }
        Ok(self.started.as_ref().and_then(Option::as_ref))
    }
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
