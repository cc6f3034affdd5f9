//! The stores of the process: which engines this build knows, and which stores are open.

use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use purlin::store::{Cause, Store, Stores};
use purlin_postgres::Postgres;
use purlin_sqlite::{Options, Sqlite};

use super::process::Process;

/// `sqlite:DIR` keeps each service in a file of its own, `postgres://..` in a schema of its own, `memory:` keeps
/// nothing.
fn known(process: &Process) -> Stores {
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
                // The relays, groups and sagas of this program are made for one process.
                let options = purlin_postgres::Options { sole: true, ..options };
                Ok::<_, Cause>(crash.store(Postgres::open(options).await?))
            }
        })
    })
}

/// How long a store may take to finish what it took.
const CLOSE: Duration = Duration::from_secs(5);

/// The stores that were opened, to be closed at the end however far the process came.
#[derive(Debug, Default)]
pub struct Opened(Mutex<Vec<Store>>);

impl Opened {
    /// Opens the store of a name, and remembers it.
    pub async fn open(&self, process: &Process, url: &str, name: &str) -> anyhow::Result<Store> {
        let store = known(process).open(url, name).await?;
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(store.clone());
        Ok(store)
    }

    /// Closes them all.
    pub async fn close(&self) {
        let stores = std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
        for store in stores {
            if tokio::time::timeout(CLOSE, store.close()).await.is_err() {
                tracing::warn!(?store, "a store did not close in time");
            }
        }
    }
}
