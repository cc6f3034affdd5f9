//! The operator's socket in the data folder, on which `purlin` asks.

use anyhow::Context;
use purlin::service::operator::{self, OperatedCalls, Served};

use super::process::Process;
use crate::config::{Config, reread_calls};
use crate::console::Watched;

/// Answers the operator until the services stop: whoever holds the whole folder has its socket.
pub(super) fn serve(process: &Process, config: &Config, services: &[Watched]) -> anyhow::Result<()> {
    if config.role.is_some() {
        return Ok(());
    }
    let served = |service: &Watched| Served { name: service.name.to_owned(), store: service.store.clone() };
    let file = config.file.clone();
    let calls = OperatedCalls::new(&process.calls, move || reread_calls(&file));
    let router = operator::process(services.iter().map(served), calls);
    let listener = operator::listen(&config.data)
        .with_context(|| format!("cannot open {}", operator::socket_path(&config.data).display()))?;
    process.serve_operator(listener, router);
    Ok(())
}
