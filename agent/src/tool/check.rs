//! Whether a value fits a schema, and where it does not.

use std::cmp::Ordering;

use purlin::message::Uuid;
use serde_json::{Number, Value};

use super::failure::shortened;
use super::schema::{Node, Others, Span, Type};

const MAX_PROBLEMS: usize = 10;

/// The first ten places where `value` does not fit, in words that a model can act on.
pub(super) fn problems(schema: &Node, value: &Value) -> Vec<String> {
    let mut found = Problems(Vec::new());
    check(schema, value, "", &mut found);
    found.0
}

struct Problems(Vec<String>);

impl Problems {
    fn full(&self) -> bool {
        self.0.len() >= MAX_PROBLEMS
    }

    fn add(&mut self, path: &str, must: &str) {
        if !self.full() {
            let path = if path.is_empty() { "the arguments" } else { shortened(path, 200) };
            self.0.push(format!("{path} {must}"));
        }
    }
}

fn check(schema: &Node, value: &Value, path: &str, found: &mut Problems) {
    if let Some(types) = &schema.types
        && !types.iter().any(|kind| is(*kind, value))
    {
        let names: Vec<_> = types.iter().map(|kind| kind.name()).collect();
        return found.add(path, &format!("must be of type {}", names.join(" or ")));
    }
    if let Some(allowed) = &schema.one_of
        && !allowed.iter().any(|one| same(one, value))
    {
        let all: Vec<_> = allowed.iter().map(ToString::to_string).collect();
        return found.add(path, &format!("must be one of {}", shortened(&all.join(", "), 1000)));
    }
    match value {
        Value::Object(_) => check_object(schema, value, path, found),
        Value::Array(items) => {
            check_span(&schema.length, items.len() as u64, "items", path, found);
            let Some(schema) = &schema.items else { return };
            for (index, item) in items.iter().enumerate() {
                if found.full() {
                    return;
                }
                check(schema, item, &deeper(path, &index.to_string()), found);
            }
        }
        Value::String(text) => check_text(schema, text, path, found),
        Value::Number(number) => check_number(schema, number, path, found),
        Value::Null | Value::Bool(_) => {}
    }
}

fn check_object(schema: &Node, value: &Value, path: &str, found: &mut Problems) {
    let Value::Object(properties) = value else { return };
    check_span(&schema.count, properties.len() as u64, "properties", path, found);
    for name in schema.required.iter().filter(|name| !properties.contains_key(*name)) {
        found.add(&deeper(path, name), "is required");
    }
    for (name, value) in properties {
        if found.full() {
            return;
        }
        let path = deeper(path, shortened(name, 80));
        match (schema.properties.get(name), &schema.others) {
            (Some(schema), _) => check(schema, value, &path, found),
            (None, Others::Like(schema)) => check(schema, value, &path, found),
            (None, Others::Nothing) => found.add(&path, "is not known here"),
            (None, Others::Anything) => {}
        }
    }
}

fn check_text(schema: &Node, text: &str, path: &str, found: &mut Problems) {
    check_span(&schema.characters, text.chars().count() as u64, "characters", path, found);
    // The hyphenated form only: the parser also takes braces, URNs and plain digits.
    if schema.uuid && (text.len() != 36 || Uuid::parse_str(text).is_err()) {
        found.add(path, "must be a UUID, such as 0190163d-8694-739b-aea5-966c26f8ad91");
    }
}

fn check_number(schema: &Node, number: &Number, path: &str, found: &mut Problems) {
    type Fits = fn(Ordering) -> bool;
    let bounds: [(&Option<Number>, Fits, &str); 4] = [
        (&schema.minimum, Ordering::is_ge, "at least"),
        (&schema.maximum, Ordering::is_le, "at most"),
        (&schema.above, Ordering::is_gt, "more than"),
        (&schema.below, Ordering::is_lt, "less than"),
    ];
    for (bound, fits, words) in bounds {
        if let Some(bound) = bound
            && !fits(compare(number, bound))
        {
            found.add(path, &format!("must be {words} {bound}"));
        }
    }
}

fn check_span(span: &Span, count: u64, of: &str, path: &str, found: &mut Problems) {
    if let Some(min) = span.min.filter(|min| count < *min) {
        found.add(path, &format!("must have at least {min} {of}"));
    }
    if let Some(max) = span.max.filter(|max| count > *max) {
        found.add(path, &format!("must have at most {max} {of}"));
    }
}

fn is(kind: Type, value: &Value) -> bool {
    match (kind, value) {
        (Type::Null, Value::Null)
        | (Type::Boolean, Value::Bool(_))
        | (Type::Number, Value::Number(_))
        | (Type::String, Value::String(_))
        | (Type::Array, Value::Array(_))
        | (Type::Object, Value::Object(_)) => true,
        // 2020-12, 6.1.1: a number without a fraction is an integer, however it is written.
        (Type::Integer, Value::Number(number)) => {
            whole(number).is_some() || number.as_f64().is_some_and(|n| n.fract() == 0.0)
        }
        _ => false,
    }
}

/// Equal as JSON Schema means it: `1` and `1.0` are one number.
fn same(one: &Value, other: &Value) -> bool {
    match (one, other) {
        (Value::Number(one), Value::Number(other)) => compare(one, other).is_eq(),
        (Value::Array(one), Value::Array(other)) => {
            one.len() == other.len() && one.iter().zip(other).all(|(one, other)| same(one, other))
        }
        (Value::Object(one), Value::Object(other)) => {
            one.len() == other.len()
                && one.iter().all(|(name, value)| other.get(name).is_some_and(|other| same(value, other)))
        }
        _ => one == other,
    }
}

fn compare(one: &Number, other: &Number) -> Ordering {
    match (whole(one), whole(other)) {
        (Some(one), Some(other)) => one.cmp(&other),
        _ => one.as_f64().partial_cmp(&other.as_f64()).unwrap_or(Ordering::Equal),
    }
}

fn whole(number: &Number) -> Option<i128> {
    number.as_i64().map(i128::from).or_else(|| number.as_u64().map(i128::from))
}

/// The JSON pointer (RFC 6901) to a part of what `path` points to.
pub(super) fn deeper(path: &str, part: &str) -> String {
    format!("{path}/{}", part.replace('~', "~0").replace('/', "~1"))
}
