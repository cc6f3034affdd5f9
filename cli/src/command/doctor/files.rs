//! The files of a data folder: whose they are, what they say of themselves, and how much room there is.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use purlin::message::Clock;
use purlin::service::operator;
use purlin_sqlite::OpenError;

use super::finding::{Finding, bytes};
use crate::place::sqlite_files;

/// A disk with less room than this is about to be full.
const LITTLE: u64 = 1 << 30;
/// With less than this, commits are about to be refused.
const NONE: u64 = 64 << 20;
/// A write-ahead log that is longer than this is not moved into its file.
const LONG_WAL: u64 = 256 << 20;

/// What becomes of a log that was put back.
pub(super) const NEW_LIFE: &str =
    "the log begins a new incarnation when it is opened: relays and groups that follow the old one will stop";

/// Looks at a folder, or at one file in it, whose archive may be said to be elsewhere than it remembers.
pub(super) async fn folder(
    folder: &Path,
    only: Option<&PathBuf>,
    archive: Option<&Path>,
    found: &mut Vec<Finding>,
) {
    let files = match sqlite_files(folder) {
        Ok(files) => files,
        Err(failure) => {
            let advice =
                "give the user who runs this the right to read it, or name another folder with --data";
            return found.push(Finding::fail("folder", failure.told(), advice).ending());
        }
    };
    // The folder may be `.`, which the file that was said need not begin with.
    let is_meant = |file: &Path| only.is_none_or(|only| only.file_name() == file.file_name());
    let files: Vec<_> = files.into_iter().filter(|(_, file)| is_meant(file)).collect();
    let process = operator::connect(folder).await;
    // A process answers in its folder also when its stores are in a database.
    let is_kept_elsewhere = files.is_empty() && only.is_none() && process.is_ok();
    if files.is_empty() && !is_kept_elsewhere {
        let at = only.map_or(folder, |file| file.as_path()).display();
        let said = format!("there is no store at `{at}`");
        let advice = "name the folder of the process with --data, or start the process first";
        return found.push(Finding::fail("folder", said, advice).ending());
    }
    found.push(rights("folder", folder, 0o700));
    found.push(room(folder));
    let socket = operator::socket_path(folder);
    match &process {
        Ok(_) => found.push(rights("socket", &socket, 0o600)),
        Err(_) => {
            found.push(Finding::ok("process", "none answers in this folder: the stores are opened here"));
        }
    }
    if is_kept_elsewhere {
        found.push(Finding::ok(
            "stores",
            "none is here: the process that answers in this folder has them elsewhere",
        ));
    }
    for (name, file) in &files {
        store(name, (file, archive), process.is_ok(), found).await;
    }
}

async fn store(
    name: &str,
    (file, elsewhere): (&Path, Option<&Path>),
    answered: bool,
    found: &mut Vec<Finding>,
) {
    found.push(rights(&format!("{name}: file"), file, 0o600));
    let about = format!("{name}: store");
    let store = match purlin_sqlite::inspect_with(file, elsewhere.map(Path::to_owned)).await {
        Ok(store) => store,
        Err(error) => {
            return found.push(Finding::fail(about, told(&error), mending(&error)));
        }
    };
    if !answered && purlin_sqlite::in_use(file).unwrap_or(false) {
        let said = "a process has it open, and answers on no socket";
        let advice = "it may be starting or stopping; if it hangs, stop it";
        found.push(Finding::fail(&about, said, advice));
    }
    let last = store.last.map_or_else(|| "none yet".to_owned(), |last| last.to_string());
    let said = format!(
        "format {}, log {}-{}, {} events, the last at {last}, {} collections, {}",
        store.format,
        store.log.log,
        store.log.incarnation,
        store.head,
        store.collections.len(),
        bytes(store.bytes)
    );
    found.push(match (store.format < store.known, store.copy) {
        (_, true) => Finding::warn(&about, format!("{said}; it is a copy that nobody has opened"), NEW_LIFE),
        (true, _) => {
            Finding::ok(&about, format!("{said}; it is brought to format {} when it is opened", store.known))
        }
        (false, false) => Finding::ok(&about, said),
    });
    if store.wal_bytes > LONG_WAL {
        let said = format!("{} wait to be moved into the file", bytes(store.wal_bytes));
        let advice =
            "something reads for very long, or the disk is slow; starting the process anew moves them";
        found.push(Finding::warn(format!("{name}: WAL"), said, advice));
    }
    found.extend(store.archive.as_ref().map(|one| archive(name, one)));
    found.extend(clock(name, store.last));
}

