//! The operator's socket in the data folder, on which `purlin` asks.

use std::io;
use std::path::{Path, PathBuf};

use anyhow::Context;
use purlin::service::operator::{self, OperatedCalls, Served};
use tokio::net::UnixListener;

use super::process::Process;
use crate::config::{Config, Reread, Role};

/// Answers the operator until the services stop: on the socket of the data folder for whoever holds all of it, on that
/// of a folder of its role in it for one role beside others.
pub(super) async fn serve(process: &Process, config: &Config, kept: Vec<Served>) -> anyhow::Result<()> {
    let folder = folder(&config.data, config.role);
    let opened = match config.role {
        Some(role) => open_of_role(&folder, role).await,
        None => operator::listen(&folder),
    };
    let listener = match opened {
        Ok(listener) => listener,
        // A role that keeps no data needs no folder, and several of it may have the same.
        Err(error) if config.role.is_some_and(|role| !role.keeps_data()) => {
            let socket = operator::socket_path(&folder);
            tracing::warn!(%error, socket = %socket.display(), "this process has no operator's socket");
            return Ok(());
        }
        Err(error) => {
            let socket = operator::socket_path(&folder);
            return Err(error).with_context(|| format!("cannot open {}", socket.display()));
        }
    };
    let (file, peers, rooms) = (config.file.clone(), config.peers.clone(), process.served.clone());
    let calls = OperatedCalls::new(&process.calls, move || {
        let Reread { calls, places } = Reread::of(&file, &peers)?;
        let rooms = rooms.clone();
        anyhow::Ok(operator::Reread::with(calls, move || rooms.reconfigure(places)))
    });
    process.serve_operator(listener, operator::process(kept, calls));
    Ok(())
}

/// The folder of the socket: what `purlin --data` is given.
fn folder(data: &Path, role: Option<Role>) -> PathBuf {
    role.map_or_else(|| data.to_owned(), |role| data.join(role.name()))
}

/// Opens the socket of a role, unless another process of the role answers there: only roles with data have a lock.
async fn open_of_role(folder: &Path, role: Role) -> io::Result<UnixListener> {
    std::fs::create_dir_all(folder)?;
    if !role.keeps_data() && operator::connect(folder).await.is_ok() {
        return Err(io::Error::new(io::ErrorKind::AddrInUse, "another process of this role answers there"));
    }
    operator::listen(folder)
}
