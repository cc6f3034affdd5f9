//! Keeps a second process out: an exclusive lock of the operating system on a file beside the store.

use std::fs::{File, TryLockError};
use std::path::Path;
use std::time::{Duration, Instant};

use crate::error::OpenError;
use crate::files;

/// How long it is tried before a store is said to be in use. A child process that any thread is just starting has a copy
/// of the lock from its fork to its exec, also of one that was let go of meanwhile.
const PATIENCE: Duration = Duration::from_secs(1);

/// Between two tries.
const STEP: Duration = Duration::from_millis(5);

/// Held as long as the store is open; the system lets go of it when the process dies.
pub(crate) struct Lock {
    _file: File,
}

impl Lock {
    /// Takes the lock of a store's file, or says that it is in use, after a second. The lock of `a.db` is `a.db.lock`:
    /// every other file has another.
    pub(crate) fn take(store: &Path) -> Result<Self, OpenError> {
        let file = files::beside(store, ".lock");
        let failed = |source| OpenError::of_io(file.clone(), source);
        let open = files::open_private(&file).map_err(failed)?;
        let until = Instant::now() + PATIENCE;
        loop {
            match open.try_lock() {
                Ok(()) => return Ok(Self { _file: open }),
                Err(TryLockError::WouldBlock) if Instant::now() < until => std::thread::park_timeout(STEP),
                Err(TryLockError::WouldBlock) => return Err(OpenError::InUse { file: store.to_owned() }),
                Err(TryLockError::Error(source)) => return Err(failed(source)),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_that_was_let_go_of_is_waited_for_while_a_child_has_a_copy_of_it() {
        let folder = std::env::temp_dir().join(format!("purlin-lock-{}", purlin::message::new_id()));
        let store = folder.join("a.db");
        files::make_folder(&store).unwrap();
        let lock = Lock::take(&store).unwrap();
        // What a fork does: the same lock, held by another descriptor.
        let of_child = lock._file.try_clone().unwrap();
        drop(lock);
        assert!(matches!(Lock::take(&store), Err(OpenError::InUse { .. })), "not for ever");
        let taken = std::thread::scope(|threads| {
            let taking = threads.spawn(|| Lock::take(&store));
            std::thread::park_timeout(20 * STEP);
            drop(of_child);
            taking.join().unwrap()
        });
        assert!(taken.is_ok());
        drop(taken);
        std::fs::remove_dir_all(folder).unwrap();
    }
}
