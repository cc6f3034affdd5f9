//! `purlin doctor`.

use clap::Args;

pub(super) const EXAMPLES: &str = "\
Exit status: 0 all is well; 1 something should be looked at; 2 something is wrong.

Examples:
  purlin doctor                                  the data folder, and the process on it
  purlin doctor --store postgres://postgres@db/shop
  purlin doctor --log                            reads every event, too";

/// What to check.
#[derive(Debug, Args)]
pub(crate) struct Doctor {
    /// Read the whole log of every store: whether positions and versions are without a gap, times in order, ids there
    /// once, and streams the same when they are read by themselves.
    #[arg(long)]
    pub(crate) log: bool,
}
