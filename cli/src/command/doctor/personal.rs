//! What the keys of personal data are wrapped in.

use serde_json::Value;

use super::finding::Finding;
use super::services::silent;
use crate::command::encoded;
use crate::failure::Failure;
use crate::operator::Operator;

pub(super) async fn examine(operator: &Operator, name: &str, found: &mut Vec<Finding>) {
    let about = format!("{name}: personal keys");
    match operator.get(&format!("/{}/personal", encoded(name))).await {
        Ok(keys) => found.extend(said(&about, &keys)),
        // An older process does not know the question.
        Err(Failure::NoSuchThing(_)) => {}
        Err(failure) => found.push(silent(&about, &failure)),
    }
}

/// What is said of the keys of a store, unless it has none.
fn said(about: &str, keys: &Value) -> Option<Finding> {
    let count = |name: &str| keys[name].as_u64().unwrap_or(0);
    let (plain, damaged, master) = (count("plain"), count("damaged"), keys["master"].as_str());
    let none = serde_json::Map::new();
    let wrapped = keys["wrapped"].as_object().unwrap_or(&none);
    if plain + damaged + count("forgotten") == 0 && wrapped.is_empty() && master.is_none() {
        return None;
    }
    let mut parts = Vec::new();
    if let Some(master) = master {
        let own = wrapped.get(master).and_then(Value::as_u64).unwrap_or(0);
        parts.push(format!("{own} under the master key `{master}`, as the store makes them"));
    }
    match (plain, master) {
        (0, _) => {}
        (_, Some(_)) => parts.push(format!("{plain} without one, of the time before")),
        (_, None) => parts.push(format!("{plain} without a master key")),
    }
    let strays = || wrapped.iter().filter(|(name, _)| Some(name.as_str()) != master);
    parts.extend(strays().map(|(name, count)| format!("{count} under another one, `{name}`")));
    if damaged > 0 {
        parts.push(format!("{damaged} that cannot be read"));
    }
    if count("forgotten") > 0 {
        parts.push(format!("{} forgotten", count("forgotten")));
    }
    let said = parts.join(", ");
    Some(if damaged > 0 {
        Finding::fail(about, said, "what they seal cannot be read: restore a backup (`purlin store restore`)")
    } else if strays().next().is_some() {
        let advice = "with the store's own nobody can read what those seal: a process was once started with another one, \
                      or one was given up";
        Finding::warn(about, said, advice)
    } else {
        Finding::ok(about, said)
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::finding::Level;
    use super::*;

    #[test]
    fn keys_that_the_stores_own_master_key_does_not_open_are_told() {
        let of = |master: Option<&str>, plain: u64, wrapped: Value| {
            let keys =
                json!({ "master": master, "plain": plain, "wrapped": wrapped, "forgotten": 0, "damaged": 0 });
            said("users", &keys).map(|finding| (finding.level, finding.said))
        };
        assert_eq!(of(None, 0, json!({})), None);
        assert_eq!(of(None, 2, json!({})), Some((Level::Ok, "2 without a master key".to_owned())));
        let (level, text) = of(Some("a"), 1, json!({ "a": 3 })).expect("there are some");
        assert_eq!((level, text.contains("3 under the master key `a`")), (Level::Ok, true), "{text}");
        let (level, text) = of(Some("a"), 0, json!({ "a": 3, "b": 1 })).expect("there are some");
        assert_eq!((level, text.contains("1 under another one, `b`")), (Level::Warn, true), "{text}");
    }
}
