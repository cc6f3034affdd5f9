//! Which engines this build knows.

use std::path::PathBuf;

use purlin::store::Stores;

/// `sqlite:DIR` keeps each service in a file of its own, `memory:` keeps nothing.
pub fn known() -> Stores {
    Stores::new().with("sqlite", |folder, name| async move {
        let folder = if folder.is_empty() { PathBuf::from(".") } else { PathBuf::from(folder) };
        Ok(purlin_sqlite::open(folder.join(format!("{name}.db"))).await?)
    })
}
