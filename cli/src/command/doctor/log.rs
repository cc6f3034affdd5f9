//! The whole log, read: whether its positions and the versions of its streams are without a gap, and its times in order.

use std::collections::HashMap;
use std::hash::{BuildHasher as _, RandomState};

use purlin::message::Timestamp;
use purlin::store::{LogFilter, Position, ReadError, Recorded, Store};

use super::files::told;
use super::finding::Finding;
use crate::operator::Operator;
use crate::place::Place;
use crate::progress::Bar;

/// Events that are read at once.
const PAGE: usize = 1024;

/// So many faults are told.
const MOST: usize = 10;

pub(super) async fn examine(operator: &Operator, place: &Place, found: &mut Vec<Finding>) {
    if operator.stores().is_empty() {
        let advice = "stop the process, or check a copy: purlin store backup copy.db --service NAME; purlin doctor \
                      --store sqlite:copy.db --log";
        return found.push(Finding::warn("log", "a running process has the stores: it was not read", advice));
    }
    if let Place::Folder(_) | Place::File(_) = place {
        pages(place, found).await;
    }
    for served in operator.stores() {
        let bar = Bar::new(&format!("reading {}", served.name), "events");
        let audited = audit(&served.store, |at, head| bar.at(at.0, head.0)).await;
        drop(bar);
        let about = format!("{}: log", served.name);
        found.push(match audited {
            Ok(Audit { events, streams, faults }) if faults.is_empty() => {
                Finding::ok(about, format!("{events} events of {streams} streams, without a gap"))
            }
            Ok(Audit { faults, .. }) => Finding::fail(
                about,
                faults.join("; "),
                "restore a backup, and keep this store for whoever looks into it",
            ),
            Err(error) => Finding::fail(about, told(&error), "restore a backup"),
        });
    }
}

/// The pages of SQLite files.
async fn pages(place: &Place, found: &mut Vec<Finding>) {
    let files = match place {
        Place::File(file) => vec![(file.display().to_string(), file.clone())],
        Place::Folder(folder) => crate::place::sqlite_files(folder).unwrap_or_default(),
        Place::Database { .. } => Vec::new(),
    };
    for (name, file) in files {
        let about = format!("{name}: pages");
        found.push(match purlin_sqlite::check(&file).await {
            Ok(wrong) if wrong.is_empty() => Finding::ok(about, "SQLite finds nothing wrong in them"),
            Ok(wrong) => Finding::fail(about, wrong.join("; "), "restore a backup (`purlin store restore`)"),
            Err(error) => Finding::fail(about, told(&error), "restore a backup (`purlin store restore`)"),
        });
    }
}

/// What reading a log showed.
struct Audit {
    events: u64,
    streams: u64,
    faults: Vec<String>,
}

/// What the next event is held against. Of a stream only a hash of its name is kept, and its last version.
struct Auditor {
    hasher: RandomState,
    versions: HashMap<u64, u64>,
    position: Position,
    at: Timestamp,
    faults: Vec<String>,
}

async fn audit(store: &Store, mut progress: impl FnMut(Position, Position)) -> Result<Audit, ReadError> {
    let head = store.head();
    let (position, at) = (Position::START, Timestamp::UNIX_EPOCH);
    let mut auditor =
        Auditor { hasher: RandomState::new(), versions: HashMap::new(), position, at, faults: Vec::new() };
    while auditor.position < head && auditor.faults.len() < MOST {
        let page = store.read_log(auditor.position, &LogFilter::all(), PAGE).await?;
        page.events.iter().for_each(|event| auditor.look(event));
        if page.through <= auditor.position && page.events.is_empty() {
            auditor.faults.push(format!("nothing comes behind {}, and the head is {head}", auditor.position));
            break;
        }
        if page.through > auditor.position {
            auditor
                .faults
                .push(format!("there is no event between {} and {}", auditor.position, page.through));
            auditor.position = page.through;
        }
        progress(auditor.position, head);
    }
    Ok(Audit { events: auditor.position.0, streams: auditor.versions.len() as u64, faults: auditor.faults })
}

impl Auditor {
    fn look(&mut self, event: &Recorded) {
        let Recorded { position, stream, version, at, .. } = event;
        if position.0 != self.position.0 + 1 {
            self.faults.push(format!("behind {} comes {position}", self.position));
        }
        let last = self.versions.entry(self.hasher.hash_one(stream.as_str())).or_default();
        if *version != *last + 1 {
            self.faults.push(format!("at {position}: version {version} of `{stream}` behind version {last}"));
        }
        if *at < self.at {
            self.faults.push(format!("at {position}: {at} is before the event before it"));
        }
        (*last, self.position, self.at) = (*version, *position, *at);
    }
}
