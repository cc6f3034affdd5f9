//! What the file says that can be read again while the process runs.

use std::path::Path;

use anyhow::Context;
use purlin::resilience::Policies;

use super::calls::{Peers, policies};
use super::places::Places;
use super::{DEFAULT_FILE, read_file};

/// How others are called, and how many requests each role answers at once, as the file says now.
#[derive(Debug)]
pub struct Reread {
    /// How others are called.
    pub calls: Policies,
    /// How many requests each role answers at once.
    pub places: Places,
}

impl Reread {
    /// Reads the file again: either all of it makes sense, or nothing of it is taken.
    pub fn of(file: &Path, peers: &Peers) -> anyhow::Result<Self> {
        let read = || {
            let options = read_file(file, file != Path::new(DEFAULT_FILE))?;
            let places = options.places.unwrap_or_default().checked(file)?;
            anyhow::Ok(Self { calls: policies(options.calls, file, peers)?, places })
        };
        read().context("all is as before")
    }
}
