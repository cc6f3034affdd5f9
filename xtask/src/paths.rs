//! No committed file mentions a path of the machine that it was written on.
//!
//! The paths are not listed anywhere: they are those of the machine that the check runs on. So a path slips through
//! only until the check runs where it means something, which is where it was written.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::{Result, bail};

use crate::step;

/// Folders that are the same on every machine, and so may be mentioned.
const COMMON: &[&str] =
    &["/", "/home", "/Users", "/tmp", "/usr", "/usr/local", "/var", "/opt", "/srv", "/mnt"];

/// Searches every file that git knows.
pub(crate) fn check() -> Result<()> {
    let places = places();
    let files = step::output("git", &["ls-files", "-z"])?;
    let mut found = Vec::new();
    for file in files.split('\0').filter(|file| !file.is_empty()) {
        // A file that git knows and that was just deleted has nothing to say.
        let Ok(content) = std::fs::read(step::workspace().join(file)) else { continue };
        let content = String::from_utf8_lossy(&content);
        for (number, line) in content.lines().enumerate() {
            if let Some(place) = places.iter().find(|place| mentions(line, place)) {
                found.push(format!("{file}:{}: mentions {place}", number + 1));
            }
        }
    }
    if !found.is_empty() {
        bail!("paths of this machine are in committed files:\n  {}", found.join("\n  "));
    }
    Ok(())
}

/// The workspace's folder and those around it, the home folder, and where cargo keeps its things.
fn places() -> BTreeSet<String> {
    let of_variables = ["HOME", "CARGO_HOME", "CARGO_TARGET_DIR"].into_iter().filter_map(std::env::var_os);
    let mut places: BTreeSet<String> = of_variables.map(|path| path.to_string_lossy().into_owned()).collect();
    places.extend(step::workspace().ancestors().map(|path: &Path| path.to_string_lossy().into_owned()));
    places.retain(|place| place.len() > 2 && place.starts_with('/') && !COMMON.contains(&place.as_str()));
    places
}

/// Whether the line has the path as a path: neither the end of a longer one nor the beginning of another name.
fn mentions(line: &str, place: &str) -> bool {
    let name = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-' | '.' | '}' | '$' | '*');
    line.match_indices(place).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        let after = line[at + place.len()..].chars().next();
        !before.is_some_and(|c| name(c) || c == '/') && after == Some('/')
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_in_quotes_or_after_an_equals_sign_is_found() {
        assert!(mentions(r#"let file = "/build/purlin/a";"#, "/build"));
        assert!(mentions("DIR=/build/purlin", "/build"));
    }

    #[test]
    fn a_folder_of_the_same_name_elsewhere_is_not() {
        assert!(!mentions("see docs/build/purlin", "/build"));
        assert!(!mentions("/builds/purlin", "/build"));
        assert!(!mentions("${DIR}/build/x", "/build"));
        assert!(!mentions("GET /build answers", "/build"));
    }

    #[test]
    fn this_workspace_is_one_of_the_places() {
        assert!(places().contains(&*step::workspace().to_string_lossy()));
    }
}
