//! The numbers of a log, a part of it at a time: who asks adds them up, and knows how far it is.

use std::collections::BTreeMap;

use axum::extract::State;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use crate::http::{Json, Path, Problem, Query};
use crate::message::Timestamp;
use crate::store::{LogFilter, LogPage, Position};

use super::streams::SLICE;
use super::{Services, unread};

/// Events that are read at once.
const PAGE: usize = 1024;

/// How many kinds and categories are told apart; what comes more is counted as [`OTHERS`].
const MOST: usize = 1000;

const OTHERS: &str = "(others)";

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Wanted {
    after: Option<Position>,
}

/// The numbers of the events behind a position.
#[derive(Default, Serialize)]
pub(super) struct Stats {
    /// Up to where was counted, and where the log ends.
    through: Position,
    head: Position,
    events: u64,
    /// Streams that began.
    streams: u64,
    /// Bytes of data.
    bytes: u64,
    public: u64,
    kinds: BTreeMap<String, Counted>,
    categories: BTreeMap<String, Counted>,
    first: Option<Timestamp>,
    last: Option<Timestamp>,
    /// Events of the last minute and the last hour.
    minute: u64,
    hour: u64,
}

/// The numbers of a kind or of a category.
#[derive(Default, Serialize)]
struct Counted {
    events: u64,
    streams: u64,
    bytes: u64,
}

pub(super) async fn stats(
    State(services): State<Services>,
    Path(service): Path<String>,
    Query(wanted): Query<Wanted>,
) -> Result<Json<Stats>, Problem> {
    let store = services.store(&service)?;
    let (after, now) = (wanted.after.unwrap_or_default(), store.now());
    let mut stats = Stats { through: after, head: store.head(), ..Stats::default() };
    let until = Instant::now() + SLICE;
    while stats.through < stats.head && Instant::now() < until {
        let page = store.read_log(stats.through, &LogFilter::all(), PAGE).await.map_err(unread)?;
        if page.through <= stats.through {
            break;
        }
        stats.add(&page, now);
    }
    Ok(Json(stats))
}

impl Stats {
    fn add(&mut self, page: &LogPage, now: Timestamp) {
        self.through = page.through;
        for event in &page.events {
            let (bytes, born) = (event.envelope.data.len() as u64, u64::from(event.version == 1));
            self.events += 1;
            self.streams += born;
            self.bytes += bytes;
            self.public += u64::from(event.envelope.public);
            count(&mut self.kinds, &event.envelope.kind, bytes, born);
            count(&mut self.categories, event.stream.category(), bytes, born);
            self.first.get_or_insert(event.at);
            self.last = Some(event.at);
            let age = now.duration_since(event.at).as_secs();
            self.minute += u64::from(age < 60);
            self.hour += u64::from(age < 3600);
        }
    }
}

fn count(all: &mut BTreeMap<String, Counted>, name: &str, bytes: u64, born: u64) {
    let name = if all.len() < MOST || all.contains_key(name) { name } else { OTHERS };
    let counted = match all.get_mut(name) {
        Some(counted) => counted,
        None => all.entry(name.to_owned()).or_default(),
    };
    counted.events += 1;
    counted.streams += born;
    counted.bytes += bytes;
}
