//! The commands, one subject a file.

mod accept;
mod archive;
mod audit;
mod breakers;
mod calls;
mod dead_letters;
mod doctor;
mod projections;
mod sagas;
mod store;
mod streams;

use std::io::{ErrorKind, Write as _};
use std::process::ExitCode;

use serde_json::{Value, json};

use crate::arguments::{Arguments, One, Paging, Streams, Subject};
use crate::failure::Failure;
use crate::operator::Operator;
use crate::place::Place;
use crate::table::{self, Column};

/// Does what the arguments ask for.
pub(crate) async fn run(arguments: &Arguments) -> Result<ExitCode, Failure> {
    let place = match &arguments.store {
        Some(url) => Place::parse(url)?,
        None => Place::Folder(arguments.data.clone()),
    };
    let place = match &arguments.archive {
        Some(archive) => place.with_archive(archive)?,
        None => place,
    };
    let done = match &arguments.subject {
        Subject::Store(command) => store::run(place, command).await?,
        Subject::Streams(Streams::Audit(wanted)) => audit::run(place, wanted).await?,
        Subject::Doctor(command) => {
            let examined = doctor::run(&place, command).await;
            print(&examined.shown(arguments.json))?;
            return Ok(examined.status());
        }
        subject => {
            let operator = Operator::reach(&place).await?;
            let done = ask(&operator, subject, arguments.json).await;
            operator.close().await;
            done?
        }
    };
    print(&done.shown(arguments.json))?;
    Ok(done.status())
}

async fn ask(operator: &Operator, subject: &Subject, json: bool) -> Result<Outcome, Failure> {
    match subject {
        Subject::DeadLetters(command) => dead_letters::run(operator, command).await,
        Subject::Sagas(command) => sagas::run(operator, command).await,
        Subject::Projections(command) => projections::run(operator, command, json).await,
        Subject::Streams(command) => streams::run(operator, command, json).await,
        Subject::Breakers(command) => breakers::run(operator, command).await,
        Subject::Calls(command) => calls::run(operator, command).await,
        Subject::Store(_) | Subject::Doctor(_) => Ok(Outcome::Said),
    }
}

/// Prints; false when nobody reads any more. Whoever closes the pipe early (`| head`) has read what he wanted.
fn print(text: &str) -> Result<bool, Failure> {
    let mut out = std::io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(false),
        Err(error) => Err(Failure::Refused(format!("nothing can be printed: {error}"))),
    }
}

/// What a command found or did.
enum Outcome {
    /// Some things, for a table.
    List {
        /// What is shown of each.
        columns: &'static [Column],
        /// The things.
        items: Vec<Value>,
        /// What to say when there is none.
        none: &'static str,
        /// Whether there are more than were asked for.
        more: bool,
    },
    /// One thing.
    One {
        /// The thing.
        value: Value,
        /// A member of it that is a table of its own.
        part: Option<(&'static str, &'static [Column])>,
    },
    /// What it said on the way is all.
    Said,
    /// Something that is told in its own way.
    Told {
        /// For a person.
        said: String,
        /// As JSON.
        answer: Value,
    },
    /// Something was held against what it ought to be.
    Judged {
        /// What was found.
        said: String,
        /// The answer.
        answer: Value,
        /// Whether nothing is wrong.
        is_sound: bool,
    },
    /// It is done.
    Done {
        /// What was done.
        said: String,
        /// The answer.
        answer: Value,
    },
}

impl Outcome {
    fn status(&self) -> ExitCode {
        match self {
            Self::Judged { is_sound: false, .. } => ExitCode::FAILURE,
            _ => ExitCode::SUCCESS,
        }
    }

    fn shown(&self, json: bool) -> String {
        match self {
            Self::List { items, more, .. } if json => {
                table::pretty(&json!({ "items": items, "more": more })) + "\n"
            }
            Self::Said => String::new(),
            Self::One { value, .. }
            | Self::Told { answer: value, .. }
            | Self::Judged { answer: value, .. }
            | Self::Done { answer: value, .. }
                if json =>
            {
                table::pretty(value) + "\n"
            }
            Self::Told { said, .. } => said.clone(),
            Self::List { items, none, .. } if items.is_empty() => format!("{none}\n"),
            Self::List { columns, items, more, .. } => {
                let more = if *more { "there are more: ask with a larger --limit\n" } else { "" };
                table::table(columns, items) + more
            }
            Self::One { value, part } => with_part(value, *part),
            Self::Done { said, .. } | Self::Judged { said, .. } => format!("{said}\n"),
        }
    }
}

/// A thing as lines, with the part that is a table behind them.
fn with_part(value: &Value, part: Option<(&str, &[Column])>) -> String {
    let mut value = value.clone();
    let removed = part.and_then(|(name, columns)| Some((value.as_object_mut()?.remove(name)?, columns)));
    let lines = table::lines(&value);
    match removed {
        Some((Value::Array(items), columns)) if !items.is_empty() => {
            format!("{lines}\n{}", table::table(columns, &items))
        }
        _ => lines,
    }
}

