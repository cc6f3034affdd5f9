//! The folder that a process keeps its files in: one process at a time.

use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::Path;

use anyhow::{Context, bail};

use crate::config::Role;

/// The folder, locked as long as this lives.
#[derive(Debug)]
pub struct DataFolder {
    _locks: Vec<File>,
}

impl DataFolder {
    /// Makes the folder if need be, and locks it: for all roles alone, or for one role beside others.
    pub fn open(path: &Path, role: Option<Role>) -> anyhow::Result<Self> {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(path)
            .with_context(|| format!("cannot make the data folder {}", path.display()))?;
        let shop = lock_file(path, "shop.lock")?;
        let locks = match role {
            None => {
                refuse(shop.try_lock(), path)?;
                vec![shop]
            }
            Some(role) => {
                // Beside it, `<role>.db.lock` is the lock of the role's store.
                let own = lock_file(path, &format!("shop-{}.lock", role.name()))?;
                refuse(shop.try_lock_shared(), path)?;
                refuse(own.try_lock(), path)?;
                vec![shop, own]
            }
        };
        Ok(Self { _locks: locks })
    }
}

fn lock_file(path: &Path, name: &str) -> anyhow::Result<File> {
    let file = path.join(name);
    let opened = OpenOptions::new().create(true).truncate(false).write(true).open(&file);
    opened.with_context(|| format!("cannot open {}", file.display()))
}

fn refuse(locked: Result<(), TryLockError>, path: &Path) -> anyhow::Result<()> {
    match locked {
        Ok(()) => Ok(()),
        Err(TryLockError::WouldBlock) => bail!(
            "the data folder {} is in use by another process: stop it, or give this one another folder (--data DIR)",
            path.display()
        ),
        Err(TryLockError::Error(error)) => {
            Err(error).with_context(|| format!("cannot lock the data folder {}", path.display()))
        }
    }
}
