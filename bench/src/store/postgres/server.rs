//! A server of our own: on a free port, on the disk that is measured, with `fsync`, gone at the end.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use purlin::store::Store;
use purlin_bench::Session;
use sqlx::PgPool;
use sqlx::postgres::PgPoolOptions;
use tokio::signal::unix::{SignalKind, signal};
use tokio_postgres::{Client, NoTls};

/// The running server.
pub(crate) struct Server {
    programs: PathBuf,
    folder: PathBuf,
    port: u16,
}

impl Server {
    /// Starts a server with these settings beside its own; none when PostgreSQL is not installed, which is said.
    pub(crate) fn start(session: &Session, settings: &[String]) -> Result<Option<Self>> {
        let Some(programs) = programs() else {
            eprintln!("PostgreSQL is not installed (`apt-get install postgresql`): its cases are skipped");
            return Ok(None);
        };
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let server = Self { programs, folder: folder(session)?, port };
        let data = server.data();
        let init = ["-D", &data, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync"];
        server.program("initdb", &init)?;
        let (log, sockets) = (server.folder.join("log"), server.folder.display());
        let mut options = format!(
            "-p {port} -k {sockets} -c listen_addresses=127.0.0.1 -c fsync=on -c max_connections=200"
        );
        settings.iter().for_each(|setting| options.push_str(&format!(" -c {setting}")));
        let start =
            ["-D", &data, "-l", &log.display().to_string(), "-w", "-t", "60", "-o", &options, "start"];
        server.program("pg_ctl", &start)?;
        server.stop_when_interrupted();
        Ok(Some(server))
    }

    /// The server is no child of ours: who interrupts the measurement would leave it behind.
    fn stop_when_interrupted(&self) {
        let server = Self { programs: self.programs.clone(), folder: self.folder.clone(), port: self.port };
        let wait = async {
            let mut terminate = signal(SignalKind::terminate())?;
            tokio::select! {
                interrupted = tokio::signal::ctrl_c() => interrupted,
                _ = terminate.recv() => Ok(()),
            }
        };
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            if runtime.is_ok_and(|runtime| runtime.block_on(wait).is_ok()) {
                drop(server);
                std::process::exit(130);
            }
            std::mem::forget(server);
        });
    }

    /// Where a database is.
    pub(crate) fn url(&self, database: &str) -> String {
        format!("postgres://postgres@127.0.0.1:{}/{database}", self.port)
    }

    /// A store in the database that is always there, in a schema of this name.
    pub(crate) async fn store(&self, name: &str) -> Result<Store> {
        Ok(purlin_postgres::open(self.url("postgres"), name).await?)
    }

    /// A connection to the database that the stores are in.
    pub(crate) async fn client(&self) -> Result<Client> {
        let (client, connection) = tokio_postgres::connect(&self.url("postgres"), NoTls).await?;
        #[expect(
            clippy::disallowed_methods,
            reason = "a measurement has no supervisor; it ends with its client"
        )]
        tokio::spawn(connection);
        Ok(client)
    }

    /// Connections to a database as sqlx keeps them.
    pub(crate) async fn pool(&self, database: &str, connections: u32) -> Result<PgPool> {
        let options = PgPoolOptions::new().max_connections(connections).acquire_timeout(super::PATIENCE);
        Ok(options.connect(&self.url(database)).await?)
    }

    fn data(&self) -> String {
        self.folder.join("data").display().to_string()
    }

    fn program(&self, name: &str, arguments: &[&str]) -> Result<()> {
        let errors = self.folder.join("errors");
        let status = as_the_server(&self.programs.join(name))
            .args(arguments)
            .current_dir(&self.folder)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            // The server inherits what is open; a pipe would not end before it.
            .stderr(std::fs::File::create(&errors).context("the server's folder")?)
            .status()
            .with_context(|| format!("`{name}` cannot be started"))?;
        if !status.success() {
            bail!("`{name}` failed: {}", std::fs::read_to_string(&errors).unwrap_or_default());
        }
        Ok(())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Err(error) = self.program("pg_ctl", &["-D", &self.data(), "-m", "immediate", "stop"]) {
            eprintln!("the server does not stop: {error:#}");
        }
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// A folder of the server's own. Where its user cannot get at the folder of the measurement, it is the one for
/// temporary files, which may be on another disk.
fn folder(session: &Session) -> Result<PathBuf> {
    let folder = std::path::absolute(session.folder("postgres")?)?;
    if !is_root() || give(&folder).is_ok() {
        return Ok(folder);
    }
    let instead = std::env::temp_dir().join(format!("purlin-bench-postgres-{}", std::process::id()));
    eprintln!(
        "the server's user cannot write in {}: it is measured in {}",
        folder.display(),
        instead.display()
    );
    std::fs::create_dir_all(&instead)?;
    give(&instead)?;
    Ok(instead)
}

/// Gives a folder to the server's user, and sees whether that user gets there.
fn give(folder: &Path) -> Result<()> {
    let owned = Command::new("chown").arg("postgres").arg(folder).status().context("chown")?;
    let there = as_the_server(Path::new("test")).arg("-w").arg(folder).current_dir("/").status()?;
    if !owned.success() || !there.success() {
        bail!("the user `postgres` cannot write in {}", folder.display());
    }
    Ok(())
}

/// A program as a user who may run a server: not root.
fn as_the_server(program: &Path) -> Command {
    if !is_root() {
        return Command::new(program);
    }
    let mut command = Command::new("runuser");
    command.args(["-u", "postgres", "--"]).arg(program);
    command
}

fn is_root() -> bool {
    Command::new("id").arg("-u").output().is_ok_and(|id| id.stdout.starts_with(b"0\n"))
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
