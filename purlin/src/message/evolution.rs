//! What was written before is brought up to what is known today.

use std::cmp::Ordering;
use std::panic::catch_unwind;

use serde_json::Value;

use super::evolved::{How, Kind, last_version};
use super::{DecodeError, Evolved, Upcast, panic_text};

/// How a stored event stands to what is known today.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// It is as it would be written now.
    Current,
    /// Its kind or its data must be brought up first.
    Past,
    /// It was written in a version behind the last one that is known.
    Newer { known: u16 },
}

/// How an event stands to what is known: one look at each change, no allocation.
#[inline]
pub(super) fn standing(evolution: &[Evolved], kind: &str, schema: u16) -> Standing {
    match current(evolution, kind) {
        None => Standing::Past,
        Some(known) if schema > known => Standing::Newer { known },
        Some(known) if schema < known => Standing::Past,
        Some(_) => Standing::Current,
    }
}

/// The version in which a kind is written; none if it is one of the past.
#[inline]
pub(super) fn current(evolution: &[Evolved], kind: &str) -> Option<u16> {
    // Of an enum that lists nothing this is known when it is compiled.
    if evolution.is_empty() { Some(1) } else { last_of(evolution, Kind::of(kind)) }
}

fn last_of(evolution: &[Evolved], kind: Kind<'_>) -> Option<u16> {
    let mut last = 1;
    for (at, evolved) in evolution.iter().enumerate() {
        match evolved.how {
            How::Version(version, _) if evolved.is_about(kind) => last = last.max(version),
            How::Renamed(_) | How::Retired if evolved.is_about(kind) => return None,
            How::Renamed(to) if to == kind.variant => {
                last = last.max(last_version(evolution, at, evolved.kind));
            }
            _ => {}
        }
    }
    Some(last)
}

/// Whether the events of a kind are passed over.
pub(super) fn is_retired(evolution: &[Evolved], kind: &str) -> bool {
    let mut kind = Kind::of(kind);
    loop {
        match gone(evolution, kind) {
            Some(How::Renamed(to)) => kind = Kind::of(to),
            other => return other.is_some(),
        }
    }
}

/// An event of the past as it would be written today.
#[derive(Debug)]
pub(super) struct BroughtUp<'a> {
    pub(super) variant: &'a str,
    /// None: the data are as they were.
    pub(super) data: Option<Value>,
}

/// Brings an event up: version after version under each of its kind's names.
pub(super) fn bring_up<'a>(
    evolution: &[Evolved],
    stored: &'a str,
    schema: u16,
    data: &[u8],
) -> Result<BroughtUp<'a>, DecodeError> {
    let (mut kind, mut version, mut brought_up) = (Kind::of(stored), schema, None);
    loop {
        let gone = gone(evolution, kind);
        if let Some(How::Retired) = gone {
            return Err(DecodeError::Retired { kind: stored.to_owned() });
        }
        while let Some((to, upcast)) = next(evolution, kind, version) {
            let from = match brought_up.take() {
                Some(from) => from,
                None => serde_json::from_slice(data)
                    .map_err(|source| DecodeError::Misfit { kind: stored.to_owned(), source })?,
            };
            let made = catch_unwind(|| upcast(from)).unwrap_or_else(|panic| {
                Err(format!("the upcaster panicked: {}", panic_text(&*panic)).into())
            });
            let refused = |source| DecodeError::Upcast { kind: stored.to_owned(), from: version, to, source };
            brought_up = Some(made.map_err(refused)?);
            version = to;
        }
        match gone {
            Some(How::Renamed(to)) => kind = Kind::of(to),
            _ => break,
        }
    }
    let known = current(evolution, kind.whole).unwrap_or(version);
    match version.cmp(&known) {
        Ordering::Equal => Ok(BroughtUp { variant: kind.variant, data: brought_up }),
        Ordering::Greater => Err(DecodeError::Newer { kind: stored.to_owned(), schema, known }),
        // Two kinds became one that had come to different versions.
        Ordering::Less => Err(DecodeError::Upcast {
            kind: stored.to_owned(),
            from: version,
            to: known,
            source: "no upcaster is listed for it".into(),
        }),
    }
}

/// What became of a kind that is of the past.
fn gone(evolution: &[Evolved], kind: Kind<'_>) -> Option<How> {
    evolution.iter().find(|evolved| evolved.is_gone() && evolved.is_about(kind)).map(|evolved| evolved.how)
}