/// The services that are asked: the named one, or all.
async fn services(operator: &Operator, named: Option<&str>) -> Result<Vec<String>, Failure> {
    let answer = operator.get("/").await?;
    let known = answer.get("services").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let known: Vec<String> = known.iter().filter_map(|name| name.as_str().map(str::to_owned)).collect();
    match named {
        None => Ok(known),
        Some(name) if known.iter().any(|known| known == name) => Ok(vec![name.to_owned()]),
        Some(name) => {
            Err(Failure::NoSuchThing(format!("there is no service `{name}` here, but: {}", known.join(", "))))
        }
    }
}

/// A list of all services that are asked, page by page, each from a cursor on; each item gets a member `service`.
async fn list(
    operator: &Operator,
    subject: &str,
    filter: &[(&str, &str)],
    page: &Paging,
    from: Option<&str>,
) -> Result<(Vec<Value>, bool), Failure> {
    let limit = page.limit as usize;
    let mut items: Vec<Value> = Vec::new();
    for service in services(operator, page.service.as_deref()).await? {
        let mut cursor: Option<String> = from.map(str::to_owned);
        loop {
            // One more than is wanted tells whether there are more.
            let wanted = (limit + 1 - items.len()).min(100).to_string();
            let mut query = vec![("limit", wanted.as_str())];
            query.extend_from_slice(filter);
            query.extend(cursor.as_deref().map(|cursor| ("cursor", cursor)));
            let mut answer =
                operator.get(&format!("/{}/{subject}?{}", encoded(&service), encoded_query(&query))).await?;
            let found = answer.get_mut("items").and_then(Value::as_array_mut).map(std::mem::take);
            let found = found.ok_or_else(|| Failure::NoAnswer("a list has no `items`".into()))?;
            items.extend(found.into_iter().map(|item| of_service(&service, item)));
            if items.len() > limit {
                items.truncate(limit);
                return Ok((items, true));
            }
            cursor = answer.get("next").and_then(Value::as_str).map(str::to_owned);
            if cursor.is_none() {
                break;
            }
        }
    }
    Ok((items, false))
}

/// The thing of an id, with the service that has it.
async fn find(operator: &Operator, subject: &str, one: &One) -> Result<(String, Value), Failure> {
    let mut found = Vec::new();
    for service in services(operator, one.service.as_deref()).await? {
        match operator.get(&path(&service, subject, &one.id)).await {
            Ok(value) => found.push((service.clone(), of_service(&service, value))),
            Err(Failure::NoSuchThing(_)) => {}
            Err(failure) => return Err(failure),
        }
    }
    if found.len() > 1 {
        let services = found.into_iter().map(|(service, _)| service).collect();
        return Err(Failure::Ambiguous { id: one.id.clone(), services });
    }
    let missing = || Failure::NoSuchThing(format!("no service has `{}` among its {subject}", one.id));
    found.pop().ok_or_else(missing)
}

/// Finds a thing, and has something done with it.
async fn act(operator: &Operator, subject: &str, one: &One, verb: &str) -> Result<(String, Value), Failure> {
    let (service, _) = find(operator, subject, one).await?;
    let answer = operator.post(&format!("{}/{verb}", path(&service, subject, &one.id))).await?;
    Ok((service, answer))
}

/// Refuses what only a running process can answer.
fn of_a_process(operator: &Operator) -> Result<(), Failure> {
    let none = match operator {
        Operator::Process(_) => return Ok(()),
        Operator::Stores(_) if operator.alone() => {
            "no process runs on this data: how it calls others is known when it does"
        }
        Operator::Stores(_) => {
            "how a process calls others it says in its data folder: name that, with --data"
        }
    };
    Err(Failure::Refused(none.to_owned()))
}

fn path(service: &str, subject: &str, id: &str) -> String {
    format!("/{}/{subject}/{}", encoded(service), encoded(id))
}

fn of_service(service: &str, mut value: Value) -> Value {
    if let Some(members) = value.as_object_mut() {
        members.insert("service".into(), service.into());
    }
    value
}

fn encoded_query(query: &[(&str, &str)]) -> String {
    query.iter().map(|(name, value)| format!("{name}={}", encoded(value))).collect::<Vec<_>>().join("&")
}

/// Percent-encodes all but what never needs it (RFC 3986, section 2.3).
fn encoded(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                encoded.push(char::from(byte));
            }
            _ => encoded += &format!("%{byte:02X}"),
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_cannot_leave_its_place_in_the_path() {
        assert_eq!(path("orders", "sagas", "../a b?c"), "/orders/sagas/..%2Fa%20b%3Fc");
    }

    #[test]
    fn an_empty_list_says_so_and_as_json_is_empty() {
        let empty = Outcome::List { columns: &[("ID", &["/id"])], items: vec![], none: "none", more: false };
        assert_eq!(empty.shown(false), "none\n");
        assert_eq!(empty.shown(true), "{\n  \"items\": [],\n  \"more\": false\n}\n");
    }
}
