//! The shop as a child process, in a release build.

use std::fs::File;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};

pub(crate) const ADMIN_PASSWORD: &str = "the-admin-of-the-benchmark";

/// A running shop; killed when dropped.
pub(crate) struct Shop {
    _child: Child,
    pub(crate) gateway: String,
}

impl Shop {
    /// Builds the program if need be, and starts it on any free port with its files in `folder`.
    pub(crate) async fn start(folder: &Path) -> Result<Self> {
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let arguments = ["build", "--quiet", "--release", "--package", "purlin-shop"];
        let built = Command::new(cargo).args(arguments).status().await?;
        ensure!(built.success(), "the shop could not be built");
        let program = std::env::current_exe()?.with_file_name("shop");
        let mut child = Command::new(&program)
            .env("SHOP_ADMIN_PASSWORD", ADMIN_PASSWORD)
            .args(["--gateway", "127.0.0.1:0", "--console", "127.0.0.1:0"])
            .args(["--rate", "1000000", "--rate-burst", "1000000"])
            .args(["--sign-in-rate", "10000", "--sign-in-burst", "10000"])
            .arg("--data")
            .arg(folder.join("data"))
            .stdout(Stdio::piped())
            .stderr(File::create(folder.join("stderr"))?)
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("starting {}", program.display()))?;
        let mut lines = BufReader::new(child.stdout.take().context("a pipe")?).lines();
        let mut gateway = None;
        let ready = async {
            while let Some(line) = lines.next_line().await? {
                match line.split_once(' ') {
                    Some(("gateway", url)) => gateway = Some(url.to_owned()),
                    _ if line == "ready" => return Ok(()),
                    _ => {}
                }
            }
            let said = std::fs::read_to_string(folder.join("stderr")).unwrap_or_default();
            bail!("the shop ended before it was ready: {said}")
        };
        tokio::time::timeout(Duration::from_secs(30), ready)
            .await
            .context("the shop is not ready in time")??;
        Ok(Self { _child: child, gateway: gateway.context("the gateway's address")? })
    }
}
