//! What the services answer: whether they are whole, who follows them and how far behind, what waits for somebody.

use serde_json::Value;

use super::finding::Finding;
use super::{personal, views};
use crate::arguments::Paging;
use crate::command::{encoded, list, services};
use crate::failure::Failure;
use crate::operator::Operator;

/// Who is further behind than this is slow, or does not run.
pub(super) const FAR: u64 = 10_000;

/// So many are counted.
pub(super) const MOST: u32 = 1000;

pub(super) async fn examine(operator: &Operator, found: &mut Vec<Finding>) {
    let names = match services(operator, None).await {
        Ok(names) => names,
        Err(failure) => return found.push(silent("services", &failure)),
    };
    for name in &names {
        match operator.get(&format!("/{}/store", encoded(name))).await {
            Ok(store) if store["half_imported"] == true => {
                let advice = "import the same export again, to its end; or remove the store";
                found.push(Finding::fail(format!("{name}: import"), "the store is half imported", advice));
            }
            Ok(store) => {
                let head = &store["head"];
                found.push(Finding::ok(format!("{name}: answers"), format!("its log is at {head}")));
            }
            Err(failure) => found.push(silent(name, &failure)),
        }
        waiting(operator, name, found).await;
        views::examine(operator, name, found).await;
        personal::examine(operator, name, found).await;
    }
    followers(operator, found).await;
}

pub(super) fn silent(about: &str, failure: &Failure) -> Finding {
    Finding::fail(format!("{about}: answers"), failure.told(), "look into the log of the process")
}

/// What waits for somebody.
async fn waiting(operator: &Operator, name: &str, found: &mut Vec<Finding>) {
    let page = || Paging { service: Some(name.to_owned()), limit: MOST };
    let count = async |subject: &str, filter: &[(&str, &str)]| {
        list(operator, subject, filter, &page(), None).await.map(|(items, more)| {
            let more = if more { "more than " } else { "" };
            (!items.is_empty()).then(|| format!("{more}{}", items.len()))
        })
    };
    let asked = [
        ("dead letters", count("dead-letters", &[]).await, "dead-letters list"),
        ("stuck sagas", count("sagas", &[("state", "stuck")]).await, "sagas list --state stuck"),
        ("blocked sagas", count("sagas", &[("state", "blocked")]).await, "sagas list --state blocked"),
    ];
    for (what, counted, look) in asked {
        let about = format!("{name}: {what}");
        match counted {
            Ok(None) => {}
            Ok(Some(count)) => {
                found.push(Finding::warn(about, count, format!("purlin {look} --service {name}")));
            }
            Err(failure) => found.push(silent(&about, &failure)),
        }
    }
}

async fn followers(operator: &Operator, found: &mut Vec<Finding>) {
    let answer = match operator.get("/followers").await {
        Ok(answer) => answer,
        Err(failure) => return found.push(silent("followers", &failure)),
    };
    for one in answer["items"].as_array().map(Vec::as_slice).unwrap_or_default() {
        let text = |name: &str| one.get(name).and_then(Value::as_str).unwrap_or("?");
        let about = format!("{}: {} {}", text("service"), text("kind"), text("name"));
        let lag = one.get("lag").and_then(Value::as_u64);
        let other = one["other_log"] == true;
        found.push(match (one["refuses"] == true, lag) {
            (true, _) if other => Finding::fail(
                about,
                format!(
                    "it has copied another log of {}, which is not here: its store was lost",
                    text("log")
                ),
                "say from where it goes on with the log that is here: `purlin store accept`",
            ),
            (true, _) => Finding::fail(
                about,
                format!("it knows more of the log of {} than there is: it was restored", text("log")),
                "compare what was published with what the restored log says, then say from where it goes on: \
                 `purlin store accept`",
            ),
            (false, None) => {
                Finding::ok(about, format!("it is at {} of a log that is not here", one["position"]))
            }
            (false, Some(lag)) => {
                let said = format!("{lag} behind the head of {}", text("follows"));
                match lag > FAR {
                    true => Finding::warn(about, said, "see whether it runs, and what its process logs"),
                    false => Finding::ok(about, said),
                }
            }
        });
    }
}
