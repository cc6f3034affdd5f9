//! The arrows of the architecture: who may know whom, and what must stay pure.
//!
//! Everything is read from the source as it stands, so that a new room, service or crate is held from its first day.

use std::collections::BTreeSet;
use std::fs;

use crate::source::{self, Source, below, folders};

/// The floors of the framework, bottom up. A room uses rooms of the floors below its own, and no other.
const FLOORS: &[&[&str]] = &[
    &["message"],
    &["telemetry"],
    &["store", "resilience"],
    &["aggregate", "bus"],
    &["projection", "saga"],
    &["http"],
    &["service", "chaos"],
    &["testing"],
];

/// Decisions: time and randomness are arguments of theirs, and IO is somebody else's.
const PURE: &[&str] =
    &["purlin/src/saga/machine.rs", "purlin/src/chaos/plan.rs", "agent/src/machine", "gateway/src/core"];

/// Words that pure code has no use for.
const IMPURE_WORDS: &[&str] =
    &["async", "await", "tokio", "Clock", "SystemTime", "TcpStream", "TcpListener", "File"];

/// Calls that ask the machine for time, randomness or files. (An argument may well be called `now`.)
const IMPURE_CALLS: &[&str] = &["now()", "now_v7()", "new_v4()", "new_id()", "rand::", "std::fs"];

/// Products and adapters: each stands on the framework, and knows none of the others.
const PRODUCTS: &[&str] = &["gateway", "agent", "console"];

/// Clients of databases and brokers, which only adapters may know.
const SERVERS: &[&str] =
    &["rusqlite", "tokio-postgres", "async-nats", "redis", "opentelemetry", "opentelemetry-otlp"];

fn floor(room: &str) -> Option<usize> {
    FLOORS.iter().position(|rooms| rooms.contains(&room))
}

#[test]
fn every_room_has_a_floor() {
    let rooms = folders("purlin/src");
    assert!(!rooms.is_empty());
    for room in rooms {
        assert!(
            floor(&room).is_some(),
            "`purlin/src/{room}` stands on no floor: give it one here, and in ARCHITECTURE.md"
        );
    }
}

