//! How a view is, read from its store: whether it runs or not, and in whichever process.

use serde::Serialize;

use crate::message::Timestamp;
use crate::store::{LogFilter, Position, ReadError, Store};

use super::Misfit;
use super::checkpoint::{Checkpoint, Pace, Stored};
use super::control::{Control, Inline, Seen};
use super::parked::{ParkedKey, Room, records};
use super::swap::built;

/// A view as an operator sees it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ViewStatus {
    /// Its name.
    pub name: String,
    /// The version of the program that ran it last.
    pub version: u32,
    /// What it is doing.
    pub state: ViewState,
    /// Who folds its events.
    pub mode: ViewMode,
    /// The streams whose events it folds.
    pub categories: Vec<String>,
    /// The collections of its live rows.
    pub collections: Vec<String>,
    /// Up to where the live rows have seen the log.
    pub position: Position,
    /// How many positions of the log they are behind; 0 as long as no event of theirs is known to be among these.
    pub lag: u64,
    /// The age of the oldest event that is not in them.
    pub lag_seconds: f64,
    /// How many events could not be folded or wait behind one that could not.
    pub parked: u64,
    /// How many keys they are of: what these keys' events say is missing in the rows, which are stale so far.
    pub stale_keys: u64,
    /// How far the rows are that are built beside the live ones.
    pub rebuild: Option<RebuildStatus>,
    /// The event that the view stands before.
    pub stopped: Option<Misfit>,
}

/// What a view is doing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ViewState {
    /// It has not come to the end of the log yet, for the first time.
    #[default]
    Starting,
    /// Its rows follow the log.
    Live,
    /// It builds its rows anew beside the live ones, which are what can be read meanwhile.
    Rebuilding,
    /// An operator has stopped it.
    Paused,
    /// It stands before an event that it can neither fold nor park.
    Stopped,
}

/// Who folds the events of a view.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ViewMode {
    /// The view, behind the commits.
    #[default]
    Following,
    /// The commits that append the events.
    Inline,
}

/// How far a rebuild has come.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct RebuildStatus {
    /// The version that is built.
    pub version: u32,
    /// Up to where the new rows have seen the log.
    pub position: Position,
    /// Where the log ends.
    pub head: Position,
    /// How much of it that is, from 0 to 1.
    pub progress: f64,
    /// Positions a second since the process began to work on it; 0 as long as that is not known.
    pub rate: f64,
    /// How long it will take yet at this rate.
    pub seconds_left: Option<f64>,
    /// When it was begun.
    pub begun_at: Option<Timestamp>,
    /// The event that it stands before: it cannot be folded, and no more can be parked. The live rows are followed all the
    /// same; it goes on when parked events are dropped, or with a corrected program.
    pub stopped: Option<Misfit>,
}

impl ViewStatus {
    /// A view that has never been run.
    pub(super) fn unknown(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            version: 0,
            state: ViewState::Starting,
            mode: ViewMode::Following,
            categories: Vec::new(),
            collections: Vec::new(),
            position: Position::START,
            lag: 0,
            lag_seconds: 0.0,
            parked: 0,
            stale_keys: 0,
            rebuild: None,
            stopped: None,
        }
    }
}

/// How often the records are read until nobody has changed the view meanwhile.
const LOOKS: usize = 4;

/// The status of a view; none of one that has never been run.
pub(super) async fn of(store: &Store, name: &str, now: Timestamp) -> Result<Option<ViewStatus>, ReadError> {
    let mut seen = Seen::read(store, name).await?;
    for _ in 1..LOOKS {
        let status = as_seen(store, name, &seen, now).await?;
        let again = Seen::read(store, name).await?;
        if again.revision == seen.revision {
            return Ok(status);
        }
        seen = again;
    }
    as_seen(store, name, &seen, now).await
}

