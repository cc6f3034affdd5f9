//! How others are called: what the shop says of it, and what `shop.toml` says.

use std::path::Path;

use anyhow::Context;
use purlin::resilience::Policies;
use purlin::resilience::policies::Section;

use super::{DEFAULT_FILE, read_file};

/// The policies of all callees, with the table `calls` of the file.
pub(super) fn policies(section: Option<Section>, file: &Path) -> anyhow::Result<Policies> {
    let own: Section = toml::from_str(include_str!("calls.toml")).expect("the shop's own policies are TOML");
    let own = Policies::built_in().with("the shop", own).expect("the shop's own policies make sense");
    Ok(own.with(file.display().to_string(), section.unwrap_or_default())?)
}

/// The policies again, as the file says now.
pub fn reread(file: &Path) -> anyhow::Result<Policies> {
    let options = read_file(file, file != Path::new(DEFAULT_FILE))?;
    policies(options.calls, file).context("the policies are as before")
}
