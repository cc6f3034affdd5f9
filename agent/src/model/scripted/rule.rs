//! When a prompt has these words: call these tools, then say this.

use std::fmt::Write as _;

use purlin::message::Uuid;
use serde_json::Value;

use super::super::{Answer, Message, ToolResult};

/// What to do when certain words are in the prompt.
pub struct Rule {
    words: Vec<Vec<String>>,
    calls: Vec<(String, Arguments)>,
    say: Say,
}

type Arguments = Box<dyn Fn(&Heard<'_>) -> Value + Send + Sync>;
type Say = Box<dyn Fn(&Heard<'_>) -> String + Send + Sync>;

impl Rule {
    /// A rule for prompts that have one of these words. A word is compared whole and without regard to case.
    pub fn when<W: Into<String>>(words: impl IntoIterator<Item = W>) -> Self {
        let rule = Self { words: Vec::new(), calls: Vec::new(), say: Box::new(summary) };
        rule.and(words)
    }

    /// ... and also one of these.
    pub fn and<W: Into<String>>(mut self, words: impl IntoIterator<Item = W>) -> Self {
        self.words.push(words.into_iter().map(|word| word.into().to_lowercase()).collect());
        self
    }

    /// Calls a tool with arguments made from the prompt; several calls are made in one turn.
    pub fn call(
        mut self,
        tool: impl Into<String>,
        arguments: impl Fn(&Heard<'_>) -> Value + Send + Sync + 'static,
    ) -> Self {
        self.calls.push((tool.into(), Box::new(arguments)));
        self
    }

    /// What to say at the end, instead of a list of what the tools gave.
    pub fn say(mut self, say: impl Fn(&Heard<'_>) -> String + Send + Sync + 'static) -> Self {
        self.say = Box::new(say);
        self
    }

    pub(super) fn fits(&self, heard: &Heard<'_>) -> bool {
        self.words.iter().all(|any| any.iter().any(|word| heard.words.contains(word)))
    }

    pub(super) fn answer(&self, heard: &Heard<'_>) -> Answer {
        if self.calls.is_empty() || !heard.results.is_empty() {
            return Answer::text((self.say)(heard));
        }
        Answer::calling(self.calls.iter().map(|(tool, arguments)| (tool, arguments(heard))))
    }
}

/// What a rule knows: the prompt, and what its calls gave.
#[derive(Debug)]
pub struct Heard<'a> {
    prompt: &'a str,
    words: Vec<String>,
    results: &'a [ToolResult],
}

impl<'a> Heard<'a> {
    pub(super) fn in_conversation(messages: &'a [Message]) -> Self {
        let prompt = messages.iter().rev().find_map(|message| match message {
            Message::User(prompt) => Some(prompt.as_str()),
            _ => None,
        });
        let results = match messages.last() {
            Some(Message::Results(results)) => results.as_slice(),
            _ => &[],
        };
        let prompt = prompt.unwrap_or_default();
        let separates = |c: char| !c.is_alphanumeric() && c != '-' && c != '_';
        let words = prompt.split(separates).filter(|word| !word.is_empty()).map(str::to_lowercase).collect();
        Self { prompt, words, results }
    }

    /// The prompt as it was written.
    pub fn prompt(&self) -> &'a str {
        self.prompt
    }

    /// Whether the prompt has a word.
    pub fn has(&self, word: &str) -> bool {
        self.words.iter().any(|heard| heard == word)
    }

    /// The first of the prompt's words that is one of `known`.
    pub fn first_of<'k>(&self, known: &[&'k str]) -> Option<&'k str> {
        self.words.iter().find_map(|heard| known.iter().find(|word| heard == *word).copied())
    }

    /// The first UUID in the prompt.
    pub fn first_id(&self) -> Option<Uuid> {
        self.words.iter().find_map(|word| Uuid::parse_str(word).ok())
    }

    /// What the calls gave; empty before they are made.
    pub fn results(&self) -> &'a [ToolResult] {
        self.results
    }
}

const SHOWN: usize = 10;

/// Says what each tool gave: how many and the first ten of a list, else all.
fn summary(heard: &Heard<'_>) -> String {
    let mut said = String::new();
    for result in heard.results() {
        if !said.is_empty() {
            said.push('\n');
        }
        let value = serde_json::from_str(&result.content).unwrap_or(Value::Null);
        // Writing to a string cannot fail.
        let _ = match (result.is_error, items(&value)) {
            (true, _) => write!(said, "{} failed: {}", result.name, message(&value)),
            (false, Some(items)) => {
                let _ = write!(said, "{} found {}:", result.name, items.len());
                items.iter().take(SHOWN).try_for_each(|item| write!(said, "\n- {}", line(item)))
            }
            (false, None) => write!(said, "{} answered: {}", result.name, line(&value)),
        };
    }
    said
}

fn items(value: &Value) -> Option<&Vec<Value>> {
    value.as_array().or_else(|| value.get("items")?.as_array())
}

fn message(value: &Value) -> &str {
    value.pointer("/error/message").and_then(Value::as_str).unwrap_or("it did not say why")
}

/// A value in a line: the plain properties of an object, else its JSON.
fn line(value: &Value) -> String {
    let Value::Object(properties) = value else { return plain(value) };
    let shown = properties.iter().filter(|(_, value)| !value.is_null() && !value.is_array());
    shown.map(|(name, value)| format!("{name}: {}", plain(value))).collect::<Vec<_>>().join(", ")
}

fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}
