//! Keeps a second process out: an exclusive lock of the operating system on a file beside the store.

use std::fs::{File, TryLockError};
use std::path::Path;

use crate::error::OpenError;
use crate::files;

/// Held as long as the store is open; the system lets go of it when the process dies.
pub(crate) struct Lock {
    _file: File,
}

impl Lock {
    /// Takes the lock of a store's file, or says that it is in use. The lock of `a.db` is `a.db.lock`: every other
    /// file has another.
    pub(crate) fn take(store: &Path) -> Result<Self, OpenError> {
        let file = files::beside(store, ".lock");
        let failed = |source| OpenError::of_io(file.clone(), source);
        let open = files::open_private(&file).map_err(failed)?;
        match open.try_lock() {
            Ok(()) => Ok(Self { _file: open }),
            Err(TryLockError::WouldBlock) => Err(OpenError::InUse { file: store.to_owned() }),
            Err(TryLockError::Error(source)) => Err(failed(source)),
        }
    }
}
