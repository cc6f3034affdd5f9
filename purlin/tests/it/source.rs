//! The workspace's source as text, for tests that hold what it may and may not say.

use std::fs;
use std::path::{Path, PathBuf};

/// A file of Rust source.
pub(crate) struct Source {
    /// Its path from the workspace's folder, with slashes.
    pub(crate) path: String,
    /// Its code: comments and the contents of strings are gone, lines are where they were.
    pub(crate) code: String,
}

impl Source {
    /// The code before the unit tests, which stand at a file's end.
    pub(crate) fn without_tests(&self) -> &str {
        let end = self.code.find("#[cfg(test)]\nmod ").unwrap_or(self.code.len());
        &self.code[..end]
    }
}

/// The folder of the workspace.
pub(crate) fn workspace() -> PathBuf {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).parent();
    folder.expect("the crate's folder lies in the workspace").to_owned()
}

/// All Rust files below a folder of the workspace, or the one file; none when there is nothing.
pub(crate) fn below(place: &str) -> Vec<Source> {
    let mut files = Vec::new();
    collect(&workspace().join(place), &mut files);
    files.sort();
    let read = |file: PathBuf| {
        let text = fs::read_to_string(&file).expect("a source file is UTF-8");
        let path = file.strip_prefix(workspace()).expect("the file lies in the workspace");
        Source { path: path.to_string_lossy().replace('\\', "/"), code: code(&text) }
    };
    files.into_iter().map(read).collect()
}

fn collect(place: &Path, files: &mut Vec<PathBuf>) {
    if place.is_dir() {
        for entry in fs::read_dir(place).expect("a folder can be listed") {
            collect(&entry.expect("an entry can be read").path(), files);
        }
    } else if place.extension().is_some_and(|extension| extension == "rs") && place.is_file() {
        files.push(place.to_owned());
    }
}

/// The names of the folders in a folder of the workspace.
pub(crate) fn folders(place: &str) -> Vec<String> {
    let Ok(entries) = fs::read_dir(workspace().join(place)) else { return Vec::new() };
    let entries = entries.map(|entry| entry.expect("an entry can be read"));
    let mut names: Vec<String> = entries
        .filter(|entry| entry.path().is_dir())
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

/// Takes out comments and what stands between quotes; keeps the line breaks.
pub(crate) fn code(text: &str) -> String {
    let mut rest = text;
    let mut code = String::with_capacity(text.len());
    while let Some(first) = rest.chars().next() {
        let skipped = match first {
            '/' if rest.starts_with("//") => rest.find('\n').unwrap_or(rest.len()),
            '/' if rest.starts_with("/*") => block_comment(rest),
            '"' => string(rest),
            'r' if !code.ends_with(is_word) => raw_string(rest),
            '\'' => character(rest),
            _ => 0,
        };
        if skipped == 0 {
            code.push(first);
            rest = &rest[first.len_utf8()..];
        } else {
            code.extend(rest[..skipped].chars().filter(|c| *c == '\n'));
            rest = &rest[skipped..];
        }
    }
    code
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// The length of a block comment, with those inside it.
fn block_comment(text: &str) -> usize {
    let (mut depth, mut at) = (0_usize, 0);
    while at < text.len() {
        if text[at..].starts_with("/*") {
            (depth, at) = (depth + 1, at + 2);
        } else if text[at..].starts_with("*/") {
            (depth, at) = (depth - 1, at + 2);
            if depth == 0 {
                return at;
            }
        } else {
            at += text[at..].chars().next().map_or(1, char::len_utf8);
        }
    }
    text.len()
}

/// The length of a string that begins with a quote.
fn string(text: &str) -> usize {
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return at + 1,
            _ => {}
        }
    }
    text.len()
}

/// The length of a raw string, or 0 when an `r` begins something else.
fn raw_string(text: &str) -> usize {
    let hashes = text[1..].chars().take_while(|c| *c == '#').count();
    if !text[1 + hashes..].starts_with('"') {
        return 0;
    }
    let end = format!("\"{}", "#".repeat(hashes));
    let begin = 2 + hashes;
    text[begin..].find(&end).map_or(text.len(), |at| begin + at + end.len())
}

/// The length of a character literal, or 0 when a quote begins a lifetime.
fn character(text: &str) -> usize {
    let mut chars = text.char_indices().skip(1);
    match chars.next() {
        Some((_, '\\')) => {
            // The character behind the backslash may itself be a quote.
            let begin = 3.min(text.len());
            text[begin..].find('\'').map_or(0, |at| begin + at + 1)
        }
        Some((at, c)) if text[at + c.len_utf8()..].starts_with('\'') => at + c.len_utf8() + 1,
        _ => 0,
    }
}

#[test]
fn comments_and_strings_are_not_code() {
    let text =
        "a /* b /* c */ d */ e // f\n\"g \\\" h\" r#\"i \" j\"# 'k' '\\'' '\\u{1F600}' fn l<'m>(n: &'m str)";
    let words: Vec<String> = code(text).split_whitespace().map(str::to_owned).collect();
    assert_eq!(words.join(" "), "a e fn l<'m>(n: &'m str)");
    assert_eq!(code(text).lines().count(), text.lines().count());
}
