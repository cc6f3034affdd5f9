//! A child process: started, told, stopped, killed, always by its own process id; and watched.

use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::process::{Child as Process, ChildStdin, ChildStdout, Command};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::role::{ROLE, Said};

/// How often a child's memory and connections are looked at.
const LOOKS: Duration = Duration::from_millis(100);

/// A running child; killed when dropped.
pub(super) struct Child {
    pub(super) address: String,
    process: Process,
    pid: Pid,
    stdin: ChildStdin,
    seen: Arc<Mutex<Vec<Sight>>>,
    _watching: JoinSet<()>,
}

/// How a child stood at a time.
#[derive(Debug, Clone)]
pub(super) struct Sight {
    pub(super) at: Instant,
    pub(super) said: Said,
}

impl Child {
    /// Starts this program as a child with a role, and waits until it listens.
    pub(super) async fn start(arguments: &[&str]) -> Result<Self> {
        let mut process = Command::new(std::env::current_exe()?)
            .arg(ROLE)
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .context("starting a child")?;
        let pid = process.id().and_then(|id| Pid::from_raw(id.cast_signed())).context("the child's id")?;
        let stdin = process.stdin.take().context("a pipe")?;
        let mut lines = BufReader::new(process.stdout.take().context("a pipe")?).lines();
        let address = lines.next_line().await?.with_context(|| format!("{arguments:?} ended at once"))?;
        let seen = Arc::default();
        let mut watching = JoinSet::new();
        watching.spawn(listen(lines, Arc::clone(&seen)));
        watching.spawn(look(pid, Arc::clone(&seen)));
        Ok(Self { address, process, pid, stdin, seen, _watching: watching })
    }

    /// Gives it an order.
    pub(super) async fn tell(&mut self, order: &str) -> Result<()> {
        self.stdin.write_all(format!("{order}\n").as_bytes()).await.context("telling a child")?;
        self.stdin.flush().await.context("telling a child")
    }

    /// Holds it where it is: its sockets stay open, and nothing answers.
    pub(super) fn stop(&self) -> Result<()> {
        kill_process(self.pid, Signal::STOP).context("stopping a child")
    }

    /// Lets it go on.
    pub(super) fn go_on(&self) -> Result<()> {
        kill_process(self.pid, Signal::CONT).context("letting a child go on")
    }

    /// Ends it without a word.
    pub(super) async fn kill(mut self) -> Result<Vec<Sight>> {
        ensure!(self.process.try_wait()?.is_none(), "a child had ended by itself");
        self.process.kill().await.context("killing a child")?;
        Ok(self.sights())
    }

    /// All that was seen of it so far.
    pub(super) fn sights(&self) -> Vec<Sight> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

fn note(seen: &Mutex<Vec<Sight>>, said: Said) {
    seen.lock().unwrap_or_else(PoisonError::into_inner).push(Sight { at: Instant::now(), said });
}

/// Notes what a child says.
async fn listen(mut lines: Lines<BufReader<ChildStdout>>, seen: Arc<Mutex<Vec<Sight>>>) {
    while let Ok(Some(line)) = lines.next_line().await {
        if let Ok(said) = serde_json::from_str(&line) {
            note(&seen, said);
        }
    }
}

/// Notes a child's resident memory in MiB and its open descriptors, as the kernel tells them, whether it runs or not.
async fn look(pid: Pid, seen: Arc<Mutex<Vec<Sight>>>) {
    let folder = std::path::PathBuf::from(format!("/proc/{}", pid.as_raw_pid()));
    loop {
        let status = std::fs::read_to_string(folder.join("status")).unwrap_or_default();
        let rss = status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.split_whitespace().next());
        let descriptors = std::fs::read_dir(folder.join("fd")).map(Iterator::count);
        if let (Some(Ok(kib)), Ok(descriptors)) = (rss.map(str::parse::<f64>), descriptors) {
            let said = [("rss_mib", kib / 1024.0), ("descriptors", descriptors as f64)];
            note(&seen, said.into_iter().map(|(name, value)| (name.to_owned(), value)).collect());
        }
        tokio::time::sleep(LOOKS).await;
    }
}
