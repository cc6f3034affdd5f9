//! The part of JSON Schema (2020-12) that describes a tool's arguments, made ready to check them.
//!
//! An own one, since a complete validator costs about 40 s of a cold build on two cores and 35 packages, and since
//! what models and their vendors take is a small part of it anyway. What is not in that part is refused: a keyword
//! that is not checked would be a promise that is not kept.

use std::collections::BTreeMap;

use serde_json::{Map, Number, Value};

use super::check;

const MAX_DEPTH: usize = 16;

/// A schema, as it was written and ready to check with.
#[derive(Debug, Clone, PartialEq)]
pub struct Schema {
    json: Value,
    root: Node,
}

impl Schema {
    /// The schema of a tool's arguments, which are always an object.
    ///
    /// Checked are `type`, `enum`, `const`, `properties`, `required`, `additionalProperties`, `minProperties`,
    /// `maxProperties`, `items`, `minItems`, `maxItems`, `minimum`, `maximum`, `exclusiveMinimum`,
    /// `exclusiveMaximum`, `minLength`, `maxLength`, and `format` when it is `uuid`. Words for the reader
    /// (`title`, `description`, `default`, `examples`, `deprecated`, `$comment`, `$schema`) are passed on.
    pub fn of_arguments(json: Value) -> Result<Self, SchemaError> {
        let root = node(&json, Place { path: "", depth: 0 })?;
        match root.types.as_deref() {
            Some([Type::Object]) => Ok(Self { json, root }),
            _ => Err(malformed("", "type", "\"object\" at the root, since arguments have names")),
        }
    }

    /// The schema as it was written.
    pub fn json(&self) -> &Value {
        &self.json
    }

    /// Where `value` does not fit (a JSON pointer and what must be there), the first ten places at most.
    pub fn problems(&self, value: &Value) -> Vec<String> {
        check::problems(&self.root, value)
    }
}

/// A schema that a tool cannot have.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SchemaError {
    /// The keyword is not checked here, so it would be a promise that is not kept.
    #[error("keyword `{keyword}` at `{path}` is not supported")]
    Unsupported {
        /// Where the schema with the keyword stands: a JSON pointer.
        path: String,
        /// The keyword.
        keyword: String,
    },
    /// The keyword's value is not what JSON Schema asks for.
    #[error("`{keyword}` at `{path}` must be {expected}")]
    Malformed {
        /// Where the schema with the keyword stands: a JSON pointer.
        path: String,
        /// The keyword.
        keyword: String,
        /// What was expected.
        expected: &'static str,
    },
    /// Schemas in schemas in schemas.
    #[error("the schema is nested too deeply at `{path}`")]
    TooDeep {
        /// Where: a JSON pointer.
        path: String,
    },
}

/// One schema, its keywords read.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Node {
    pub(super) types: Option<Vec<Type>>,
    pub(super) one_of: Option<Vec<Value>>,
    pub(super) properties: BTreeMap<String, Node>,
    pub(super) required: Vec<String>,
    pub(super) others: Others,
    pub(super) count: Span,
    pub(super) items: Option<Box<Node>>,
    pub(super) length: Span,
    pub(super) characters: Span,
    pub(super) minimum: Option<Number>,
    pub(super) maximum: Option<Number>,
    pub(super) above: Option<Number>,
    pub(super) below: Option<Number>,
    pub(super) uuid: bool,
}

/// What properties that have no schema of their own may be.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) enum Others {
    #[default]
    Anything,
    Nothing,
    Like(Box<Node>),
}

/// A least and a greatest number of things.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Span {
    pub(super) min: Option<u64>,
    pub(super) max: Option<u64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Type {
    Null,
    Boolean,
    Integer,
    Number,
    String,
    Array,
    Object,
}

impl Type {
    const ALL: [(&'static str, Self); 7] = [
        ("null", Self::Null),
        ("boolean", Self::Boolean),
        ("integer", Self::Integer),
        ("number", Self::Number),
        ("string", Self::String),
        ("array", Self::Array),
        ("object", Self::Object),
    ];

    pub(super) fn name(self) -> &'static str {
        Self::ALL.iter().find(|(_, kind)| *kind == self).map_or("", |(name, _)| name)
    }

    fn named(name: &Value) -> Option<Self> {
        Self::ALL.iter().find(|(known, _)| name == known).map(|(_, kind)| *kind)
    }
}

