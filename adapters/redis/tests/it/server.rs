//! A Redis server of a test's own: in a temporary folder, on a free port, gone with the test.

use std::io::{BufRead as _, BufReader};
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Command, Stdio};

use purlin::testing::free_port;
use redis::aio::MultiplexedConnection;

/// The running server.
pub(crate) struct Server {
    folder: PathBuf,
    port: u16,
    running: Running,
}

/// Its process, and what it says.
struct Running {
    process: Child,
    _said: BufReader<ChildStdout>,
}

impl Server {
    /// Starts a server; none when Redis is not installed and nobody insists (`CI`).
    pub(crate) fn start() -> Option<Self> {
        if !is_installed() {
            let what = "Redis is not installed: `apt-get install redis-server` (Debian, Ubuntu), `dnf install redis` \
                        (Fedora), `apk add redis` (Alpine), `brew install redis` (macOS)";
            assert!(std::env::var_os("CI").is_none(), "{what}");
            eprintln!("skipped: {what}");
            return None;
        }
        let folder = std::env::temp_dir().join(format!("purlin-redis-{}", purlin::message::new_id()));
        std::fs::create_dir(&folder).expect("the temporary folder can be written");
        // Somebody else may take a port between the question and its use.
        for _ in 0..10 {
            let port = free_port();
            if let Some(running) = Running::start(&folder, port) {
                return Some(Self { folder, port, running });
            }
        }
        panic!("the server does not start");
    }

    /// Where it is.
    pub(crate) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// Ends it as a power cut would end it.
    pub(crate) fn kill(&mut self) {
        self.running.process.kill().expect("it is ours");
        self.running.process.wait().expect("it is ours");
    }

    /// Starts it again after it was killed, where it was, with nothing of what it knew.
    pub(crate) fn boot(&mut self) {
        self.running = Running::start(&self.folder, self.port).expect("its port is free");
    }

    /// Holds it: it takes connections and answers nothing.
    pub(crate) fn hold(&self) {
        self.signal("-STOP");
    }

    /// Lets it go on.
    pub(crate) fn go_on(&self) {
        self.signal("-CONT");
    }

    /// A connection beside the counter's.
    pub(crate) async fn client(&self) -> MultiplexedConnection {
        let client = redis::Client::open(self.url()).expect("an URL of ours");
        client.get_multiplexed_async_connection().await.expect("the server is up")
    }

    fn signal(&self, signal: &str) {
        let process = self.running.process.id().to_string();
        let sent = Command::new("kill").args([signal, &process]).status().expect("there is a `kill`");
        assert!(sent.success());
    }
}

impl Running {
    fn start(folder: &PathBuf, port: u16) -> Option<Self> {
        let mut process = Command::new("redis-server")
            .args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"])
            .arg("--dir")
            .arg(folder)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the program can be started");
        let mut said = BufReader::new(process.stdout.take().expect("it is piped"));
        let mut line = String::new();
        while said.read_line(&mut line).is_ok_and(|bytes| bytes > 0) {
            if line.contains("eady to accept connections") {
                return Some(Self { process, _said: said });
            }
            line.clear();
        }
        let _ = process.wait();
        None
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.running.process.kill();
        let _ = self.running.process.wait();
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

fn is_installed() -> bool {
    Command::new("redis-server").arg("--version").stdout(Stdio::null()).status().is_ok()
}
