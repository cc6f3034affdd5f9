//! A PostgreSQL server of a test's own: in a temporary folder, on a free port, with `fsync`, gone with the test.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use purlin::testing::free_port;
use tokio_postgres::{Client, NoTls};

/// The running server.
pub(crate) struct Server {
    programs: PathBuf,
    folder: PathBuf,
    port: u16,
}

impl Server {
    /// Starts a server; none when PostgreSQL is not installed and nobody insists (`CI`).
    pub(crate) fn start() -> Option<Self> {
        let Some(programs) = programs() else {
            let what = "PostgreSQL is not installed: `apt-get install postgresql` (Debian, Ubuntu), `dnf install \
                        postgresql-server` (Fedora), `apk add postgresql` (Alpine), `brew install postgresql` (macOS)";
            assert!(std::env::var_os("CI").is_none(), "{what}");
            eprintln!("skipped: {what}");
            return None;
        };
        let folder = std::env::temp_dir().join(format!("purlin-postgres-{}", purlin::message::new_id()));
        // It must belong to the server's user, who makes it.
        run(Path::new(""), "mkdir", &[folder.to_str().expect("a path of ours")]);
        let server = Self { programs, folder, port: free_port() };
        server.init();
        server.boot();
        Some(server)
    }

    fn init(&self) {
        let data = self.data();
        let init = ["-D", &data, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync"];
        run(&self.programs, "initdb", &init);
    }

    /// Starts a second server that follows this one.
    pub(crate) fn replica(&self) -> Self {
        let folder = std::env::temp_dir().join(format!("purlin-postgres-{}", purlin::message::new_id()));
        run(Path::new(""), "mkdir", &[folder.to_str().expect("a path of ours")]);
        let replica = Self { programs: self.programs.clone(), folder, port: free_port() };
        self.program(
            "pg_basebackup",
            &["-D", &replica.data(), "-R", "-X", "stream", "-c", "fast", "--no-sync"],
        );
        replica.boot();
        replica
    }

    /// Ends the server in order, and starts it with settings (`ssl = on`) beside those that it has.
    pub(crate) fn restart_with(&self, settings: &[&str]) {
        run(&self.programs, "pg_ctl", &["-D", &self.data(), "-m", "fast", "-w", "stop"]);
        let add = format!("printf '%s\\n' \"$@\" >> {}", self.file("data/postgresql.auto.conf"));
        run(Path::new(""), "sh", &[&["-c", &add, "sh"], settings].concat());
        self.boot();
    }

    /// Writes a file that only the server's user can read; says where it is.
    pub(crate) fn write(&self, name: &str, content: &str) -> String {
        let draft = std::env::temp_dir().join(format!("purlin-postgres-{}.draft", purlin::message::new_id()));
        std::fs::write(&draft, content).expect("the temporary folder can be written");
        let place = self.file(name);
        run(Path::new(""), "install", &["-m", "600", draft.to_str().expect("a path of ours"), &place]);
        let _ = std::fs::remove_file(draft);
        place
    }

    /// Ends the server in order, and starts it as one that takes no commits.
    pub(crate) fn restart_as_a_standby(&self) {
        run(&self.programs, "pg_ctl", &["-D", &self.data(), "-m", "fast", "-w", "stop"]);
        run(Path::new(""), "touch", &[&self.file("data/standby.signal")]);
        self.boot();
    }

    /// Ends the server in order, and starts what PostgreSQL's own upgrade makes of it: another server, with the same data.
    pub(crate) fn upgrade(&self) {
        run(&self.programs, "pg_ctl", &["-D", &self.data(), "-m", "fast", "-w", "stop"]);
        let (old, folder) = (self.file("old"), self.folder.display().to_string());
        run(Path::new(""), "mv", &[&self.data(), &old]);
        self.init();
        let programs = self.programs.display().to_string();
        let upgrade = [
            "-b",
            &programs,
            "-B",
            &programs,
            "-d",
            &old,
            "-D",
            &self.data(),
            "-U",
            "postgres",
            "-s",
            &folder,
        ];
        // It writes what it does into the folder that it runs in.
        let there = [
            "-c",
            "cd \"$0\" && exec \"$@\"",
            &folder,
            &self.programs.join("pg_upgrade").display().to_string(),
        ];
        run(Path::new(""), "sh", &[&there[..], &upgrade[..]].concat());
        self.boot();
    }

    /// Lets a server that follows another one take over.
    pub(crate) fn promote(&self) {
        run(&self.programs, "pg_ctl", &["-D", &self.data(), "-w", "promote"]);
    }

    /// Where it is.
    pub(crate) fn url(&self) -> String {
        self.url_of("postgres")
    }

    /// Where a database of it is.
    pub(crate) fn url_of(&self, database: &str) -> String {
        format!("postgres://postgres@127.0.0.1:{}/{database}", self.port)
    }

    /// Its port.
    pub(crate) fn address(&self) -> SocketAddr {
        ([127, 0, 0, 1], self.port).into()
    }

    /// Starts the server in its folder, and waits until it takes connections.
    pub(crate) fn boot(&self) {
        let options = format!(
            "-p {} -k {} -c listen_addresses=127.0.0.1 -c fsync=on -c max_connections=200",
            self.port,
            self.folder.display()
        );
        let (data, log) = (self.data(), self.folder.join("log").display().to_string());
        // Children of a killed server take a moment to notice; until then their memory is in the way.
        for _ in 0..50 {
            let start = ["-D", &data, "-l", &log, "-w", "-t", "60", "-o", &options, "start"];
            if attempt(&self.programs, "pg_ctl", &start).status.success() {
                return;
            }
        }
        panic!("the server does not start:\n{}", std::fs::read_to_string(log).unwrap_or_default());
    }

    /// Ends the server as a power cut would end it.
    pub(crate) fn kill(&self) {
        // With its children: one that has not noticed yet would still commit what was sent to it.
        self.signal("KILL");
        // Until its parent has noticed that it is dead, the next one would take it for alive.
        std::fs::remove_file(self.folder.join("data/postmaster.pid")).expect("it was running");
    }

    /// Stops the server as it stands: connections are taken and kept, and nothing is answered.
    pub(crate) fn freeze(&self) {
        self.signal("STOP");
    }

    /// Lets it go on.
    pub(crate) fn thaw(&self) {
        self.signal("CONT");
    }

    fn signal(&self, signal: &str) {
        let Some(pid) = self.pid() else { return };
        // None may be born meanwhile that is then not among them: it is waited for that nothing more is.
        let all = format!(
            "kill -STOP {pid}; while ps -o state= -p {pid} | grep -q '[^TZ]'; do :; done; \
             kill -{signal} $(pgrep -P {pid}) {pid}; true"
        );
        run(Path::new(""), "sh", &["-c", &all]);
    }

    /// The server's first process, if it runs.
    fn pid(&self) -> Option<String> {
        let said = std::fs::read_to_string(self.folder.join("data/postmaster.pid")).ok()?;
        said.lines().next().map(str::to_owned)
    }

    /// A connection beside the store.
    pub(crate) async fn client(&self) -> Client {
        self.client_of("postgres").await
    }

    /// The same to a database of it.
    pub(crate) async fn client_of(&self, database: &str) -> Client {
        let (client, connection) =
            tokio_postgres::connect(&self.url_of(database), NoTls).await.expect("the server is up");
        let serve = move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            let _ = runtime.expect("a runtime").block_on(connection);
        };
        std::thread::spawn(serve);
        client
    }

