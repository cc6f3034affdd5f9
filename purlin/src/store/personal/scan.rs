//! Finds the members of JSON text that have to do with personal data, and writes others in their place.
//!
//! Nothing is built from the text: it is gone through once, and what is not replaced is copied byte by byte. A name is
//! a string with a colon behind it, which no other string of JSON has; so neither depth nor size nor odd numbers matter,
//! and what a string says is never taken for a member.

use memchr::{memchr, memchr2};

use super::marker::{self, Body};

/// A member's name.
#[derive(Debug, Clone, Copy)]
struct Name<'a> {
    /// As it stands between the quotes.
    text: &'a [u8],
    /// Where its first quote stands.
    at: usize,
    /// Where its value begins, behind the colon.
    value: usize,
}

/// The members' names of a text, in their order.
struct Names<'a> {
    json: &'a [u8],
    at: usize,
}

impl<'a> Iterator for Names<'a> {
    type Item = Name<'a>;

    fn next(&mut self) -> Option<Name<'a>> {
        loop {
            let at = self.at + memchr(b'"', self.json.get(self.at..)?)?;
            let end = end_of_string(self.json, at + 1)?;
            let colon = behind_space(self.json, end + 1);
            self.at = end + 1;
            if self.json.get(colon) == Some(&b':') {
                self.at = colon + 1;
                return Some(Name { text: &self.json[at + 1..end], at, value: colon + 1 });
            }
        }
    }
}

/// Where the quote stands that ends the string.
fn end_of_string(json: &[u8], mut at: usize) -> Option<usize> {
    loop {
        at += memchr2(b'"', b'\\', json.get(at..)?)?;
        if json[at] == b'"' {
            return Some(at);
        }
        at += 2;
    }
}

fn behind_space(json: &[u8], at: usize) -> usize {
    let space = |byte: &&u8| matches!(**byte, b' ' | b'\t' | b'\n' | b'\r');
    at + json.get(at..).unwrap_or_default().iter().take_while(space).count()
}

/// A personal value's object.
struct Object<'a> {
    from: usize,
    /// Behind its last brace.
    to: usize,
    body: Body<'a>,
}

/// The object whose only member this is.
fn object<'a>(json: &'a [u8], name: &Name<'_>) -> Option<Object<'a>> {
    let before = json[..name.at].iter().rposition(|byte| !byte.is_ascii_whitespace())?;
    let mut bodies = serde_json::Deserializer::from_slice(&json[name.value..]).into_iter::<Body<'a>>();
    let body = bodies.next()?.ok()?;
    let end = behind_space(json, name.value + bodies.byte_offset());
    let alone = json[before] == b'{' && json.get(end) == Some(&b'}');
    alone.then_some(Object { from: before, to: end + 1, body })
}

/// What stands in the way of writing a text.
#[derive(Debug)]
pub(super) enum Refused<E> {
    /// A personal value shares its object with other members.
    NotAlone,
    /// What was asked for a value refused.
    Value(E),
}

