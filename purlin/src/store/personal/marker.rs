//! How a personal value stands in JSON: an object with one member, whose name no ordinary data have.
//!
//! In memory, between a value and the store, the name ends in a number that this process drew: data that come from
//! outside cannot bear it, whatever they say. At rest the name is [`AT_REST`]. A caller's own members that are called
//! so, or nearly so, get one more `$` on their way into the store and lose it on their way out ([`escaped`]).

use std::borrow::Cow;
use std::sync::LazyLock;

use memchr::memmem::Finder;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// The member's name in what is stored.
pub(super) const AT_REST: &str = "$personal";

/// The member's name in memory.
pub(super) fn in_memory() -> &'static str {
    static NAME: LazyLock<String> = LazyLock::new(|| format!("{AT_REST}:{}", Uuid::new_v4().simple()));
    &NAME
}

/// Whether there may be a name in these bytes that has to do with personal data. Nothing else is asked of data that
/// have none.
pub(super) fn may_be_in(json: &[u8]) -> bool {
    static FINDER: LazyLock<Finder<'static>> = LazyLock::new(|| Finder::new(AT_REST));
    FINDER.find(json).is_some()
}

/// Whether a name, as it stands in the text, is one that a caller's data bear with one more `$` at rest.
pub(super) fn is_reserved(name: &[u8]) -> bool {
    let dollars = name.iter().take_while(|byte| **byte == b'$').count();
    dollars > 0 && name[dollars..].starts_with(&AT_REST.as_bytes()[1..])
}

/// Whether a name at rest is a caller's, and bears one more `$` than he gave it.
pub(super) fn is_escaped(name: &[u8]) -> bool {
    is_reserved(name) && name.starts_with(b"$$")
}

/// What the member holds.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Body<'a> {
    /// Whom the value is about.
    #[serde(borrow)]
    pub(super) of: Cow<'a, str>,
    /// The value, as JSON text. Only in memory.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub(super) plain: Option<Cow<'a, str>>,
    /// The value was read from a store. Only in memory.
    #[serde(default, skip_serializing_if = "is_false")]
    pub(super) stored: bool,
    /// The value under the subject's key: base64 of nonce, text and tag.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub(super) sealed: Option<Cow<'a, str>>,
    /// The name of the place that a sealed value was read from, to which it is bound. Only in memory.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub(super) at: Option<Cow<'a, str>>,
    /// The key is gone.
    #[serde(default, skip_serializing_if = "is_false")]
    pub(super) forgotten: bool,
}

fn is_false(value: &bool) -> bool {
    !*value
}

impl Body<'_> {
    /// The object, under one of the two names.
    pub(super) fn write(&self, name: &str, to: &mut Vec<u8>) {
        to.extend_from_slice(b"{\"");
        to.extend_from_slice(name.as_bytes());
        to.extend_from_slice(b"\":");
        serde_json::to_writer(&mut *to, self).expect("texts and truths fit JSON");
        to.push(b'}');
    }
}
