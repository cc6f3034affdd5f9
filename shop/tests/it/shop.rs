//! The program as a child process, in a folder of its own.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};

use crate::client::Client;

pub(crate) const ADMIN_PASSWORD: &str = "the-admin-of-the-tests";

/// A shop that runs; killed and swept away when dropped.
pub(crate) struct Shop {
    child: Child,
    pub(crate) folder: PathBuf,
    pub(crate) gateway: String,
    pub(crate) console: String,
    options: Vec<String>,
}

impl Shop {
    pub(crate) async fn start() -> Self {
        Self::with(&[]).await
    }

    /// A shop with further options.
    pub(crate) async fn with(options: &[&str]) -> Self {
        let folder = std::env::temp_dir().join(format!("shop-it-{}", purlin::message::new_id()));
        std::fs::create_dir_all(&folder).expect("a folder");
        let options: Vec<String> = options.iter().map(|option| (*option).to_owned()).collect();
        let (child, gateway, console) = launch(&folder, &options).await;
        Self { child, folder, gateway, console, options }
    }

    pub(crate) fn client(&self) -> Client {
        Client::new(&self.gateway)
    }

    pub(crate) fn operator(&self) -> Client {
        Client::new(&self.console)
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id().expect("it runs")
    }

    /// Kills it at once, as a power cut would.
    pub(crate) async fn kill(&mut self) {
        self.child.kill().await.expect("it can be killed");
    }

    /// Whether it has ended by itself.
    pub(crate) fn has_ended(&mut self) -> bool {
        self.child.try_wait().expect("it can be asked").is_some()
    }

    /// Starts it again on the same data.
    pub(crate) async fn restart(&mut self) {
        (self.child, self.gateway, self.console) = launch(&self.folder, &self.options).await;
    }

    /// Asks it to stop, and gives its exit code.
    pub(crate) async fn stop(&mut self) -> Option<i32> {
        let kill = std::process::Command::new("kill").args(["-TERM", &self.pid().to_string()]).status();
        assert!(kill.expect("kill runs").success());
        let ended = tokio::time::timeout(Duration::from_secs(20), self.child.wait()).await;
        ended.expect("it stops in time").expect("it ends").code()
    }

    /// What it has said on stderr.
    pub(crate) fn said(&self) -> String {
        std::fs::read_to_string(self.folder.join("stderr")).unwrap_or_default()
    }
}

impl Drop for Shop {
    fn drop(&mut self) {
        let _ = self.child.start_kill();
        if std::thread::panicking() {
            let said = self.said();
            let tail: Vec<&str> = said.lines().rev().take(40).collect();
            eprintln!("the shop said last:");
            tail.iter().rev().for_each(|line| eprintln!("  {line}"));
        }
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// The program, not started yet.
pub(crate) fn program(folder: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_shop"));
    command
        .current_dir(folder)
        .env_clear()
        .env("SHOP_ADMIN_PASSWORD", ADMIN_PASSWORD)
        .arg("--data")
        .arg(folder.join("data"))
        .args(["--gateway", "127.0.0.1:0", "--console", "127.0.0.1:0"])
        .kill_on_drop(true);
    command
}

async fn launch(folder: &Path, options: &[String]) -> (Child, String, String) {
    let stderr = File::options().create(true).append(true).open(folder.join("stderr")).expect("a file");
    let mut command = program(folder);
    if !options.iter().any(|option| option.contains("rate")) {
        command.args(["--rate", "100000", "--rate-burst", "100000"]);
        command.args(["--sign-in-rate", "10000", "--sign-in-burst", "10000"]);
    }
    let mut child =
        command.args(options).stdout(Stdio::piped()).stderr(stderr).spawn().expect("the program starts");
    let mut lines = BufReader::new(child.stdout.take().expect("a pipe")).lines();
    let (mut gateway, mut console) = (None, None);
    loop {
        let line = tokio::time::timeout(Duration::from_secs(60), lines.next_line()).await;
        let said = || std::fs::read_to_string(folder.join("stderr")).unwrap_or_default();
        let line = line.unwrap_or_else(|_| panic!("not ready in time: {}", said())).expect("a line");
        let line = line.unwrap_or_else(|| panic!("it ended before it was ready: {}", said()));
        match line.split_once(' ') {
            Some(("gateway", url)) => gateway = Some(url.to_owned()),
            Some(("console", url)) => console = Some(url.to_owned()),
            _ if line == "ready" => break,
            _ => panic!("this is not to be said on stdout: {line}"),
        }
    }
    (child, gateway.expect("the gateway's address"), console.expect("the console's address"))
}
