//! The raw limit under everything durable: how often a second the disk takes 4 KiB and says that it has them.

use std::fs::{File, OpenOptions};
use std::io::{Seek, SeekFrom, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::Reading;

const BLOCK: usize = 4096;
const BLOCKS: u64 = 1024;

/// Overwrites blocks of a file that has its size already, with `fdatasync` behind each; the rate.
pub fn overwrites(folder: &Path, duration: Duration) -> Result<Reading> {
    let mut file = create(folder, "overwrite")?;
    file.write_all(&vec![1; BLOCK * BLOCKS as usize]).context("filling the file")?;
    file.sync_all().context("syncing the file")?;
    repeat(duration, |round| {
        file.seek(SeekFrom::Start(round % BLOCKS * BLOCK as u64))?;
        file.write_all(&[round as u8; BLOCK])?;
        file.sync_data()
    })
}

/// Appends blocks to a file, with `fdatasync` behind each; the rate.
pub fn appends(folder: &Path, duration: Duration) -> Result<Reading> {
    let mut file = create(folder, "append")?;
    repeat(duration, |round| {
        file.write_all(&[round as u8; BLOCK])?;
        file.sync_data()
    })
}

fn create(folder: &Path, name: &str) -> Result<File> {
    let path = folder.join(name);
    let file = OpenOptions::new().create(true).truncate(true).write(true).open(&path);
    file.with_context(|| format!("making {}", path.display()))
}

/// Does it again and again for about `duration`; how often a second.
fn repeat(duration: Duration, mut work: impl FnMut(u64) -> std::io::Result<()>) -> Result<Reading> {
    let begun = Instant::now();
    let mut rounds = 0;
    while begun.elapsed() < duration {
        work(rounds).context("writing")?;
        rounds += 1;
    }
    Ok((rounds as f64 / begun.elapsed().as_secs_f64()).into())
}