/// The text as it is stored: what `body` makes of each personal value, and callers' names that are reserved escaped.
pub(super) fn to_rest<E>(
    json: &[u8],
    mut body: impl FnMut(Body<'_>) -> Result<Body<'static>, E>,
) -> Result<Vec<u8>, Refused<E>> {
    let (mut names, mut out, mut copied) = (Names { json, at: 0 }, Vec::with_capacity(json.len()), 0);
    while let Some(name) = names.next() {
        if name.text == marker::in_memory().as_bytes() {
            let found = object(json, &name).ok_or(Refused::NotAlone)?;
            out.extend_from_slice(&json[copied..found.from]);
            body(found.body).map_err(Refused::Value)?.write(marker::AT_REST, &mut out);
            (copied, names.at) = (found.to, found.to);
        } else if marker::is_reserved(name.text) {
            out.extend_from_slice(&json[copied..=name.at]);
            out.push(b'$');
            copied = name.at + 1;
        }
    }
    out.extend_from_slice(&json[copied..]);
    Ok(out)
}

/// The text as it was given: the inverse of [`to_rest`].
pub(super) fn to_memory(json: &[u8], mut body: impl FnMut(Body<'_>) -> Body<'static>) -> Vec<u8> {
    let (mut names, mut out, mut copied) = (Names { json, at: 0 }, Vec::with_capacity(json.len()), 0);
    while let Some(name) = names.next() {
        if marker::is_escaped(name.text) {
            out.extend_from_slice(&json[copied..=name.at]);
            copied = name.at + 2;
        } else if name.text == marker::AT_REST.as_bytes() {
            // What is not whole was not written by a store of this kind, and is none of its business.
            let Some(found) = object(json, &name) else { continue };
            out.extend_from_slice(&json[copied..found.from]);
            body(found.body).write(marker::in_memory(), &mut out);
            (copied, names.at) = (found.to, found.to);
        }
    }
    out.extend_from_slice(&json[copied..]);
    out
}

/// The text in memory with its subjects called otherwise.
pub(super) fn renamed(json: &[u8], name: impl Fn(&str) -> String) -> Vec<u8> {
    let (mut names, mut out, mut copied) = (Names { json, at: 0 }, Vec::with_capacity(json.len()), 0);
    while let Some(member) = names.next() {
        if member.text == marker::in_memory().as_bytes()
            && let Some(found) = object(json, &member)
        {
            out.extend_from_slice(&json[copied..found.from]);
            let of = name(&found.body.of).into();
            Body { of, ..found.body }.write(marker::in_memory(), &mut out);
            (copied, names.at) = (found.to, found.to);
        }
    }
    out.extend_from_slice(&json[copied..]);
    out
}

/// Calls `found` with each personal value of a text in memory.
pub(super) fn each_in_memory<'a>(json: &'a [u8], found: impl FnMut(Body<'a>)) {
    each(json, marker::in_memory(), found);
}

/// Calls `found` with each personal value of a text at rest.
pub(super) fn each_at_rest<'a>(json: &'a [u8], found: impl FnMut(Body<'a>)) {
    each(json, marker::AT_REST, found);
}

fn each<'a>(json: &'a [u8], marker: &str, mut found: impl FnMut(Body<'a>)) {
    let names = Names { json, at: 0 }.filter(|name| name.text == marker.as_bytes());
    names.filter_map(|name| object(json, &name)).for_each(|object| found(object.body));
}

/// Whether a text in memory has a personal value, whole or not.
pub(crate) fn has_any(json: &[u8]) -> bool {
    marker::may_be_in(json) && Names { json, at: 0 }.any(|name| name.text == marker::in_memory().as_bytes())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    fn rest(json: &[u8]) -> Vec<u8> {
        to_rest::<()>(json, |body| Ok(owned(body))).unwrap()
    }

    fn owned(body: Body<'_>) -> Body<'static> {
        let owned = |text: std::borrow::Cow<'_, str>| text.into_owned().into();
        Body {
            of: owned(body.of),
            plain: body.plain.map(owned),
            stored: body.stored,
            sealed: body.sealed.map(owned),
            at: body.at.map(owned),
            forgotten: body.forgotten,
        }
    }

    #[test]
    fn what_a_string_says_is_no_member() {
        let genuine = format!(r#"{{"{}":{{"of":"ada","plain":"1"}}}}"#, marker::in_memory());
        let texts = [
            json!({ "note": genuine, "n": ["$personal", ":"] }).to_string(),
            json!(genuine).to_string(),
            r#"{"a\\":"$personal","b":"\"$personal\":{"}"#.to_owned(),
            r#"["$personal" , 1]"#.to_owned(),
        ];
        for text in texts {
            assert_eq!(rest(text.as_bytes()), text.as_bytes());
            assert_eq!(to_memory(text.as_bytes(), owned), text.as_bytes());
            assert!(!has_any(text.as_bytes()));
        }
    }

    #[test]
    fn what_looks_like_a_personal_value_stays_what_it_is() {
        let forged = r#"{"a":[{"$personal":{"of":"ada","sealed":"AAAA"}},{"$$personal:1" :{}}]}"#;
        let stored = rest(forged.as_bytes());
        let mut found = 0;
        let read = to_memory(&stored, |body| {
            found += 1;
            owned(body)
        });
        assert_eq!((String::from_utf8(read).unwrap().as_str(), found), (forged, 0));
    }

    #[test]
    fn a_personal_value_that_is_not_alone_in_its_object_is_refused() {
        let name = marker::in_memory();
        for wrong in [
            format!(r#"{{"{name}":{{"of":"ada","plain":"1"}},"b":1}}"#),
            format!(r#"{{"b":1,"{name}":{{"of":"ada","plain":"1"}}}}"#),
            format!(r#"{{"{name}":{{"plain":"1"}}}}"#),
            format!(r#"{{"{name}":1}}"#),
        ] {
            let refused = to_rest::<()>(wrong.as_bytes(), |body| Ok(owned(body)));
            assert!(matches!(refused, Err(Refused::NotAlone)), "{wrong}");
            assert!(has_any(wrong.as_bytes()));
        }
        let spread = format!("[ {{\n\"{name}\" : {{\"of\":\"ada\",\"plain\":\"1\"}} }} ]");
        assert!(rest(spread.as_bytes()).starts_with(br#"[ {"$personal":{"of":"ada""#));
    }

    /// JSON with names and texts of the kind that could be mistaken, personal values among them.
    fn tricky() -> impl Strategy<Value = Value> {
        let word = || {
            prop_oneof![
                Just("$personal".to_owned()),
                Just("$$personal".to_owned()),
                Just("$personal:0".to_owned()),
                Just("\"$personal\":{".to_owned()),
                Just("\\".to_owned()),
                "[a-z\"\\\\$:{} \u{e9}]{0,6}",
            ]
        };
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<i64>().prop_map(Value::from),
            word().prop_map(Value::from),
            (word(), word())
                .prop_map(|(of, plain)| json!({ marker::in_memory(): { "of": of, "plain": plain } })),
        ];
        leaf.prop_recursive(4, 32, 4, move |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                proptest::collection::btree_map(word(), inner, 0..4)
                    .prop_map(|members| Value::Object(members.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn whatever_is_stored_is_read_back_as_it_was(value in tricky(), pretty: bool) {
            let text = if pretty { serde_json::to_vec_pretty(&value) } else { serde_json::to_vec(&value) }.unwrap();
            let stored = rest(&text);
            let own = marker::in_memory().as_bytes();
            prop_assert!(Names { json: &stored, at: 0 }.all(|name| name.text != own), "none is left in plain");
            let read = to_memory(&stored, owned);
            prop_assert_eq!(serde_json::from_slice::<Value>(&read).unwrap(), value);
        }

        #[test]
        fn what_is_no_json_is_read_back_byte_by_byte(text in "(\\$personal|[\"\\\\:{} $,a]){0,24}") {
            let stored = rest(text.as_bytes());
            prop_assert_eq!(to_memory(&stored, owned), text.as_bytes());
        }
    }
}