#[test]
fn a_room_uses_only_the_floors_below() {
    let mut wrong = Vec::new();
    for room in folders("purlin/src") {
        for file in below(&format!("purlin/src/{room}")) {
            let used = used_modules(&file, "purlin/src/");
            wrong.extend(used.into_iter().filter(|used| used.name != room).filter_map(|used| {
                let (own, other) = (floor(&room), floor(&used.name));
                let why = match other {
                    None => "names something of the root, which hides the room it comes from",
                    Some(_) if other >= own => "does not stand below",
                    Some(_) => return None,
                };
                Some(format!("{}:{}: `{}` {why}", file.path, used.line, used.name))
            }));
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn pure_places_wait_for_nothing_and_ask_no_clock() {
    let mut wrong = Vec::new();
    for place in PURE {
        let files = below(place);
        assert!(!files.is_empty(), "`{place}` is gone: name the place where its decisions are now");
        wrong.extend(files.iter().flat_map(impurities));
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn aggregates_wait_for_nothing_and_ask_no_clock() {
    let mut wrong = Vec::new();
    for file in ["purlin/src", "shop/src"].iter().flat_map(|place| below(place)) {
        if file.without_tests().contains("impl Aggregate for ") {
            wrong.extend(impurities(&file));
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn a_service_of_the_shop_names_the_contracts_and_itself() {
    const SERVICES: &[&str] = &["users", "products", "inventory", "orders", "payments", "shipping"];
    let mut wrong = Vec::new();
    for service in SERVICES {
        for file in below(&format!("shop/src/{service}")) {
            let used = used_modules(&file, "shop/src/");
            let foreign = used.into_iter().filter(|used| used.name != *service && used.name != "contracts");
            wrong.extend(foreign.map(|used| format!("{}:{}: names `{}`", file.path, used.line, used.name)));
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn products_and_adapters_know_the_framework_and_not_each_other() {
    let adapters = folders("adapters").into_iter().map(|adapter| format!("adapters/{adapter}"));
    for place in PRODUCTS.iter().map(|product| (*product).to_owned()).chain(adapters) {
        let ours = dependencies(&place).into_iter().filter(|name| name.starts_with("purlin"));
        let others: Vec<String> = ours.filter(|name| name != "purlin").collect();
        assert!(others.is_empty(), "{place} depends on {others:?}");
    }
}

#[test]
fn the_framework_knows_no_crate_of_ours_and_no_server() {
    let dependencies = dependencies("purlin");
    assert!(dependencies.contains(&"tokio".to_owned()), "the manifest was not understood: {dependencies:?}");
    for name in dependencies {
        assert!(!name.starts_with("purlin") && !SERVERS.contains(&name.as_str()), "purlin depends on {name}");
    }
}

#[test]
fn a_users_code_is_at_most_ninety_lines() {
    for example in below("purlin/examples") {
        let lines = example.code.lines().filter(|line| !line.trim().is_empty()).count();
        assert!(lines <= 90, "{} has {lines} lines of code", example.path);
    }
}

/// What a file says that pure code has no use for.
fn impurities(file: &Source) -> Vec<String> {
    let mut found = Vec::new();
    for (index, line) in file.without_tests().lines().enumerate() {
        let mut words = line.split(|c: char| !c.is_alphanumeric() && c != '_');
        let word = words.find(|word| IMPURE_WORDS.contains(word));
        let call = IMPURE_CALLS.iter().find(|call| line.contains(**call)).copied();
        found.extend(
            word.or(call).map(|said| format!("{}:{}: `{said}` in what must be pure", file.path, index + 1)),
        );
    }
    found
}

/// A name directly below the crate's root that a file uses.
struct Used {
    name: String,
    line: usize,
}

/// The names below the root that a file reaches, by `crate::` or by `super::` out of its own module of the root.
fn used_modules(file: &Source, root: &str) -> Vec<Used> {
    let inside = file.path.strip_prefix(root).expect("the file lies below the root");
    let depth = inside.trim_end_matches("/mod.rs").split('/').count();
    let mut used = Vec::new();
    for (at, _) in file.code.match_indices("crate::") {
        let line = line_of(&file.code, at);
        if !file.code[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_' || c == '$') {
            let names = first_names(&file.code[at + "crate::".len()..]);
            used.extend(names.into_iter().map(|name| Used { name, line }));
        }
    }
    for (at, _, path) in climbs(&file.code).filter(|(_, climbed, _)| *climbed >= depth) {
        // A module inside the file is one level deeper, so that the climb may end in the room: only rooms count.
        let rooms = first_names(path).into_iter().filter(|name| floor(name).is_some());
        used.extend(rooms.map(|name| Used { name, line: line_of(&file.code, at) }));
    }
    used
}

/// The chains of `super::`: where each begins, how long it is, and what stands behind it.
fn climbs(code: &str) -> impl Iterator<Item = (usize, usize, &str)> {
    const UP: &str = "super::";
    let begins = code.match_indices(UP).filter(|(at, _)| !code[..*at].ends_with("::"));
    begins.map(|(at, _)| {
        let path = code[at..].trim_start_matches(UP);
        (at, (code.len() - at - path.len()) / UP.len(), path)
    })
}

fn line_of(code: &str, at: usize) -> usize {
    code[..at].matches('\n').count() + 1
}

/// The first name of a path, or the first names of each path of a group: `{a, b::{c, d}}` gives `a` and `b`.
fn first_names(path: &str) -> Vec<String> {
    let path = path.trim_start();
    let Some(group) = path.strip_prefix('{') else { return first_name(path).into_iter().collect() };
    let mut depth = 1;
    let mut begin = 0;
    let mut names = Vec::new();
    for (at, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            _ => {}
        }
        if depth == 0 || (depth == 1 && c == ',') {
            names.extend(first_name(group[begin..at].trim_start()));
            begin = at + 1;
        }
        if depth == 0 {
            break;
        }
    }
    names
}

fn first_name(path: &str) -> Option<String> {
    let end = path.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(path.len());
    (end > 0).then(|| path[..end].to_owned())
}

/// The names in the dependency tables of a crate's manifest, of every kind; none when there is no such crate.
fn dependencies(place: &str) -> Vec<String> {
    let manifest = fs::read_to_string(source::workspace().join(place).join("Cargo.toml")).unwrap_or_default();
    let mut names = BTreeSet::new();
    let mut in_table = false;
    for line in manifest.lines().map(str::trim) {
        if let Some(table) = line.strip_prefix('[') {
            let table = table.trim_end_matches(']');
            in_table = table.ends_with("dependencies");
            if let Some((_, name)) = table.split_once("dependencies.") {
                names.insert(name.to_owned());
            }
        } else if in_table && !line.is_empty() && !line.starts_with('#') {
            let end = line.find(['.', ' ', '=']).unwrap_or(line.len());
            names.insert(line[..end].trim_matches('"').to_owned());
        }
    }
    names.into_iter().collect()
}

/// What `used_modules` finds in a text that pretends to be a file.
fn names_in(path: &str, text: &str) -> Vec<String> {
    let file = Source { path: path.into(), code: source::code(text) };
    used_modules(&file, "purlin/src/").into_iter().map(|used| used.name).collect()
}

#[test]
fn every_way_to_name_a_room_is_seen() {
    let path = "purlin/src/store/handle.rs";
    assert_eq!(names_in(path, "use crate::saga::Step;"), ["saga"]);
    assert_eq!(names_in(path, "use crate::{message::{Clock, Fault}, bus};"), ["message", "bus"]);
    assert_eq!(names_in(path, "fn f() { crate::http::g() }"), ["http"]);
    assert_eq!(names_in(path, "use super::super::bus::Bus;"), ["bus"]);
    assert_eq!(names_in(path, "mod tests { use super::super::super::bus::Bus; }"), ["bus"]);
    assert_eq!(names_in("purlin/src/store/mod.rs", "use super::bus::Bus;"), ["bus"]);
}

#[test]
fn time_may_be_an_argument_and_not_a_question() {
    let file = |text: &str| Source { path: "machine.rs".into(), code: source::code(text) };
    assert_eq!(impurities(&file("fn next(now: Timestamp) -> Step { step(now) }")), [""; 0]);
    assert_eq!(impurities(&file("fn next() { let at = Timestamp::now(); }")).len(), 1);
    assert_eq!(impurities(&file("fn next() { wait().await }")).len(), 1);
    assert_eq!(impurities(&file("fn next() {}\n#[cfg(test)]\nmod tests { async fn f() {} }")), [""; 0]);
}

#[test]
fn what_only_looks_like_a_use_is_not_one() {
    let path = "purlin/src/store/handle.rs";
    let text = "//! See [`crate::saga`].\npub(crate) fn f() -> &str { \"crate::bus\" }\nuse super::Commit;";
    assert_eq!(names_in(path, text), [""; 0]);
    assert_eq!(names_in(path, "mod tests { use super::super::Commit; }"), [""; 0]);
}
