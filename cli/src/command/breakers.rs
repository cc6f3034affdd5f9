//! `purlin breakers`.

use serde_json::{Value, json};

use super::{Outcome, encoded, of_a_process};
use crate::arguments::{Breakers, Held};
use crate::failure::Failure;
use crate::operator::Operator;
use crate::table::Column;

const COLUMNS: &[Column] = &[
    ("CALLEE", &["/name"]),
    ("STATE", &["/state"]),
    ("HELD", &["/forced"]),
    ("BY", &["/forced_by"]),
    ("WHY", &["/forced_why"]),
    ("FAILURES", &["/failures"]),
    ("OPENED", &["/opened"]),
    ("REJECTED", &["/rejected"]),
    ("PROBES IN MS", &["/retry_after_ms"]),
];

pub(super) async fn run(operator: &Operator, command: &Breakers) -> Result<Outcome, Failure> {
    of_a_process(operator)?;
    let (Held { name, reason }, verb, said) = match command {
        Breakers::List => {
            let answer = operator.get("/breakers").await?;
            let items = answer.get("items").and_then(Value::as_array).cloned().unwrap_or_default();
            let none = "there is no breaker: nobody was called yet";
            return Ok(Outcome::List { columns: COLUMNS, items, none, more: false });
        }
        Breakers::Open(held) => (held, "open", "is held open: calls are refused until it is reset"),
        Breakers::Close(held) => (held, "close", "is held closed: calls go through until it is reset"),
        Breakers::Reset(held) => (held, "reset", "decides again, beginning closed"),
    };
    let body = reason.as_ref().map(|reason| json!({ "reason": reason }));
    let answer = operator.post_with(&format!("/breakers/{}/{verb}", encoded(name)), body.as_ref()).await?;
    Ok(Outcome::Done { said: format!("the breaker `{name}` {said}"), answer })
}
