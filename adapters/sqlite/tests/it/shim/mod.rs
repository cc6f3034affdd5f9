//! A process on a disk that loses what was not synced (`disk.c`, preloaded).

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

use crate::folder::Folder;

/// The disk: a folder that the process sees, and what a power failure would leave of it.
pub(crate) struct Disk {
    folder: Folder,
    settings: Vec<(&'static str, String)>,
}

/// A test of this binary that ran in a process of its own.
pub(crate) struct Ran {
    output: Output,
}

impl Disk {
    /// An empty one; none when it cannot be made here. What that is is said, and with `CI` set the test fails.
    pub(crate) fn new() -> Option<Self> {
        library()?;
        let folder = Folder::new();
        for name in ["seen", "image/objects", "image/tree"] {
            std::fs::create_dir_all(folder.path().join(name)).expect("the temporary folder can be written");
        }
        Some(Self { folder, settings: Vec::new() })
    }

    /// As the head of `disk.c` says.
    pub(crate) fn with(mut self, name: &'static str, value: &impl ToString) -> Self {
        self.settings.push((name, value.to_string()));
        self
    }

    /// What the process sees.
    pub(crate) fn seen(&self) -> PathBuf {
        self.folder.path().join("seen")
    }

    /// What a power failure leaves.
    pub(crate) fn left(&self) -> PathBuf {
        self.folder.path().join("image/tree")
    }

    /// While this file is there, the disk is read-only.
    pub(crate) fn read_only(&self) -> PathBuf {
        self.folder.path().join("read-only")
    }

    /// While this file is there, no log can be synced.
    pub(crate) fn doubt(&self) -> PathBuf {
        self.folder.path().join("doubt")
    }

    /// Runs a test of this binary on it.
    pub(crate) fn run(&self, test: &str, variables: &[(&str, &str)]) -> Ran {
        let mut command = Command::new(std::env::current_exe().expect("a test is a program"));
        command.args([test, "--exact", "--nocapture"]);
        command.env("LD_PRELOAD", library().expect("it was there when the disk was made"));
        command.env("PURLIN_DISK_FOLDER", self.seen());
        command.env("PURLIN_DISK_IMAGE", self.folder.path().join("image"));
        command.env("PURLIN_DISK_READ_ONLY", self.read_only());
        command.env("PURLIN_DISK_DOUBT", self.doubt());
        command.envs(self.settings.iter().map(|(name, value)| (name, value)));
        command.envs(variables.iter().copied());
        Ran { output: command.output().expect("the test can be started again") }
    }
}

impl Ran {
    /// What it said with [`say`].
    pub(crate) fn said(&self) -> Vec<String> {
        let lines = String::from_utf8_lossy(&self.output.stdout);
        lines.lines().filter_map(|line| line.strip_prefix(MARK)).map(str::to_owned).collect()
    }

    /// How many writes and syncs the disk saw; none when the power failed.
    pub(crate) fn counted(&self) -> Option<(u64, u64)> {
        let errors = String::from_utf8_lossy(&self.output.stderr);
        let counts = errors.lines().find_map(|line| line.strip_prefix("disk: "))?;
        let (writes, syncs) = counts.split_once(" writes, ")?;
        Some((writes.parse().ok()?, syncs.strip_suffix(" syncs")?.parse().ok()?))
    }

    /// Panics with what it printed unless it succeeded.
    pub(crate) fn expect_success(&self) {
        let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
        let (out, errors) = (text(&self.output.stdout), text(&self.output.stderr));
        assert!(self.output.status.success(), "{out}\n{errors}");
    }
}

/// What lines of a child begin with, so that those of the test runner are told apart.
const MARK: &str = "child: ";

/// Tells the parent; it has heard what was said even when the power fails right behind it.
pub(crate) fn say(line: &str) {
    use std::io::Write as _;
    let mut out = std::io::stdout().lock();
    out.write_all(format!("\n{MARK}{line}\n").as_bytes())
        .and_then(|()| out.flush())
        .expect("the parent listens");
}

/// Whether this process is on such a disk.
pub(crate) fn is_preloaded() -> bool {
    std::env::var_os("PURLIN_DISK").is_some()
}

/// The preloaded library, compiled once.
fn library() -> Option<&'static Path> {
    static LIBRARY: OnceLock<Option<PathBuf>> = OnceLock::new();
    let made = LIBRARY.get_or_init(|| match compile() {
        Ok(library) => Some(library),
        Err(why) if std::env::var_os("CI").is_some() => panic!("{why}"),
        Err(why) => {
            eprintln!("SKIPPED (with CI set: failed): {why}");
            None
        }
    });
    made.as_deref()
}

fn compile() -> Result<PathBuf, String> {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR"));
    let failed = |what: &str, error: &dyn std::fmt::Display| {
        format!("the disk that loses what was not synced: {what}: {error}")
    };
    std::fs::create_dir_all(&folder).map_err(|error| failed("the target folder", &error))?;
    let [source, part] = ["c", "part"].map(|end| folder.join(format!("disk-{}.{end}", std::process::id())));
    std::fs::write(&source, include_str!("disk.c")).map_err(|error| failed("its source", &error))?;
    let compiler = std::env::var("CC").unwrap_or_else(|_| "cc".to_owned());
    let mut words = compiler.split_whitespace();
    let compiled = Command::new(words.next().unwrap_or("cc"))
        .args(words)
        .args(["-shared", "-fPIC", "-O1", "-pthread", "-o"])
        .args([&part, &source])
        .arg("-ldl")
        .output()
        .map_err(|error| failed(&format!("the C compiler `{compiler}` (set CC)"), &error))?;
    if !compiled.status.success() {
        return Err(failed(&format!("`{compiler}`"), &String::from_utf8_lossy(&compiled.stderr)));
    }
    let library = folder.join("disk.so");
    let _ = std::fs::remove_file(&source);
    std::fs::rename(&part, &library).map_err(|error| failed("its place", &error))?;
    Ok(library)
}