    /// Runs one of PostgreSQL's own programs on the server.
    pub(crate) fn program(&self, name: &str, arguments: &[&str]) {
        let port = self.port.to_string();
        let whose = ["-h", "127.0.0.1", "-p", &port, "-U", "postgres"];
        run(&self.programs, name, &[&whose, arguments].concat());
    }

    /// A file in the server's folder.
    pub(crate) fn file(&self, name: &str) -> String {
        self.folder.join(name).display().to_string()
    }

    /// A new folder of the server's user.
    pub(crate) fn make_folder(&self, name: &str) -> String {
        let folder = self.file(name);
        run(Path::new(""), "mkdir", &[&folder]);
        folder
    }

    /// Where it is, in words.
    pub(crate) fn words(&self) -> String {
        format!("host=127.0.0.1 port={} user=postgres dbname=postgres", self.port)
    }

    fn data(&self) -> String {
        self.folder.join("data").display().to_string()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.thaw();
        attempt(&self.programs, "pg_ctl", &["-D", &self.data(), "-m", "immediate", "stop"]);
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// Asks for a number until it is as wanted.
pub(crate) async fn until(client: &Client, sql: &str, wanted: impl Fn(i64) -> bool) {
    let asked = async {
        while !wanted(client.query_one(sql, &[]).await.expect("a number").get(0)) {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), asked).await.expect(sql);
}

/// The folder of `initdb`: Debian keeps it out of the way, a folder a version.
fn programs() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut versions: Vec<PathBuf> = ["/usr/lib/postgresql", "/usr/libexec"]
        .iter()
        .filter_map(|folder| std::fs::read_dir(folder).ok())
        .flatten()
        .filter_map(|entry| Some(entry.ok()?.path()))
        .flat_map(|folder| [folder.join("bin"), folder])
        .collect();
    versions.sort();
    let folders = versions.into_iter().rev().chain(std::env::split_paths(&path));
    folders.into_iter().find(|folder| folder.join("initdb").is_file() && folder.join("pg_ctl").is_file())
}

fn run(folder: &Path, program: &str, arguments: &[&str]) {
    let output = attempt(folder, program, arguments);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {arguments:?}: {said}");
}

/// Runs a program as a user who may run a server: not root.
fn attempt(folder: &Path, program: &str, arguments: &[&str]) -> Output {
    let program = folder.join(program);
    let is_root = Command::new("id").arg("-u").output().is_ok_and(|id| id.stdout.starts_with(b"0\n"));
    let mut command = if is_root {
        let mut command = Command::new("runuser");
        command.args(["-u", "postgres", "--"]).arg(program);
        command
    } else {
        Command::new(program)
    };
    // The server inherits what is open here; a pipe would not end before it.
    let file = std::env::temp_dir().join(format!("purlin-postgres-{}.out", purlin::message::new_id()));
    let errors = std::fs::File::create(&file).expect("the temporary folder can be written");
    let status = command
        .args(arguments)
        .current_dir(std::env::temp_dir())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(errors)
        .status()
        .expect("the program can be started");
    let stderr = std::fs::read(&file).unwrap_or_default();
    let _ = std::fs::remove_file(file);
    Output { status, stdout: Vec::new(), stderr }
}
