//! A PostgreSQL database: what its settings are worth, and what the schemas say of themselves.

use std::cmp::Ordering;

use purlin::message::Clock;
use purlin_postgres::{InspectedStore, Inspection};

use super::files::{NEW_LIFE, clock, told};
use super::finding::{Finding, bytes};
use crate::place::Place;

/// The oldest server that is tested against.
const OLDEST: i64 = 140_000;

/// Seconds by which the clocks of two machines may differ.
const SKEW: i64 = 5;

/// Sessions of a store: it writes on one, and reads on two.
const SESSIONS: i64 = 3;

pub(super) async fn examine(place: &Place, url: &str, service: Option<&str>, found: &mut Vec<Finding>) {
    let database = match purlin_postgres::inspect(url).await {
        Ok(database) => database,
        Err(error) => {
            let advice = "see whether the server runs, the URL is right, and the user may connect";
            return found.push(Finding::fail("server", told(&error), advice).ending());
        }
    };
    server(&database, found);
    let stores: Vec<_> =
        database.stores.iter().filter(|store| service.is_none_or(|name| store.name == name)).collect();
    if stores.is_empty() {
        let said = format!("there is no store in {place}");
        return found.push(
            Finding::fail("stores", said, "start the process first, or name the database that it uses")
                .ending(),
        );
    }
    for one in stores {
        store(one, found);
    }
}

fn server(database: &Inspection, found: &mut Vec<Finding>) {
    let setting = |name: &str| {
        let found = database.settings.iter().find(|(known, _)| known == name);
        found.map_or("", |(_, value)| value.as_str())
    };
    let said = format!("PostgreSQL {}, {}", database.version, bytes(database.bytes));
    found.push(match (database.version_number < OLDEST, database.standby) {
        (_, true) => Finding::fail(
            "server",
            format!("{said}; it is a standby, which takes no commits"),
            "name the primary, or both in the URL",
        ),
        (true, _) => Finding::warn("server", said, "use PostgreSQL 14 or newer"),
        (false, false) => Finding::ok("server", said),
    });
    found.push(match database.encoding.as_str() {
        "UTF8" => Finding::ok("encoding", "UTF8"),
        other => Finding::fail(
            "encoding",
            other,
            "make the database anew: CREATE DATABASE .. ENCODING 'UTF8' TEMPLATE template0",
        ),
    });
    for name in ["fsync", "full_page_writes"] {
        found.push(match setting(name) {
            "on" => Finding::ok(name, "on"),
            other => Finding::fail(
                name,
                other,
                format!("a power cut loses commits, or all: set {name} = on in postgresql.conf"),
            ),
        });
    }
    found.push(match setting("synchronous_commit") {
        "off" => Finding::ok("synchronous_commit", "off; a store's own sessions set it to on"),
        other => Finding::ok("synchronous_commit", other),
    });
    let most: i64 = setting("max_connections").parse().unwrap_or_default();
    let said = format!("{} of {most} are used", database.sessions);
    found.push(match most - database.sessions < SESSIONS {
        true => Finding::warn(
            "sessions",
            said,
            "raise max_connections: a store needs three, and a few more at times",
        ),
        false => Finding::ok("sessions", said),
    });
    let skew = database.now.duration_since(Clock::system().now()).as_secs();
    if skew.abs() > SKEW {
        let said = format!("the server's clock is {skew} s off this machine's");
        found.push(Finding::warn("clock", said, "set both (NTP)"));
    }
}

fn store(store: &InspectedStore, found: &mut Vec<Finding>) {
    let about = format!("{}: store", store.name);
    let Some(log) = store.log else {
        let said = "its schema does not say which log it is";
        return found.push(Finding::fail(about, said, "restore the schema from a dump"));
    };
    let last = store.last.map_or_else(|| "none yet".to_owned(), |last| last.to_string());
    let used = if store.in_use { ", in use by a process" } else { "" };
    let said = format!(
        "format {}, log {}-{}, {} events, the last at {last}, {} collections{used}",
        store.format,
        log.log,
        log.incarnation,
        store.head,
        store.collections.len()
    );
    found.push(match (store.format.cmp(&store.known), store.restored) {
        (Ordering::Greater, _) => {
            Finding::fail(&about, said, format!("use a newer program: this one knows format {}", store.known))
        }
        (_, true) => Finding::warn(
            &about,
            format!("{said}; it was put back, and nobody has opened it since"),
            NEW_LIFE,
        ),
        (Ordering::Less, false) => {
            Finding::ok(&about, format!("{said}; it is brought to format {} when it is opened", store.known))
        }
        (Ordering::Equal, false) => Finding::ok(&about, said),
    });
    found.extend(clock(&store.name, store.last));
}
