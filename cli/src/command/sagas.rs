//! `purlin sagas`.

use super::{Outcome, act, find, list};
use crate::arguments::Sagas;
use crate::failure::Failure;
use crate::operator::Operator;
use crate::table::Column;

const SUBJECT: &str = "sagas";

const COLUMNS: &[Column] = &[
    ("SERVICE", &["/service"]),
    ("ID", &["/id"]),
    ("KIND", &["/kind"]),
    ("STATE", &["/state"]),
    ("STARTED", &["/started_at"]),
    ("DEADLINE", &["/deadline"]),
    (
        "REASON",
        &[
            "/reason",
            "/error/step/cause/message",
            "/error/cancelled/reason",
            "/error/gave-up/message",
            "/error",
        ],
    ),
];

const STEPS: &[Column] = &[
    ("STEP", &["/name"]),
    ("STATE", &["/state"]),
    ("ATTEMPTS", &["/attempts"]),
    ("STARTED", &["/started_at"]),
    ("ENDED", &["/ended_at"]),
    ("UNDONE", &["/compensation/state"]),
    ("ERROR", &["/compensation/error/message", "/error/message"]),
];

pub(super) async fn run(operator: &Operator, command: &Sagas) -> Result<Outcome, Failure> {
    match command {
        Sagas::List { page, state, kind } => {
            let state = state.iter().map(|state| ("state", state.as_str()));
            let kind = kind.iter().map(|kind| ("kind", kind.as_str()));
            let filter: Vec<(&str, &str)> = state.chain(kind).collect();
            let (items, more) = list(operator, SUBJECT, &filter, page, None).await?;
            Ok(Outcome::List { columns: COLUMNS, items, none: "there is no such saga", more })
        }
        Sagas::Show(one) => {
            let (_, saga) = find(operator, SUBJECT, one).await?;
            Ok(Outcome::One { value: saga, part: Some(("steps", STEPS)) })
        }
        Sagas::Retry(one) => {
            let (service, answer) = act(operator, SUBJECT, one, "retry").await?;
            Ok(Outcome::Done { said: format!("`{}` of {service} tries again", one.id), answer })
        }
    }
}
