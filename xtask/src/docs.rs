//! The pages that people read: their links lead somewhere, and each problem that an answer can name has one.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::{Context, Result, bail};

use crate::step;

/// Where the pages of the problem types are.
const PROBLEMS: &str = "docs/problems";

/// Reads every page and every source file that git knows.
pub(crate) fn check() -> Result<()> {
    let files = step::output("git", &["ls-files", "--cached", "--others", "--exclude-standard", "-z"])?;
    let mut complaints = Vec::new();
    let mut codes = BTreeSet::new();
    for file in files.split('\0').filter(|file| step::workspace().join(file).is_file()) {
        let read = || {
            std::fs::read_to_string(step::workspace().join(file)).with_context(|| format!("reading {file}"))
        };
        if file.ends_with(".md") {
            complaints.extend(broken_links(file, &read()?));
        } else if file.ends_with(".rs") && file.contains("/src/") {
            codes.extend(problem_codes(&read()?));
        }
    }
    complaints.extend(missing_pages(&codes)?);
    if !complaints.is_empty() {
        bail!("{} complaints:\n  {}", complaints.len(), complaints.join("\n  "));
    }
    println!("    {} problem types, each with a page", codes.len());
    Ok(())
}

fn missing_pages(codes: &BTreeSet<String>) -> Result<Vec<String>> {
    let index = format!("{PROBLEMS}/README.md");
    let index = std::fs::read_to_string(step::workspace().join(&index))
        .with_context(|| format!("reading {index}"))?;
    let mut complaints = Vec::new();
    for code in codes {
        if !step::workspace().join(format!("{PROBLEMS}/{code}.md")).is_file() {
            complaints
                .push(format!("an answer can name /problems/{code}, which has no page {PROBLEMS}/{code}.md"));
        } else if !index.contains(&format!("({code}.md)")) {
            complaints.push(format!("{PROBLEMS}/README.md does not list {code}.md"));
        }
    }
    Ok(complaints)
}

/// The links of a page to files that are not there. Links to other sites are not followed.
fn broken_links(file: &str, page: &str) -> Vec<String> {
    let folder = step::workspace().join(Path::new(file).parent().unwrap_or(Path::new("")));
    let mut complaints = Vec::new();
    for target in links(page) {
        let path = target.split('#').next().unwrap_or_default();
        let elsewhere = path.is_empty() || path.contains("://") || path.starts_with("mailto:");
        if !elsewhere && !folder.join(path).exists() {
            complaints.push(format!("{file} links to {target}, which is not there"));
        }
    }
    complaints
}

/// The targets of `[text](target)`, outside blocks of code.
fn links(page: &str) -> Vec<&str> {
    let mut in_code = false;
    let mut targets = Vec::new();
    for line in page.lines() {
        if line.trim_start().starts_with("```") {
            in_code = !in_code;
        } else if !in_code {
            let behind = line.split("](").skip(1);
            targets.extend(behind.filter_map(|rest| rest.split_once(')')).map(|(target, _)| target));
        }
    }
    targets
}

/// The codes that a source file, its unit tests aside, gives to problems: what `Fault::code` answers, what
/// `Problem::new` is called with, and what is written out as `"/problems/..."`.
fn problem_codes(source: &str) -> BTreeSet<String> {
    let source = source.split("#[cfg(test)]\nmod ").next().unwrap_or_default();
    let code_lines = source.lines().filter(|line| !line.trim_start().starts_with("//"));
    let source = code_lines.collect::<Vec<_>>().join("\n");
    let answers = source.split("fn code(&self)").skip(1).filter_map(|rest| rest.split("\n    }").next());
    let built = source.split("Problem::new(").skip(1).filter_map(|rest| rest.split(')').next());
    let mut codes: BTreeSet<String> = answers.chain(built).flat_map(strings).map(str::to_owned).collect();
    let written = source.split("\"/problems/").skip(1).filter_map(|rest| rest.split('"').next());
    codes.extend(written.map(str::to_owned));
    codes.retain(|code| !code.is_empty() && code.bytes().all(|b| b.is_ascii_lowercase() || b == b'-'));
    codes
}

/// What stands between quotes.
fn strings(source: &str) -> impl Iterator<Item = &str> {
    source.split('"').skip(1).step_by(2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_found_where_faults_and_problems_name_them() {
        let source = r#"
impl Fault for E {
    fn code(&self) -> &str {
        match self {
            Self::Empty => "empty-order",
            Self::Other(inner) => inner.code(),
        }
    }
    fn other(&self) -> &str { "other-word" }
}
fn f() { Problem::new(StatusCode::GONE, "gone-now").detail("a text"); g("/problems/written-out"); }
/// Problem::new(x, "in-a-comment")
#[cfg(test)]
mod tests { fn f() { Problem::new(StatusCode::GONE, "only-tested") } }
"#;
        let codes: Vec<String> = problem_codes(source).into_iter().collect();
        assert_eq!(codes, ["empty-order", "gone-now", "written-out"]);
    }

    #[test]
    fn a_link_to_nowhere_is_noticed_and_one_in_code_is_not_a_link() {
        let page = "[a](Cargo.toml) [b](no-such-file.md#part)\n```\n[c](neither.md)\n```\n[d](https://example.org/x)";
        assert_eq!(
            broken_links("README.md", page),
            ["README.md links to no-such-file.md#part, which is not there"]
        );
    }
}
