//! The packages of cargo's metadata.

use std::fmt;

use anyhow::{Context, Result};
use serde_json::Value;

/// A package in one version.
#[derive(Debug, Clone)]
pub(super) struct Package {
    pub(super) name: String,
    pub(super) version: String,
    /// Where it comes from; none when it is a folder.
    pub(super) source: Option<String>,
    /// The SPDX expression of its manifest.
    pub(super) licence: Option<String>,
    /// Whether it is a member of this workspace.
    pub(super) ours: bool,
    /// The names in its manifest, of dependencies of every kind.
    pub(super) wants: Vec<String>,
}

impl fmt::Display for Package {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.name, self.version)
    }
}

/// Reads what `cargo metadata --format-version 1` prints.
pub(super) fn packages(metadata: &str) -> Result<Vec<Package>> {
    let metadata: Value = serde_json::from_str(metadata)?;
    let members: Vec<&str> = list(&metadata, "workspace_members")?.iter().filter_map(Value::as_str).collect();
    list(&metadata, "packages")?
        .iter()
        .map(|package| {
            let id = text(package, "id").context("a package has no id")?;
            Ok(Package {
                name: text(package, "name").with_context(|| format!("{id} has no name"))?,
                version: text(package, "version").with_context(|| format!("{id} has no version"))?,
                source: text(package, "source"),
                licence: text(package, "license"),
                ours: members.contains(&id.as_str()),
                wants: list(package, "dependencies")?.iter().filter_map(|want| text(want, "name")).collect(),
            })
        })
        .collect()
}

fn list<'a>(value: &'a Value, name: &str) -> Result<&'a Vec<Value>> {
    value.get(name).and_then(Value::as_array).with_context(|| format!("there is no list `{name}`"))
}

fn text(value: &Value, name: &str) -> Option<String> {
    value.get(name).and_then(Value::as_str).map(str::to_owned)
}
