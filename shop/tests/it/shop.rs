//! The program as a child process, in a folder of its own.

use std::collections::BTreeMap;
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
    /// Where the roles are that it says the addresses of.
    pub(crate) rooms: BTreeMap<String, String>,
    options: Vec<String>,
}

impl Shop {
    pub(crate) async fn start() -> Self {
        Self::with(&[]).await
    }

    /// A shop with further options.
    pub(crate) async fn with(options: &[&str]) -> Self {
        let options: Vec<String> = options.iter().map(|option| (*option).to_owned()).collect();
        Self::launch(new_folder(), options, None).await
    }

    /// A shop with a configuration file and further options.
    pub(crate) async fn configured(file: &str, options: &[&str]) -> Self {
        let folder = new_folder();
        std::fs::write(folder.join("shop.toml"), file).expect("a file");
        Self::launch(folder, options.iter().map(|option| (*option).to_owned()).collect(), None).await
    }

    /// Another shop on a copy of this one's data, which must not run; one that dies at `crash_at`, if that is given,
    /// perhaps before it is ready.
    #[cfg(feature = "crash-points")]
    pub(crate) async fn copy(&self, crash_at: Option<&str>) -> Self {
        let folder = new_folder();
        copy_files(&self.folder.join("data"), &folder.join("data"));
        Self::launch(folder, self.options.clone(), crash_at).await
    }

    async fn launch(folder: PathBuf, options: Vec<String>, crash_at: Option<&str>) -> Self {
        let mut child = spawn(&folder, &options, crash_at);
        match (addresses(&mut child, &folder).await, crash_at) {
            (Some(rooms), _) => {
                let (gateway, console) = doors(&rooms);
                Self { child, folder, gateway, console, rooms, options }
            }
            (None, Some(_)) => {
                child.wait().await.expect("it ends");
                let (gateway, console) = (String::new(), String::new());
                Self { child, folder, gateway, console, rooms: BTreeMap::new(), options }
            }
            (None, None) => panic!("it ended before it was ready: {}", said(&folder)),
        }
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
    #[cfg(feature = "crash-points")]
    pub(crate) fn has_ended(&mut self) -> bool {
        self.child.try_wait().expect("it can be asked").is_some()
    }

    /// Starts it again on the same data.
    pub(crate) async fn restart(&mut self) {
        self.child = spawn(&self.folder, &self.options, None);
        let addresses = addresses(&mut self.child, &self.folder).await;
        self.rooms = addresses.unwrap_or_else(|| panic!("it ended before it was ready: {}", self.said()));
        (self.gateway, self.console) = doors(&self.rooms);
    }

    /// Starts it again on the same data, with other options.
    pub(crate) async fn restart_with(&mut self, options: &[&str]) {
        self.options = options.iter().map(|option| (*option).to_owned()).collect();
        self.restart().await;
    }

    /// Starts it with other options on the same data, with which it ends before it is ready; what it says of that.
    pub(crate) async fn refuses(&self, options: &[&str]) -> String {
        let options: Vec<String> = options.iter().map(|option| (*option).to_owned()).collect();
        let before = self.said().len();
        let mut child = spawn(&self.folder, &options, None);
        assert!(addresses(&mut child, &self.folder).await.is_none(), "it starts");
        assert_eq!(child.wait().await.expect("it ends").code(), Some(1));
        self.said().split_off(before)
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
        said(&self.folder)
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

fn new_folder() -> PathBuf {
    let folder = std::env::temp_dir().join(format!("shop-it-{}", purlin::message::new_id()));
    std::fs::create_dir_all(&folder).expect("a folder");
    folder
}

#[cfg(feature = "crash-points")]
fn copy_files(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("a folder");
    for file in std::fs::read_dir(from).expect("a folder") {
        let file = file.expect("a file");
        if file.file_type().expect("a kind").is_file() {
            std::fs::copy(file.path(), to.join(file.file_name())).expect("a copy");
        }
    }
}

fn said(folder: &Path) -> String {
    std::fs::read_to_string(folder.join("stderr")).unwrap_or_default()
}

fn spawn(folder: &Path, options: &[String], crash_at: Option<&str>) -> Child {
    let stderr = File::options().create(true).append(true).open(folder.join("stderr")).expect("a file");
    let mut command = program(folder);
    if !options.iter().any(|option| option.contains("rate")) {
        command.args(["--rate", "100000", "--rate-burst", "100000"]);
        command.args(["--sign-in-rate", "10000", "--sign-in-burst", "10000"]);
    }
    if let Some(crash_at) = crash_at {
        command.env("SHOP_CRASH_AT", crash_at);
    }
    command.args(options).stdout(Stdio::piped()).stderr(stderr).spawn().expect("the program starts")
}

/// The addresses that it says until it is ready; none if it ends before.
async fn addresses(child: &mut Child, folder: &Path) -> Option<BTreeMap<String, String>> {
    let mut lines = BufReader::new(child.stdout.take().expect("a pipe")).lines();
    let mut rooms = BTreeMap::new();
    loop {
        let line = tokio::time::timeout(Duration::from_secs(60), lines.next_line()).await;
        let line = line.unwrap_or_else(|_| panic!("not ready in time: {}", said(folder))).expect("a line")?;
        match line.split_once(' ') {
            Some((role, url)) if url.starts_with("http://") => {
                rooms.insert(role.to_owned(), url.to_owned());
            }
            _ if line == "ready" => break,
            _ => panic!("this is not to be said on stdout: {line}"),
        }
    }
    Some(rooms)
}

/// Where the gateway and the console are.
fn doors(rooms: &BTreeMap<String, String>) -> (String, String) {
    (rooms["gateway"].clone(), rooms["console"].clone())
}