/// The version behind `version` of a kind, and how to make it.
fn next(evolution: &[Evolved], kind: Kind<'_>, version: u16) -> Option<(u16, Upcast)> {
    evolution.iter().filter(|evolved| evolved.is_about(kind)).find_map(|evolved| match evolved.how {
        How::Version(to, upcast) if version.checked_add(1) == Some(to) => Some((to, upcast)),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::super::evolved::check;
    use super::*;

    /// Changes that show in which order they were made.
    const STEPS: [Upcast; 4] = [
        |data| Ok(json!({ "a": data })),
        |data| Ok(json!([data, 1])),
        |data| Ok(json!(data.to_string())),
        |mut data| {
            if let Some(list) = data.as_array_mut() {
                list.push(json!(2));
            }
            Ok(data)
        },
    ];

    const NAMES: [&str; 4] = ["first", "second", "third", "fourth"];

    /// Changes in the order of time, and what an event was written as at each time.
    fn evolution(changes: &[(usize, bool)]) -> (Vec<Evolved>, Vec<(&'static str, u16)>) {
        let (mut evolution, mut written, mut name) = (Vec::new(), vec![(NAMES[0], 1)], 0);
        for (version, (step, rename)) in (2..).zip(changes) {
            evolution.push(Evolved::version(NAMES[name], version, STEPS[*step]));
            written.push((NAMES[name], version));
            if *rename && name + 1 < NAMES.len() {
                evolution.push(Evolved::renamed(NAMES[name], NAMES[name + 1]));
                name += 1;
                written.push((NAMES[name], version));
            }
        }
        (evolution, written)
    }

    proptest! {
        #[test]
        fn a_chain_of_upcasters_is_each_applied_once_in_order(
            changes in prop::collection::vec((0..STEPS.len(), prop::bool::weighted(0.3)), 0..8),
            event in any::<prop::sample::Index>(),
        ) {
            let (evolution, written) = evolution(&changes);
            check(&evolution);
            let ((name, schema), (last, newest)) = (*event.get(&written), written[written.len() - 1]);
            let mut expected = json!({ "n": 1 });
            for (step, _) in &changes[usize::from(schema) - 1..] {
                expected = STEPS[*step](expected).unwrap();
            }
            let kind = format!("thing.{name}");
            let today = bring_up(&evolution, &kind, schema, br#"{"n":1}"#).unwrap();
            prop_assert_eq!(today.variant, last);
            prop_assert_eq!(today.data.unwrap_or(json!({ "n": 1 })), expected);
            prop_assert_eq!(current(&evolution, last), Some(newest));
            let as_it_is = name == last && schema == newest;
            prop_assert_eq!(standing(&evolution, &kind, schema) == Standing::Current, as_it_is);
            let newer = bring_up(&evolution, &kind, newest + 1, b"{}");
            let refused = matches!(newer, Err(DecodeError::Newer { known, .. }) if known == newest);
            prop_assert!(refused, "{:?}", newer);
        }
    }

    #[test]
    fn a_whole_kind_is_told_from_another_of_the_same_name() {
        let evolution = [
            Evolved::version("added", 2, STEPS[1]),
            Evolved::version("basket.put", 2, STEPS[0]),
            Evolved::renamed("basket.put", "added"),
            Evolved::retired("touched"),
            Evolved::renamed("poked", "touched"),
        ];
        check(&evolution);
        let up = |kind, schema| bring_up(&evolution, kind, schema, b"0");
        let put = up("basket.put", 1).unwrap();
        assert_eq!((put.variant, put.data), ("added", Some(json!({ "a": 0 }))));
        let added = up("cart.added", 1).unwrap();
        assert_eq!((added.variant, added.data), ("added", Some(json!([0, 1]))));
        let other = up("cart.put", 1).unwrap();
        assert_eq!((other.variant, other.data), ("put", None), "no change is about it");
        assert_eq!(standing(&evolution, "cart.put", 1), Standing::Current);
        assert_eq!(standing(&evolution, "cart.added", 2), Standing::Current);
        assert_eq!(standing(&evolution, "cart.added", 3), Standing::Newer { known: 2 });
        assert!(is_retired(&evolution, "cart.poked") && !is_retired(&evolution, "basket.put"));
        assert!(matches!(up("cart.poked", 1), Err(DecodeError::Retired { .. })));
    }

    #[test]
    fn an_upcaster_that_refuses_or_panics_is_an_error() {
        let evolution = [
            Evolved::version("refused", 2, |data| Ok(data.get("name").ok_or("there is no name")?.clone())),
            Evolved::version("panicked", 2, |data| Ok(data.as_array().expect("an array").len().into())),
        ];
        for (kind, why) in
            [("x.refused", "there is no name"), ("x.panicked", "the upcaster panicked: an array")]
        {
            let error = bring_up(&evolution, kind, 1, b"{}").unwrap_err();
            let source = std::error::Error::source(&error).expect("what the upcaster said").to_string();
            assert_eq!(source, why);
            assert_eq!(
                error.to_string(),
                format!("version 2 of the kind `{kind}` cannot be made from version 1")
            );
        }
    }

    #[test]
    fn kinds_that_became_one_in_different_versions_are_an_error() {
        let evolution = [Evolved::version("put", 2, STEPS[0]), Evolved::renamed("put", "added")];
        check(&evolution);
        assert_eq!(current(&evolution, "x.added"), Some(2));
        let error = bring_up(&evolution, "x.added", 1, b"0").unwrap_err();
        assert!(matches!(error, DecodeError::Upcast { from: 1, to: 2, .. }), "{error}");
    }
}
