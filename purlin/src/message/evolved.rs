//! The changes that kinds of events have gone through, as their enum lists them.

use std::error::Error;

use serde_json::Value;

/// Makes the data of a version of a kind from those of the version before. Pure: no clock, no dice, no IO.
///
/// Data that it cannot bring up are refused with a reason (`?` takes texts and errors). They pass through
/// [`Value`], in which a number has 64 bits.
pub type Upcast = fn(Value) -> Result<Value, Box<dyn Error + Send + Sync>>;

/// One change of a kind of event since it was first written.
///
/// A kind is named by its variant (`placed`), whatever its prefix, or wholly (`basket.placed`) where the prefix
/// makes the difference.
#[derive(Debug, Clone, Copy)]
pub struct Evolved {
    pub(super) kind: &'static str,
    /// Whether the kind is named with its prefix.
    whole: bool,
    pub(super) how: How,
}

#[derive(Debug, Clone, Copy)]
pub(super) enum How {
    Version(u16, Upcast),
    Renamed(&'static str),
    Retired,
}

impl Evolved {
    /// A kind is written in a new version, and `upcast` makes its data from those of the version before.
    ///
    /// The versions of a kind are listed one by one, from 2 on; the last is the one that is written.
    pub const fn version(kind: &'static str, version: u16, upcast: Upcast) -> Self {
        Self { kind, whole: has_dot(kind), how: How::Version(version, upcast) }
    }

    /// A kind is called `to` from now on, a variant without a prefix. Its versions count on under the new name.
    ///
    /// A kind can be renamed to one that there is already: the two must then have come to the same version, in which
    /// their data mean the same.
    pub const fn renamed(from: &'static str, to: &'static str) -> Self {
        Self { kind: from, whole: has_dot(from), how: How::Renamed(to) }
    }

    /// A kind means nothing any more: its events are passed over, and none is written.
    pub const fn retired(kind: &'static str) -> Self {
        Self { kind, whole: has_dot(kind), how: How::Retired }
    }

    /// What kind it is about, without the prefix.
    pub(super) fn variant(&self) -> &'static str {
        Kind::of(self.kind).variant
    }

    /// What the kind is called now, if it was renamed.
    pub(super) fn new_name(&self) -> Option<&'static str> {
        if let How::Renamed(to) = self.how { Some(to) } else { None }
    }

    /// Whether the kind is of the past.
    pub(super) fn is_gone(&self) -> bool {
        !matches!(self.how, How::Version(..))
    }

    pub(super) fn is_about(&self, kind: Kind<'_>) -> bool {
        self.kind == if self.whole { kind.whole } else { kind.variant }
    }
}

/// Refuses at compile time what could not be told apart, or leaves a hole, when events are read.
pub(super) const fn check(evolution: &[Evolved]) {
    let mut at = 0;
    while at < evolution.len() {
        let Evolved { kind, how, .. } = evolution[at];
        assert!(
            !is_gone_before(evolution, at),
            "a kind of event is renamed or retired once, and nothing more is said of it afterwards"
        );
        match how {
            How::Version(version, _) => assert!(
                version > 1 && version - 1 == last_version(evolution, at, kind),
                "the versions of a kind of event are listed one by one, from 2 on, and each once"
            ),
            How::Renamed(to) => {
                assert!(!has_dot(to), "a kind of event is renamed to a variant, which has no prefix");
                assert!(ends(evolution, to), "kinds of events are renamed in a circle");
            }
            How::Retired => {}
        }
        at += 1;
    }
}

/// The version that a kind has come to before the change `at`, under this name or those that it had before.
pub(super) const fn last_version(evolution: &[Evolved], mut at: usize, kind: &str) -> u16 {
    let mut last = 1;
    while at > 0 {
        at -= 1;
        let version = match evolution[at].how {
            How::Version(version, _) if same(evolution[at].kind, kind) => version,
            How::Renamed(to) if same(to, kind) => last_version(evolution, at, evolution[at].kind),
            _ => 1,
        };
        if version > last {
            last = version;
        }
    }
    last
}

const fn is_gone_before(evolution: &[Evolved], mut at: usize) -> bool {
    let kind = evolution[at].kind;
    while at > 0 {
        at -= 1;
        if same(evolution[at].kind, kind) && !matches!(evolution[at].how, How::Version(..)) {
            return true;
        }
    }
    false
}

/// Whether renaming from `name` on comes to an end.
const fn ends(evolution: &[Evolved], mut name: &str) -> bool {
    let (mut at, mut renamed) = (0, 0);
    while at < evolution.len() {
        match evolution[at].how {
            How::Renamed(to) if same(evolution[at].kind, name) => {
                (name, at, renamed) = (to, 0, renamed + 1);
                if renamed > evolution.len() {
                    return false;
                }
            }
            _ => at += 1,
        }
    }
    true
}

const fn same(one: &str, other: &str) -> bool {
    let (one, other) = (one.as_bytes(), other.as_bytes());
    let mut at = 0;
    while at < one.len() && at < other.len() && one[at] == other[at] {
        at += 1;
    }
    at == one.len() && at == other.len()
}

const fn has_dot(name: &str) -> bool {
    let (name, mut at) = (name.as_bytes(), 0);
    while at < name.len() {
        if name[at] == b'.' {
            return true;
        }
        at += 1;
    }
    false
}

/// A kind, and its part behind the last dot.
#[derive(Clone, Copy)]
pub(super) struct Kind<'a> {
    pub(super) whole: &'a str,
    pub(super) variant: &'a str,
}

impl<'a> Kind<'a> {
    #[inline]
    pub(super) fn of(whole: &'a str) -> Self {
        let dot = whole.bytes().rposition(|byte| byte == b'.');
        Self { whole, variant: dot.map_or(whole, |dot| &whole[dot + 1..]) }
    }
}

#[cfg(test)]
mod tests {
    use std::panic::catch_unwind;

    use super::*;
    use crate::message::panic_text;

    #[test]
    fn what_leaves_a_hole_or_contradicts_itself_is_refused() {
        let step: Upcast = Ok;
        let wrong: &[(&[Evolved], &str)] = &[
            (&[Evolved::version("a", 1, step)], "one by one"),
            (&[Evolved::version("a", 3, step)], "one by one"),
            (&[Evolved::version("a", 2, step), Evolved::version("a", 2, step)], "one by one"),
            (&[Evolved::version("a", 2, step), Evolved::version("b", 3, step)], "one by one"),
            (&[Evolved::renamed("a", "b"), Evolved::retired("a")], "once"),
            (&[Evolved::retired("a"), Evolved::retired("a")], "once"),
            (&[Evolved::retired("a"), Evolved::version("a", 2, step)], "nothing more is said"),
            (
                &[Evolved::version("a", 2, step), Evolved::renamed("a", "b"), Evolved::version("b", 2, step)],
                "one by one",
            ),
            (&[Evolved::renamed("a", "b"), Evolved::renamed("b", "a")], "circle"),
            (&[Evolved::renamed("a", "a")], "circle"),
            (&[Evolved::renamed("a", "x.b")], "no prefix"),
        ];
        for (evolution, why) in wrong {
            let refused = catch_unwind(|| check(evolution)).unwrap_err();
            assert!(panic_text(&*refused).contains(why), "{evolution:?}");
        }
    }
}