/// Where a schema stands in the whole.
#[derive(Clone, Copy)]
struct Place<'a> {
    path: &'a str,
    depth: usize,
}

impl Place<'_> {
    /// Reads the schema that stands below, under a keyword or a property's name.
    fn below(self, part: &str, schema: &Value) -> Result<Node, SchemaError> {
        node(schema, Place { path: &check::deeper(self.path, part), depth: self.depth + 1 })
    }

    fn properties(self, schemas: &Map<String, Value>) -> Result<BTreeMap<String, Node>, SchemaError> {
        let path = format!("{}/properties", self.path);
        let place = Place { path: &path, ..self };
        schemas.iter().map(|(name, schema)| Ok((name.clone(), place.below(name, schema)?))).collect()
    }
}

fn node(json: &Value, place: Place<'_>) -> Result<Node, SchemaError> {
    let Value::Object(keywords) = json else {
        return Err(malformed(place.path, "schema", "an object of keywords"));
    };
    if place.depth > MAX_DEPTH {
        return Err(SchemaError::TooDeep { path: place.path.to_owned() });
    }
    let mut node = Node::default();
    for (keyword, value) in keywords {
        read(&mut node, keyword, value, place)?;
    }
    Ok(node)
}

fn read(node: &mut Node, keyword: &str, value: &Value, place: Place<'_>) -> Result<(), SchemaError> {
    let wrong = |expected| malformed(place.path, keyword, expected);
    let number = || value.as_number().cloned().ok_or_else(|| wrong("a number"));
    let size = || value.as_u64().ok_or_else(|| wrong("an integer of at least 0"));
    match keyword {
        "type" => {
            let known = types(value).ok_or_else(|| wrong("the name of a type, or a list of such"))?;
            node.types = Some(known);
        }
        "enum" => node.one_of = Some(nonempty(value).ok_or_else(|| wrong("a list that is not empty"))?),
        "const" => node.one_of = Some(vec![value.clone()]),
        "properties" => {
            let schemas = value.as_object().ok_or_else(|| wrong("an object of schemas"))?;
            node.properties = place.properties(schemas)?;
        }
        "required" => node.required = names(value).ok_or_else(|| wrong("a list of names"))?,
        "additionalProperties" => {
            node.others = match value {
                Value::Bool(true) => Others::Anything,
                Value::Bool(false) => Others::Nothing,
                schema => Others::Like(Box::new(place.below(keyword, schema)?)),
            }
        }
        "items" => node.items = Some(Box::new(place.below(keyword, value)?)),
        "minProperties" => node.count.min = Some(size()?),
        "maxProperties" => node.count.max = Some(size()?),
        "minItems" => node.length.min = Some(size()?),
        "maxItems" => node.length.max = Some(size()?),
        "minLength" => node.characters.min = Some(size()?),
        "maxLength" => node.characters.max = Some(size()?),
        "minimum" => node.minimum = Some(number()?),
        "maximum" => node.maximum = Some(number()?),
        "exclusiveMinimum" => node.above = Some(number()?),
        "exclusiveMaximum" => node.below = Some(number()?),
        "format" if value == "uuid" => node.uuid = true,
        "format" => return Err(wrong("\"uuid\", the one format that is checked")),
        "title" | "description" | "default" | "examples" | "deprecated" | "$comment" | "$schema" => {}
        _ => {
            return Err(SchemaError::Unsupported {
                path: place.path.to_owned(),
                keyword: keyword.to_owned(),
            });
        }
    }
    Ok(())
}

fn types(value: &Value) -> Option<Vec<Type>> {
    match value {
        Value::Array(names) if !names.is_empty() => names.iter().map(Type::named).collect(),
        name => Some(vec![Type::named(name)?]),
    }
}

fn nonempty(value: &Value) -> Option<Vec<Value>> {
    value.as_array().filter(|values| !values.is_empty()).cloned()
}

fn names(value: &Value) -> Option<Vec<String>> {
    value.as_array()?.iter().map(|name| name.as_str().map(str::to_owned)).collect()
}

fn malformed(path: &str, keyword: &str, expected: &'static str) -> SchemaError {
    SchemaError::Malformed { path: path.to_owned(), keyword: keyword.to_owned(), expected }
}
