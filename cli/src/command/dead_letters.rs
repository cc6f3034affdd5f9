//! `purlin dead-letters`.

use serde_json::Value;

use super::{Outcome, act, find, list};
use crate::arguments::DeadLetters;
use crate::failure::Failure;
use crate::operator::Operator;
use crate::table::Column;

const SUBJECT: &str = "dead-letters";

const COLUMNS: &[Column] = &[
    ("SERVICE", &["/service"]),
    ("ID", &["/id"]),
    ("STATE", &["/state"]),
    ("SUBJECT", &["/subject"]),
    ("KEY", &["/key"]),
    ("ATTEMPTS", &["/attempts"]),
    ("PARKED", &["/parked_at"]),
    ("REASON", &["/reason"]),
];

pub(super) async fn run(operator: &Operator, command: &DeadLetters) -> Result<Outcome, Failure> {
    match command {
        DeadLetters::List { page, group } => {
            let filter: Vec<(&str, &str)> = group.iter().map(|group| ("group", group.as_str())).collect();
            let (items, more) = list(operator, SUBJECT, &filter, page, None).await?;
            Ok(Outcome::List { columns: COLUMNS, items, none: "no message is parked", more })
        }
        DeadLetters::Show(one) => {
            let (_, details) = find(operator, SUBJECT, one).await?;
            Ok(Outcome::One { value: flat(details), part: None })
        }
        DeadLetters::Replay(one) => {
            let (service, answer) = act(operator, SUBJECT, one, "replay").await?;
            let said =
                format!("the messages of the key of `{}` are tried again by {service}, in order", one.id);
            Ok(Outcome::Done { said, answer })
        }
        DeadLetters::Drop(one) => {
            let (service, answer) = act(operator, SUBJECT, one, "drop").await?;
            Ok(Outcome::Done { said: format!("`{}` of {service} is given up", one.id), answer })
        }
    }
}

/// What a list says of the message stands beside the rest.
fn flat(mut details: Value) -> Value {
    if let Some(members) = details.as_object_mut()
        && let Some(Value::Object(letter)) = members.remove("letter")
    {
        members.extend(letter);
    }
    details
}