/// What is to be done about a file that cannot be opened. Nothing is restored in place of one that is whole.
fn mending(error: &OpenError) -> &'static str {
    match error {
        OpenError::ReadOnly { .. } => "run this as the user that the process runs as",
        OpenError::Newer { .. } => "use the program that wrote it, or a newer one",
        _ => "if it is damaged, restore a backup (`purlin store restore`)",
    }
}

/// What was archived, and whether it can be read.
fn archive(name: &str, archive: &purlin_sqlite::ArchiveInspection) -> Finding {
    let about = format!("{name}: archive");
    if let Some(refused) = &archive.refused {
        return Finding::fail(
            about,
            refused.clone(),
            "what is archived cannot be read until then; all else goes on. If it is lost, restore a backup",
        );
    }
    let said = format!(
        "`{}` has {} events with {} of data, in {}",
        archive.file.display(),
        archive.events,
        bytes(archive.data_bytes),
        bytes(archive.bytes)
    );
    Finding::ok(about, said)
}

/// Whether time goes on.
pub(super) fn clock(name: &str, last: Option<purlin::message::Timestamp>) -> Option<Finding> {
    let ahead = last?.duration_since(Clock::system().now()).as_secs();
    (ahead > 5).then(|| {
        let said = format!("the last event is {ahead} s in the future of this machine's clock");
        let advice = "set the clock (NTP); until then events bear the time of the last one";
        Finding::warn(format!("{name}: clock"), said, advice)
    })
}

fn rights(about: &str, path: &Path, wanted: u32) -> Finding {
    match std::fs::metadata(path) {
        Ok(there) => {
            let mode = there.permissions().mode() & 0o777;
            let said = format!("`{}` has mode {mode:04o}", path.display());
            match mode & !wanted {
                0 => Finding::ok(about, said),
                _ => Finding::warn(
                    about,
                    format!("{said}: others than its owner can get at it"),
                    format!("chmod {wanted:04o} {}", path.display()),
                ),
            }
        }
        Err(error) => {
            let said = format!("`{}`: {error}", path.display());
            Finding::fail(about, said, "see whether the path is right, and who may read it")
        }
    }
}

fn room(folder: &Path) -> Finding {
    let about = "disk";
    match rustix::fs::statvfs(folder) {
        Ok(disk) => {
            let free = disk.f_bavail.saturating_mul(disk.f_frsize);
            let said = format!("{} are free", bytes(free));
            let advice = "make room: a full disk refuses commits, and nothing is lost by that";
            match free {
                NONE.. if free >= LITTLE => Finding::ok(about, said),
                NONE.. => Finding::warn(about, said, advice),
                _ => Finding::fail(about, said, advice),
            }
        }
        Err(error) => {
            Finding::warn(about, format!("it cannot be asked how much is free: {error}"), "look with df")
        }
    }
}

/// An error with all of its causes.
pub(super) fn told(error: &dyn std::error::Error) -> String {
    let mut told = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        told += &format!(": {error}");
        cause = error.source();
    }
    told
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_is_told_to_restore_a_file_that_is_whole() {
        let file = PathBuf::from("orders.db");
        let damaged = OpenError::Database { file: file.clone(), source: "not a database".into() };
        assert!(mending(&damaged).contains("restore"));
        let read_only = OpenError::ReadOnly { file: file.clone(), source: "no rights".into() };
        let newer = OpenError::Newer { file, found: 9, known: 5 };
        assert!(!mending(&read_only).contains("restore") && !mending(&newer).contains("restore"));
    }
}
