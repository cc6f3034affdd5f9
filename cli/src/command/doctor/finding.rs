//! What a check found.

use serde::Serialize;

/// How bad it is; the number is the exit status.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Level {
    /// As it should be.
    Ok = 0,
    /// Somebody should look.
    Warn = 1,
    /// Something does not work, or will be lost.
    Fail = 2,
}

/// What a check found.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Finding {
    pub(super) level: Level,
    /// What was checked.
    pub(super) about: String,
    /// What it is.
    pub(super) said: String,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) advice: Option<String>,
    /// Nothing that follows could be checked.
    #[serde(skip)]
    pub(super) ends: bool,
}

impl Level {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warn => "warn",
            Self::Fail => "fail",
        }
    }
}

impl Finding {
    pub(super) fn ok(about: impl Into<String>, said: impl Into<String>) -> Self {
        Self { level: Level::Ok, about: about.into(), said: said.into(), advice: None, ends: false }
    }

    pub(super) fn warn(about: impl Into<String>, said: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { level: Level::Warn, advice: Some(advice.into()), ..Self::ok(about, said) }
    }

    pub(super) fn fail(about: impl Into<String>, said: impl Into<String>, advice: impl Into<String>) -> Self {
        Self { level: Level::Fail, ..Self::warn(about, said, advice) }
    }

    /// The same, and nothing that follows can be checked.
    pub(super) fn ending(self) -> Self {
        Self { ends: true, ..self }
    }

    pub(super) fn line(&self, width: usize) -> String {
        let clean =
            |text: &str| text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect::<String>();
        let (level, about, said) = (self.level.name(), clean(&self.about), clean(&self.said));
        let advice = self.advice.as_deref().map(|advice| format!("\n      -> {}", clean(advice)));
        format!("{level:<4}  {about:<width$}  {said}{}\n", advice.unwrap_or_default())
    }
}

/// Bytes as a person reads them.
pub(super) fn bytes(count: u64) -> String {
    indicatif::BinaryBytes(count).to_string()
}
