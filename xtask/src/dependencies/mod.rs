//! What we depend on: nothing banned, no licence that we did not read, no unknown source, no second version unseen.
//!
//! `cargo deny` asks the same and more; building it costs a fresh machine minutes, and this costs none
//! (`docs/decisions/0005-own-dependency-check.md`). Advisories are not looked up here.

mod graph;
mod licence;
mod policy;

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail};

use crate::step;
use graph::{Package, packages};
use policy::{ALLOWED_LICENCES, ALLOWED_TWICE, BANNED, NOT_OURS, OUR_LICENCE, REGISTRY};

/// Reads the graph for all platforms, as it stands in `Cargo.lock`, and holds it against the policy.
pub(crate) fn check() -> Result<()> {
    let metadata = step::output(step::cargo_path(), &["metadata", "--locked", "--format-version", "1"])?;
    let packages = packages(&metadata).context("cargo's metadata are not as expected")?;
    let complaints = complaints(&packages);
    if !complaints.is_empty() {
        bail!("{} complaints:\n  {}", complaints.len(), complaints.join("\n  "));
    }
    let ours = packages.iter().filter(|package| package.ours).count();
    println!("    {} packages of others, {ours} of ours", packages.len() - ours);
    Ok(())
}

fn complaints(packages: &[Package]) -> Vec<String> {
    let each = packages
        .iter()
        .flat_map(|package| [banned(package), unwanted(package), source(package), licence(package)]);
    each.flatten().chain(duplicates(packages)).collect()
}

fn banned(package: &Package) -> Option<String> {
    let (_, reason) = BANNED.iter().find(|(name, _)| *name == package.name)?;
    Some(format!("{package} is banned: {reason}"))
}

fn unwanted(package: &Package) -> Option<String> {
    let mut wants =
        NOT_OURS.iter().filter(|(name, _)| package.ours && package.wants.iter().any(|want| want == name));
    let (name, reason) = wants.next()?;
    Some(format!("{package} must not depend on {name}: {reason}"))
}

fn source(package: &Package) -> Option<String> {
    match package.source.as_deref() {
        None if package.ours => None,
        None => Some(format!("{package} comes from a folder outside the workspace")),
        Some(REGISTRY) => None,
        Some(other) => Some(format!("{package} comes from {other}, not from the default registry")),
    }
}

fn licence(package: &Package) -> Option<String> {
    let Some(expression) = package.licence.as_deref() else {
        return Some(format!("{package} names no licence"));
    };
    if package.ours {
        return (expression != OUR_LICENCE)
            .then(|| format!("{package} is ours, and not under {OUR_LICENCE}"));
    }
    match licence::satisfied(expression, |name| ALLOWED_LICENCES.contains(&name)) {
        Ok(true) => None,
        Ok(false) => Some(format!("{package} is under `{expression}`, which the policy does not allow")),
        Err(error) => Some(format!("{package} is under `{expression}`, which cannot be read: {error:#}")),
    }
}

/// Packages that are there in more versions than the policy knows of, and entries of the policy that are out of date.
fn duplicates(packages: &[Package]) -> Vec<String> {
    let mut versions: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for package in packages {
        versions.entry(&package.name).or_default().push(&package.version);
    }
    versions.retain(|_, versions| versions.len() > 1);
    let unseen =
        versions.iter().filter(|(name, _)| ALLOWED_TWICE.iter().all(|(allowed, _)| allowed != *name));
    let unseen = unseen.map(|(name, versions)| {
        format!(
            "{name} is there in versions {}: `cargo tree -i {name}@VERSION` says why",
            versions.join(", ")
        )
    });
    let stale = ALLOWED_TWICE.iter().filter(|(name, _)| !versions.contains_key(name));
    let stale =
        stale.map(|(name, _)| format!("{name} has one version only: take it off the list of the policy"));
    unseen.chain(stale).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn package(name: &str) -> Package {
        Package {
            name: name.into(),
            version: "1.0.0".into(),
            source: Some(REGISTRY.into()),
            licence: Some("MIT".into()),
            ours: false,
            wants: Vec::new(),
        }
    }

    /// What the policy says of one package (its list of duplicates is about the real graph).
    fn verdict(package: &Package) -> Option<String> {
        banned(package).or_else(|| unwanted(package)).or_else(|| source(package)).or_else(|| licence(package))
    }

    #[test]
    fn a_plain_package_is_welcome() {
        assert_eq!(verdict(&package("plain")), None);
    }

    #[test]
    fn a_banned_package_is_refused_with_the_reason() {
        let complaint = verdict(&package("openssl-sys")).expect("a complaint");
        assert!(complaint.contains("openssl-sys 1.0.0") && complaint.contains("rustls"), "{complaint}");
    }

    #[test]
    fn what_others_may_use_our_own_packages_may_not() {
        let theirs = Package { wants: vec!["regex".into()], ..package("theirs") };
        let ours = Package { source: None, ours: true, licence: Some(OUR_LICENCE.into()), ..theirs.clone() };
        assert_eq!(verdict(&theirs), None);
        assert!(verdict(&ours).is_some_and(|complaint| complaint.contains("regex")));
    }

    #[test]
    fn a_git_source_and_a_foreign_folder_are_refused() {
        let git = Package { source: Some("git+https://example.org/x".into()), ..package("x") };
        assert!(verdict(&git).is_some());
        assert!(verdict(&Package { source: None, ..package("x") }).is_some());
    }

    #[test]
    fn copyleft_is_refused_unless_there_is_a_choice() {
        let only = Package { licence: Some("GPL-3.0-only".into()), ..package("x") };
        let choice = Package { licence: Some("MIT OR GPL-3.0-only".into()), ..package("x") };
        assert!(verdict(&only).is_some());
        assert_eq!(verdict(&choice), None);
        assert!(verdict(&Package { licence: None, ..package("x") }).is_some());
    }

    #[test]
    fn our_own_packages_are_under_both_licences() {
        let ours = Package { source: None, ours: true, licence: Some("MIT".into()), ..package("x") };
        assert!(verdict(&ours).is_some());
        assert_eq!(verdict(&Package { licence: Some(OUR_LICENCE.into()), ..ours }), None);
    }

    #[test]
    fn a_second_version_is_noticed() {
        let twice = [package("twice"), Package { version: "2.0.0".into(), ..package("twice") }];
        assert!(
            duplicates(&twice)
                .iter()
                .any(|complaint| complaint.contains("twice is there in versions 1.0.0, 2.0.0"))
        );
    }
}
