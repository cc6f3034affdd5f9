//! Words by which events of many streams are found together.

use std::fmt;
use std::sync::Arc;

/// The tags of an event, sorted and each once: `course:42`, `student:7`. An event without tags costs nothing for them.
///
/// What a tag may be is checked when the event is committed: at most [`Tags::MAX_LEN`] bytes, no control characters.
#[derive(Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tags(Option<Arc<[Arc<str>]>>);

impl Tags {
    /// The longest tag, in bytes.
    pub const MAX_LEN: usize = 128;
    /// How many tags an event may have.
    pub const MAX: usize = 16;

    /// No tags.
    pub const fn none() -> Self {
        Self(None)
    }

    /// These tags.
    pub fn new<T: Into<Arc<str>>>(tags: impl IntoIterator<Item = T>) -> Self {
        let mut tags: Vec<Arc<str>> = tags.into_iter().map(Into::into).collect();
        tags.sort_unstable();
        tags.dedup();
        if tags.is_empty() { Self(None) } else { Self(Some(tags.into())) }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.as_slice().len()
    }

    /// The tags in their order.
    pub fn as_slice(&self) -> &[Arc<str>] {
        self.0.as_deref().unwrap_or_default()
    }

    /// The tags in their order.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        self.as_slice().iter().map(|tag| &**tag)
    }

    /// Whether this tag is among them.
    pub fn contains(&self, tag: &str) -> bool {
        self.as_slice().binary_search_by(|known| (**known).cmp(tag)).is_ok()
    }

    /// Whether all of `wanted` are among them.
    pub fn contains_all(&self, wanted: &Self) -> bool {
        wanted.iter().all(|tag| self.contains(tag))
    }

    /// What is wrong with the first of them that cannot be stored.
    pub fn fault(&self) -> Option<String> {
        if self.len() > Self::MAX {
            return Some(format!("{} tags, the limit is {}", self.len(), Self::MAX));
        }
        self.iter().find_map(|tag| match tag.len() {
            0 => Some("an empty tag".to_owned()),
            len if len > Self::MAX_LEN => {
                Some(format!("a tag of {len} bytes, the limit is {}", Self::MAX_LEN))
            }
            _ if tag.chars().any(char::is_control) => {
                Some(format!("the tag {tag:?} with a control character"))
            }
            _ => None,
        })
    }
}

impl<T: Into<Arc<str>>> FromIterator<T> for Tags {
    fn from_iter<I: IntoIterator<Item = T>>(tags: I) -> Self {
        Self::new(tags)
    }
}

impl fmt::Debug for Tags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_are_a_set() {
        let tags = Tags::new(["b", "a", "b"]);
        assert_eq!(tags.iter().collect::<Vec<_>>(), ["a", "b"]);
        assert!(tags.contains("a") && !tags.contains("c") && tags.contains_all(&Tags::new(["b"])));
        assert!(!Tags::none().contains_all(&tags) && tags.contains_all(&Tags::none()));
        assert_eq!(Tags::new(Vec::<&str>::new()), Tags::none());
    }

    #[test]
    fn what_cannot_be_stored_is_said() {
        assert_eq!(Tags::new(["fine:1"]).fault(), None);
        for bad in [
            Tags::new([""]),
            Tags::new(["a\nb"]),
            Tags::new(["x".repeat(129)]),
            (0..17).map(|n| n.to_string()).collect(),
        ] {
            assert!(bad.fault().is_some(), "{bad:?}");
        }
    }
}
