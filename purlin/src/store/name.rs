//! Names that are seldom long.

use std::cmp::Ordering;
use std::hash::{Hash, Hasher};
use std::str;
use std::sync::Arc;

/// A text that does not change. Up to [`Name::SHORT`] bytes it stands in the value itself: to make, copy and drop one then
/// takes no memory from anywhere, and shares nothing with other threads. (`cargo xtask bench store --only replay`.)
#[derive(Clone)]
pub(super) enum Name {
    Short { len: u8, text: [u8; Name::SHORT] },
    Long(Arc<str>),
}

impl Name {
    /// A category of nine letters, and a UUID.
    pub(super) const SHORT: usize = 46;

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
    use std::hash::DefaultHasher;

    use super::*;

    #[test]
    fn a_name_is_its_text_however_long_it_is() {
        let text = ["ключ-", "key-", "\u{10FFFF}"].concat().repeat(10);
        let lens = (0..text.len()).filter(|len| text.is_char_boundary(*len));
        let ascii = "k".repeat(Name::SHORT + 1);
        let ascii = [45, 46, 47].map(|len| &ascii[..len]);
        let texts: Vec<&str> = lens.map(|len| &text[..len]).chain(ascii).collect();
        for text in &texts {
            let name = Name::new(text);
            assert_eq!((name.as_str(), name.clone().as_bytes()), (*text, text.as_bytes()));
            assert_eq!(matches!(name, Name::Long(_)), text.len() > 46, "{} bytes", text.len());
        }
        for (one, other) in texts.iter().flat_map(|one| texts.iter().map(move |other| (*one, *other))) {
            let names = (Name::new(one), Name::new(other));
            assert_eq!(names.0.cmp(&names.1), one.cmp(other), "{one} and {other}");
            assert_eq!(names.0 == names.1, one == other, "{one} and {other}");
        }
    }

    #[test]
    fn names_have_the_same_hash_if_they_are_the_same_and_none_goes_on_in_the_next() {
        let hash_of = |names: &[Name; 2]| {
            let mut hasher = DefaultHasher::new();
            names.hash(&mut hasher);
            hasher.finish()
        };
        let hash = |names: [&str; 2]| hash_of(&names.map(Name::new));
        let long = "k".repeat(60);
        for one in ["a", "ab", &long[..45], &long[..46], &long[..47], &long] {
            // Two that are there at once, of texts that lie apart and go on.
            let text = format!("{one}, and on");
            let same = [[one, "c"], [&text[..one.len()], "c"]].map(|names| names.map(Name::new));
            assert_eq!(hash_of(&same[0]), hash_of(&same[1]));
            assert_ne!(hash([one, "c"]), hash([&one[1..], "c"]));
            let (first, rest) = one.split_at(one.len() - 1);
            assert_ne!(hash([one, "c"]), hash([first, &format!("{rest}c")]));
        }
    }
}
