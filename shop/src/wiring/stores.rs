//! Which engines this build knows.

use std::path::PathBuf;

use purlin::store::{Cause, Store, Stores};

use super::process::Process;

/// `sqlite:DIR` keeps each service in a file of its own, `memory:` keeps nothing.
pub fn known(process: &Process) -> Stores {
    let sqlite = Sqlite::new(process);
    Stores::new().with("sqlite", move |folder, name| {
        let sqlite = sqlite.clone();
        async move {
            let folder = if folder.is_empty() { PathBuf::from(".") } else { PathBuf::from(folder) };
            sqlite.open(folder.join(format!("{name}.db"))).await
        }
    })
}

/// Opens files; in builds for tests, so that every commit is a place where the process can be ended.
#[derive(Clone)]
struct Sqlite {
    #[cfg(debug_assertions)]
    crash: super::crash::Crash,
}

#[cfg(debug_assertions)]
impl Sqlite {
    fn new(process: &Process) -> Self {
        Self { crash: process.crash.clone() }
    }

    async fn open(&self, file: PathBuf) -> Result<Store, Cause> {
        Ok(self.crash.guard(purlin_sqlite::Sqlite::open(purlin_sqlite::Options::new(file)).await?))
    }
}

#[cfg(not(debug_assertions))]
impl Sqlite {
    fn new(_: &Process) -> Self {
        Self {}
    }

    async fn open(&self, file: PathBuf) -> Result<Store, Cause> {
        Ok(purlin_sqlite::open(file).await?)
    }
}
