//! Names that are seldom long.

use std::cmp::Ordering;
use std::hash::{Hash, Hasher};
use std::str;
use std::sync::Arc;

/// A text that does not change. Up to [`Name::SHORT`] bytes it stands in the value itself: to make, copy and drop one then
/// takes no memory from anywhere, and shares nothing with other threads.
#[derive(Clone)]
pub(super) enum Name {
    Short { len: u8, text: [u8; Name::SHORT] },
    Long(Arc<str>),
}

impl Name {
    /// A category of nine letters, and a UUID.
    const SHORT: usize = 46;

    pub(super) fn new(name: &str) -> Self {
        match u8::try_from(name.len()) {
            Ok(len) if name.len() <= Self::SHORT => {
                let mut text = [0; Self::SHORT];
                text[..name.len()].copy_from_slice(name.as_bytes());
                Self::Short { len, text }
            }
            _ => Self::Long(name.into()),
        }
    }

    pub(super) fn as_str(&self) -> &str {
        match self {
            Self::Short { .. } => str::from_utf8(self.as_bytes()).expect("it was a text"),
            Self::Long(text) => text,
        }
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        match self {
            Self::Short { len, text } => &text[..usize::from(*len)],
            Self::Long(text) => text.as_bytes(),
        }
    }
}

impl PartialEq for Name {
    fn eq(&self, other: &Self) -> bool {
        self.as_bytes() == other.as_bytes()
    }
}

impl Eq for Name {}

impl PartialOrd for Name {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Name {
    fn cmp(&self, other: &Self) -> Ordering {
        self.as_bytes().cmp(other.as_bytes())
    }
}

impl Hash for Name {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.as_bytes().hash(state);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_its_text_however_long_it_is() {
        let text = "ключ-".repeat(20);
        let lens = (0..text.len()).filter(|len| text.is_char_boundary(*len));
        let mut names: Vec<Name> = lens.clone().map(|len| Name::new(&text[..len])).collect();
        for (name, len) in names.iter().zip(lens) {
            assert_eq!(name.as_str(), &text[..len]);
            assert!(*name == name.clone() && matches!(name, Name::Short { .. }) == (len <= Name::SHORT));
        }
        names.push(Name::new(&"\u{10FFFF}".repeat(2)));
        names.reverse();
        names.sort_unstable();
        assert!(names.windows(2).all(|pair| pair[0].as_str() < pair[1].as_str() && pair[0] != pair[1]));
    }
}
