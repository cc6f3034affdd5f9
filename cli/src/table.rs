//! JSON as a person reads it: objects of one shape as a table, one object as lines.

use serde_json::Value;

/// The longest text in a cell; what is longer is cut, and `show` has all of it.
const WIDEST: usize = 60;

/// A column: its heading, and the members it shows (the first that is there) as JSON pointers.
pub(crate) type Column = (&'static str, &'static [&'static str]);

/// The items in columns. The last column is not cut, so that a reason can be read.
pub(crate) fn table(columns: &[Column], items: &[Value]) -> String {
    let heading = columns.iter().map(|(heading, _)| (*heading).to_owned()).collect();
    let mut rows: Vec<Vec<String>> = vec![heading];
    for item in items {
        let last = columns.len() - 1;
        let cells = columns.iter().enumerate().map(|(index, (_, members))| {
            let text =
                members.iter().find_map(|member| text(item.pointer(member)?)).unwrap_or_else(|| "-".into());
            if index == last { text } else { cut(text) }
        });
        rows.push(cells.collect());
    }
    let widths: Vec<usize> = (0..columns.len())
        .map(|column| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0))
        .collect();
    let mut table = String::new();
    for row in &rows {
        let cells: Vec<String> =
            row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        table += cells.join("  ").trim_end();
        table.push('\n');
    }
    table
}

/// An object as lines of `name  value`; what is itself structured follows indented.
pub(crate) fn lines(object: &Value) -> String {
    let Some(members) = object.as_object() else { return pretty(object) };
    let simple = |value: &Value| !value.is_object() && !value.is_array();
    let width = members.iter().filter(|(_, value)| simple(value)).map(|(name, _)| name.chars().count()).max();
    let width = width.unwrap_or(0);
    let mut lines = String::new();
    for (name, value) in members.iter().filter(|(_, value)| simple(value)) {
        lines += &format!("{name:<width$}  {}\n", text(value).unwrap_or_else(|| "-".into()));
    }
    for (name, value) in members.iter().filter(|(_, value)| !simple(value)) {
        lines += &format!("\n{name}\n");
        pretty(value).lines().for_each(|line| lines += &format!("  {line}\n"));
    }
    lines
}

/// JSON over several lines.
pub(crate) fn pretty(value: &Value) -> String {
    serde_json::to_string_pretty(value).unwrap_or_else(|_| value.to_string())
}

/// A value in a cell, without control characters: what an event or an error says must not command the terminal.
pub(crate) fn text(value: &Value) -> Option<String> {
    let text = match value {
        Value::Null => return None,
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    Some(text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect())
}

fn cut(text: String) -> String {
    if text.chars().count() <= WIDEST {
        return text;
    }
    text.chars().take(WIDEST - 3).chain("...".chars()).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const COLUMNS: &[Column] = &[("ID", &["/id"]), ("REASON", &["/reason", "/error/message"])];

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let items = [
            json!({"id": "a", "reason": "short"}),
            json!({"id": "longer", "error": {"message": "other"}}),
            json!({}),
        ];
        assert_eq!(table(COLUMNS, &items), "ID      REASON\na       short\nlonger  other\n-       -\n");
    }

    #[test]
    fn what_is_stored_cannot_command_the_terminal() {
        let items = [json!({"id": "\u{1b}[2J", "reason": "two\nlines"})];
        let table = table(COLUMNS, &items);
        assert!(!table.contains('\u{1b}') && table.lines().count() == 2, "{table:?}");
    }

    #[test]
    fn a_long_cell_is_cut_unless_it_is_the_last() {
        let long = "x".repeat(200);
        let table = table(COLUMNS, &[json!({"id": long, "reason": long})]);
        let line = table.lines().nth(1).expect("a row");
        assert_eq!(line.chars().count(), WIDEST + 2 + 200);
    }

    #[test]
    fn an_object_is_shown_with_what_is_nested_below() {
        let shown = lines(&json!({"id": "a", "data": {"b": 1}, "error": null}));
        assert_eq!(shown, "error  -\nid     a\n\ndata\n  {\n    \"b\": 1\n  }\n");
    }
}
