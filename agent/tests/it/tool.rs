use purlin_agent::tool::{InvalidTool, Schema, SchemaError, Tool};
use serde_json::{Value, json};

type Never = std::convert::Infallible;

fn tool(name: &str, description: &str, schema: Value) -> Result<Tool<()>, InvalidTool> {
    Tool::new(name, description, schema, async |arguments: Value, _| Ok::<_, Never>(arguments))
}

fn schema(properties: Value) -> Schema {
    Schema::of_arguments(json!({"type": "object", "properties": properties})).unwrap()
}

/// Whether the property `x` with this schema takes a value.
fn takes(of_x: Value, x: Value) -> bool {
    schema(json!({"x": of_x})).problems(&json!({"x": x})).is_empty()
}

#[test]
fn a_tool_has_a_name_that_models_take_and_a_description() {
    for name in ["", "search orders", "suche-aufträge", &"x".repeat(65)] {
        assert!(
            matches!(tool(name, "d", json!({"type": "object"})), Err(InvalidTool::Name { .. })),
            "{name}"
        );
    }
    assert!(matches!(tool("x", "", json!({"type": "object"})), Err(InvalidTool::Description { .. })));
    assert_eq!(
        tool("search_orders-2", "d", json!({"type": "object"})).unwrap().definition().description(),
        "d"
    );
}

#[test]
fn a_keyword_that_is_not_checked_is_refused_with_its_place() {
    for keyword in ["pattern", "$ref", "anyOf", "uniqueItems", "multipleOf", "mimimum", "patternProperties"] {
        let nested =
            json!({"type": "object", "properties": {"a/b": {"type": "array", "items": {keyword: 1}}}});
        let Err(InvalidTool::Schema { source, .. }) = tool("x", "d", nested) else { panic!("{keyword}") };
        let path = "/properties/a~1b/items".to_owned();
        assert_eq!(source, SchemaError::Unsupported { path, keyword: keyword.to_owned() });
    }
}

#[test]
fn a_schema_that_makes_no_sense_is_refused() {
    for nonsense in [
        json!({"type": "objekt"}),
        json!({"type": []}),
        json!({"enum": []}),
        json!({"enum": "a"}),
        json!({"required": "a"}),
        json!({"required": [1]}),
        json!({"properties": []}),
        json!({"properties": {"a": true}}),
        json!({"additionalProperties": "no"}),
        json!({"items": [{}]}),
        json!({"minLength": -1}),
        json!({"maxItems": 1.5}),
        json!({"minimum": "1"}),
        json!({"format": "date"}),
    ] {
        let arguments = json!({"type": "object", "properties": {"x": nonsense}});
        let refused = Schema::of_arguments(arguments);
        assert!(matches!(refused, Err(SchemaError::Malformed { .. })), "{nonsense}: {refused:?}");
    }
    let mut deep = json!({"type": "array"});
    for _ in 0..20 {
        deep = json!({"type": "array", "items": deep});
    }
    let refused = Schema::of_arguments(json!({"type": "object", "properties": {"x": deep}}));
    assert!(matches!(refused, Err(SchemaError::TooDeep { .. })));
}

#[test]
fn arguments_are_always_an_object() {
    for root in [json!({}), json!({"type": "string"}), json!({"type": ["object", "null"]}), json!(true)] {
        assert!(Schema::of_arguments(root.clone()).is_err(), "{root}");
    }
}

#[test]
fn types_are_told_apart() {
    let values = [json!(null), json!(true), json!(1), json!(1.5), json!("1"), json!([1]), json!({"1": 1})];
    for (name, fits) in [
        ("null", vec![0]),
        ("boolean", vec![1]),
        ("integer", vec![2]),
        ("number", vec![2, 3]),
        ("string", vec![4]),
        ("array", vec![5]),
        ("object", vec![6]),
    ] {
        for (index, value) in values.iter().enumerate() {
            assert_eq!(takes(json!({"type": name}), value.clone()), fits.contains(&index), "{name} {value}");
        }
    }
    assert!(takes(json!({"type": ["string", "null"]}), json!(null)));
    assert!(!takes(json!({"type": ["string", "null"]}), json!(1)));
    assert!(takes(json!({"type": "integer"}), json!(2.0)));
}

#[test]
fn each_bound_holds_at_its_edge() {
    for (bound, inside, outside) in [
        (json!({"minimum": 1}), json!(1), json!(0)),
        (json!({"maximum": 10}), json!(10), json!(10.01)),
        (json!({"exclusiveMinimum": 1}), json!(1.5), json!(1)),
        (json!({"exclusiveMaximum": 2}), json!(-9), json!(2)),
        (json!({"maximum": u64::MAX}), json!(u64::MAX), json!(2e19)),
        (json!({"minLength": 2}), json!("äö"), json!("ä")),
        (json!({"maxLength": 2}), json!("äö"), json!("abc")),
        (json!({"minItems": 1}), json!([1]), json!([])),
        (json!({"maxItems": 1}), json!([1]), json!([1, 2])),
        (json!({"minProperties": 1}), json!({"a": 1}), json!({})),
        (json!({"maxProperties": 1}), json!({"a": 1}), json!({"a": 1, "b": 2})),
        (json!({"items": {"type": "string"}}), json!(["a"]), json!(["a", 1])),
        (json!({"enum": ["a", 1]}), json!(1.0), json!("b")),
        (json!({"const": {"a": [1]}}), json!({"a": [1.0]}), json!({"a": [2]})),
        (json!({"required": ["a"]}), json!({"a": null}), json!({"b": 1})),
        (json!({"additionalProperties": {"type": "integer"}}), json!({"a": 1}), json!({"a": "b"})),
        (json!({"additionalProperties": false, "properties": {"a": {}}}), json!({"a": 1}), json!({"b": 1})),
        (
            json!({"format": "uuid"}),
            json!("0190163d-8694-739b-aea5-966c26f8ad91"),
            json!("{0190163d-8694-739b-aea5-966c26f8ad91}"),
        ),
    ] {
        assert!(takes(bound.clone(), inside.clone()), "{bound} {inside}");
        assert!(!takes(bound.clone(), outside.clone()), "{bound} {outside}");
    }
}

#[test]
fn problems_say_where_and_what_must_be_there() {
    let schema = Schema::of_arguments(json!({
        "type": "object",
        "required": ["customerId"],
        "additionalProperties": false,
        "properties": {
            "customerId": {"type": "string"},
            "status": {"type": "string", "enum": ["draft", "shipped"]},
            "items": {"type": "array", "items": {"type": "object", "properties": {"quantity": {"minimum": 1}}}},
        },
    }))
    .unwrap();
    let problems =
        schema.problems(&json!({"status": "lost", "items": [{"quantity": 2}, {"quantity": 0}], "a/b": 1}));
    assert_eq!(
        problems,
        [
            "/customerId is required",
            "/a~1b is not known here",
            "/items/1/quantity must be at least 1",
            "/status must be one of \"draft\", \"shipped\"",
        ],
    );
    assert_eq!(schema.problems(&json!("text")), ["the arguments must be of type object"]);
}

#[test]
fn at_most_ten_problems_are_told() {
    let schema = schema(json!({"x": {"items": {"type": "string"}}}));
    assert_eq!(schema.problems(&json!({"x": vec![1; 100_000]})).len(), 10);
}
