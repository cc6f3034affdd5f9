//! Which engines this build knows.

use std::path::PathBuf;

use purlin::store::{Cause, Stores};
use purlin_postgres::Postgres;
use purlin_sqlite::{Options, Sqlite};

use super::process::Process;

/// `sqlite:DIR` keeps each service in a file of its own, `postgres://..` in a schema of its own, `memory:` keeps
/// nothing.
pub fn known(process: &Process) -> Stores {
    let crash = process.crash.clone();
    let stores = Stores::new().with("sqlite", move |folder, name| {
        let crash = crash.clone();
        async move {
            let folder = if folder.is_empty() { PathBuf::from(".") } else { PathBuf::from(folder) };
            let engine = Sqlite::open(Options::new(folder.join(format!("{name}.db")))).await?;
            Ok::<_, Cause>(crash.store(engine))
        }
    });
    ["postgres", "postgresql"].into_iter().fold(stores, |stores, scheme| {
        let crash = process.crash.clone();
        stores.with(scheme, move |rest, name| {
            let crash = crash.clone();
            async move {
                let options = purlin_postgres::Options::new(format!("{scheme}:{rest}"), name);
                Ok::<_, Cause>(crash.store(Postgres::open(options).await?))
            }
        })
    })
}
