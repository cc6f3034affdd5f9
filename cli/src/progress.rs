//! How far something long has come, for who waits at a terminal; elsewhere nothing is drawn.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use purlin::store::transfer::Progress;

/// A bar on the standard error.
pub(crate) struct Bar(ProgressBar);

impl Bar {
    /// A bar of something that is counted: `doing` says what is done, `unit` what is counted.
    pub(crate) fn new(doing: &str, unit: &str) -> Self {
        Self::of(doing, &format!("{unit}, {{per_sec}}, {{eta}} left {{msg}}"))
    }

    /// A bar whose speed is not measured here, but told by whoever does the work; see [`Bar::say`].
    pub(crate) fn told(doing: &str, unit: &str) -> Self {
        Self::of(doing, &format!("{unit}{{msg}}"))
    }

    fn of(doing: &str, rest: &str) -> Self {
        let bar = ProgressBar::new(0);
        let template = format!("{{prefix}} [{{bar:30}}] {{human_pos}} of {{human_len}} {rest}");
        if let Ok(style) = ProgressStyle::with_template(&template) {
            bar.set_style(style.progress_chars("=> "));
        }
        bar.set_prefix(doing.to_owned());
        bar.enable_steady_tick(Duration::from_millis(250));
        Self(bar)
    }

    /// So many of so many.
    pub(crate) fn at(&self, done: u64, of: u64) {
        self.0.set_length(of.max(done));
        self.0.set_position(done);
    }

    /// What is to be said beside it.
    pub(crate) fn say(&self, message: String) {
        self.0.set_message(message);
    }

    /// Tells something at once, above the bar.
    pub(crate) fn tell(&self, line: &str) {
        self.0.suspend(|| eprintln!("{line}"));
    }

    /// As far as a transfer has come.
    pub(crate) fn moved(&self, progress: Progress) {
        self.at(progress.events, progress.of);
        if progress.records > 0 {
            self.say(format!("({} records)", progress.records));
        }
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}