async fn as_seen(
    store: &Store,
    name: &str,
    seen: &Seen,
    now: Timestamp,
) -> Result<Option<ViewStatus>, ReadError> {
    let live = Stored::read(store, name).await?;
    if live.is_none() && seen.row == Control::default() {
        return Ok(None);
    }
    let head = store.head();
    let position = seen.position(store).await?.unwrap_or_default();
    let control = seen.row.clone();
    let behind = behind(store, &control, position, head, now).await?;
    let (lag, lag_seconds) = behind.unwrap_or_default();
    let live = live.map(|live| live.checkpoint);
    let room = Room::new(name, live.as_ref().map_or(0, |live| live.room));
    let mut status = ViewStatus {
        version: control.version,
        state: state(&control, live.as_ref(), behind),
        mode: if control.inline == Inline::On { ViewMode::Inline } else { ViewMode::Following },
        position,
        lag,
        lag_seconds,
        ..ViewStatus::unknown(name)
    };
    for record in records::<ParkedKey>(store, &Room::all(name)).await? {
        if room.holds(&record.key) {
            status.parked += record.decode::<ParkedKey>()?.count;
            status.stale_keys += 1;
        }
    }
    let beside = control.rebuild || live.as_ref().is_some_and(|live| building(&control, live));
    if beside {
        status.rebuild = Some(rebuild(built(store, name).await?, control.version, head));
    }
    let Control { categories, collections, stopped, .. } = control;
    Ok(Some(ViewStatus { categories, collections, stopped, ..status }))
}

fn state(control: &Control, live: Option<&Checkpoint>, behind: Option<(u64, f64)>) -> ViewState {
    match live {
        _ if control.stopped.is_some() => ViewState::Stopped,
        _ if control.paused => ViewState::Paused,
        Some(live) if building(control, live) => ViewState::Rebuilding,
        None if behind.is_none_or(|(lag, _)| lag > 0) || control.version == 0 => ViewState::Starting,
        _ => ViewState::Live,
    }
}

/// Whether rows beside the live ones are to take their place.
fn building(control: &Control, live: &Checkpoint) -> bool {
    control.rebuild || live.version < control.version
}

/// How many positions the rows are behind, and the age of the oldest event that is not in them; none if the log cannot be read
/// so far yet.
async fn behind(
    store: &Store,
    control: &Control,
    position: Position,
    head: Position,
    now: Timestamp,
) -> Result<Option<(u64, f64)>, ReadError> {
    let (filter, limit) = match &control.categories[..] {
        [category] => (LogFilter::category(category.as_str()), 1),
        _ => (LogFilter::all(), 256),
    };
    let mut seen = position;
    while seen < head {
        let page = store.read_log(seen, &filter, limit).await?;
        let wanted = |category: &str| control.categories.iter().any(|wanted| wanted == category);
        if let Some(event) = page.events.iter().find(|event| wanted(event.stream.category())) {
            let age = now.duration_since(event.at).as_secs_f64().max(0.0);
            return Ok(Some((head.0.saturating_sub(position.0), age)));
        }
        if page.through <= seen {
            // Who answers lags behind whoever told of the end.
            return Ok(None);
        }
        seen = page.through;
    }
    Ok(Some((0, 0.0)))
}

fn rebuild(built: Option<Checkpoint>, version: u32, head: Position) -> RebuildStatus {
    let position = built.as_ref().map_or(Position::START, |built| built.position);
    let (pace, stopped) = built.map_or((None, None), |built| (built.pace, built.stopped));
    let rate = pace.map_or(0.0, |pace| rate(&pace, position));
    let left = head.0.saturating_sub(position.0) as f64;
    let progress = if head.0 == 0 { 1.0 } else { (position.0 as f64 / head.0 as f64).min(1.0) };
    let seconds_left = (rate > 0.0).then(|| left / rate);
    let begun_at = pace.map(|pace| pace.begun_at);
    RebuildStatus { version, position, head, progress, rate, seconds_left, begun_at, stopped }
}

fn rate(pace: &Pace, position: Position) -> f64 {
    let seconds = pace.at.duration_since(pace.since).as_secs_f64();
    let done = position.0.saturating_sub(pace.from.0) as f64;
    if seconds > 0.0 { done / seconds } else { 0.0 }
}
