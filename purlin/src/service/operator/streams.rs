//! Streams and their events, asked for by an operator.

use axum::Extension;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::time::{Duration, Instant};

use crate::http::{Json, Limit, Listing, Path, Problem, Query};
use crate::message::{Tags, Timestamp, Uuid};
use crate::store::{EventQuery, LogFilter, LogPage, Position, ReadError, Recorded, Store, StreamId};

use super::{Services, Stopping, bad_request, unread};

/// How long one answer looks through the log before it says how far it came.
pub(super) const SLICE: Duration = Duration::from_secs(2);

/// Bytes of data after which an answer takes no further event: whoever asks goes on where it ends.
const BYTES: usize = 4 << 20;

/// How long who follows the log waits at the most for something new.
const LONGEST_WAIT: u64 = 10;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Streams {
    category: Option<String>,
    tenant: Option<String>,
    #[serde(default)]
    limit: Limit,
    cursor: Option<Position>,
}

/// A stream in a list.
#[derive(Serialize)]
pub(super) struct Listed {
    stream: String,
    /// Where it began.
    position: Position,
    began: Timestamp,
    /// How many events it has, and the last one's time and kind.
    events: u64,
    last: Timestamp,
    last_kind: String,
}

/// The streams in the order in which they began.
pub(super) async fn list(
    State(services): State<Services>,
    Path(service): Path<String>,
    Query(wanted): Query<Streams>,
) -> Result<Json<Listing<Listed>>, Problem> {
    // What is personal is nothing for an operator's screen.
    let store = &services.store(&service)?.sealed();
    let Streams { category, tenant, limit, cursor } = wanted;
    let filter = LogFilter { category, tenant, ..LogFilter::births() };
    let page = look(store, cursor.unwrap_or_default(), &filter, limit.get()).await.map_err(unread)?;
    let mut items = Vec::with_capacity(page.events.len());
    for born in page.events {
        let last = store.read_stream_back(&born.stream, u64::MAX, 1).await.map_err(unread)?.pop();
        let last = last.as_ref().unwrap_or(&born);
        items.push(Listed {
            stream: born.stream.to_string(),
            position: born.position,
            began: born.at,
            events: last.version,
            last: last.at,
            last_kind: last.envelope.kind.to_string(),
        });
    }
    let next = (page.through < store.head()).then(|| page.through.to_string());
    Ok(Json(Listing { items, next }))
}

/// At most so many wanted events, of as much of the log as can be looked through in a moment.
async fn look(
    store: &Store,
    after: Position,
    filter: &LogFilter,
    limit: usize,
) -> Result<LogPage, ReadError> {
    let until = Instant::now() + SLICE;
    let mut found = LogPage { events: Vec::new(), through: after };
    let mut bytes = 0;
    while found.events.len() < limit
        && bytes < BYTES
        && found.through < store.head()
        && Instant::now() < until
    {
        let page = store.read_log(found.through, filter, limit - found.events.len()).await?;
        if page.through <= found.through {
            break;
        }
        found.through = page.through;
        bytes += page.events.iter().map(size).sum::<usize>();
        found.events.extend(page.events);
    }
    Ok(found)
}

fn size(event: &Recorded) -> usize {
    event.envelope.data.len()
}

/// Cuts off what is more than one answer holds; the first event is never too much. Whether something was cut off.
fn cut(events: &mut Vec<Recorded>) -> bool {
    let mut bytes = 0;
    let fits = events.iter().take_while(|event| {
        let first = bytes == 0;
        bytes += size(event);
        first || bytes <= BYTES
    });
    let fits = fits.count();
    let more = fits < events.len();
    events.truncate(fits);
    more
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Part {
    /// The first version that is wanted.
    from: Option<u64>,
    /// Only those before this version, the newest first.
    before: Option<u64>,
    #[serde(default)]
    limit: Limit,
}

/// The events of a stream: from a version on, or backwards.
pub(super) async fn show(
    State(services): State<Services>,
    Path((service, stream)): Path<(String, String)>,
    Query(wanted): Query<Part>,
) -> Result<Json<Listing<Event>>, Problem> {
    // What is personal is nothing for an operator's screen.
    let store = &services.store(&service)?.sealed();
    let stream =
        StreamId::parse(stream.as_str()).map_err(|error| bad_request(format!("`{stream}`: {error}")))?;
    let (limit, from) = (wanted.limit.get(), wanted.from.unwrap_or(1).max(1));
    let (mut events, more) = match wanted.before {
        None => store.read_stream_page(&stream, from, limit).await.map_err(unread)?,
        Some(before) => {
            let page = store.read_stream_back_page(&stream, before, limit).await;
            let (mut events, more) = page.map_err(unread)?;
            events.retain(|event| event.version >= from);
            (events, more)
        }
    };
    let more = cut(&mut events) || more;
    let next = events.last().filter(|_| more).and_then(|event| match wanted.before {
        None => Some((event.version + 1).to_string()),
        Some(_) => Some(event.version.to_string()).filter(|_| event.version > from),
    });
    Ok(Json(Listing { items: events.iter().map(Event::of).collect(), next }))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Tail {
    category: Option<String>,
    tenant: Option<String>,
    kind: Option<String>,
    tag: Option<String>,
    /// Behind which position; the end of the log unless said.
    after: Option<Position>,
    #[serde(default)]
    limit: Limit,
    /// How many seconds to wait for something new.
    #[serde(default)]
    wait: u64,
}

/// A part of the log, and up to where it was looked through.
#[derive(Serialize)]
pub(super) struct Found {
    items: Vec<Event>,
    through: Position,
    head: Position,
}

/// What is wanted of the log behind a position; when there is nothing yet, it is waited for a moment, unless the process
/// stops. (Who follows asks again: an answer without an end would hold up a process that stops.)
pub(super) async fn tail(
    State(services): State<Services>,
    Path(service): Path<String>,
    stopping: Option<Extension<Stopping>>,
    Query(wanted): Query<Tail>,
) -> Result<Json<Found>, Problem> {
    // What is personal is nothing for an operator's screen.
    let store = &services.store(&service)?.sealed();
    let head = store.head();
    let after = wanted.after.unwrap_or(head);
    if after > head {
        return Err(bad_request(format!("the log has only reached {head}, not {after}")));
    }
    let filter = filter(&wanted);
    let limit = wanted.limit.get();
    let mut subscription = store.subscribe(after, filter)?;
    let until = Instant::now() + Duration::from_secs(wanted.wait.min(LONGEST_WAIT));
    let looked = Instant::now() + SLICE;
    let mut found = LogPage { events: Vec::new(), through: after };
    let mut whole = true;
    while found.events.len() < limit && whole {
        // What is there is read without waiting; an empty page says only how far it was looked.
        let due = if subscription.position() < head { looked } else { until };
        let page = tokio::time::timeout_at(due, subscription.page(limit - found.events.len()));
        let page = match &stopping {
            Some(Extension(Stopping(shutdown))) => shutdown.run_until_cancelled(page).await,
            None => Some(page.await),
        };
        match page {
            Some(Ok(page)) => {
                let page = page?;
                found.events.extend(page.events);
                found.through = page.through;
                whole = !cut(&mut found.events);
            }
            Some(Err(_)) | None => break,
        }
        if !found.events.is_empty() && found.through >= head {
            break;
        }
    }
    let through = match found.events.last() {
        Some(last) if !whole => last.position,
        _ => subscription.position(),
    };
    let items = found.events.iter().map(Event::of).collect();
    Ok(Json(Found { items, through, head: store.head() }))
}

fn filter(wanted: &Tail) -> LogFilter {
    let query = match (&wanted.tag, &wanted.kind) {
        (None, None) => None,
        (Some(tag), None) => Some(EventQuery::tagged([tag.as_str()])),
        (None, Some(kind)) => Some(EventQuery::of_kinds([kind.as_str()])),
        (Some(tag), Some(kind)) => Some(EventQuery::tagged([tag.as_str()]).kinds([kind.as_str()])),
    };
    let (category, tenant) = (wanted.category.clone(), wanted.tenant.clone());
    LogFilter { category, tenant, matching: query, ..LogFilter::all() }
}

/// An event as an operator sees it.
#[derive(Serialize)]
pub(super) struct Event {
    position: Position,
    stream: String,
    version: u64,
    kind: String,
    at: Timestamp,
    id: Uuid,
    schema: u16,
    public: bool,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tags: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    trace: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    correlation: Option<Uuid>,
    #[serde(skip_serializing_if = "Option::is_none")]
    causation: Option<Uuid>,
    #[serde(skip_serializing_if = "Option::is_none")]
    deadline: Option<Timestamp>,
    data: Value,
}

impl Event {
    fn of(event: &Recorded) -> Self {
        let envelope = &event.envelope;
        // What is no JSON, or holds a number that fits no type, is shown as the text that it is.
        let text = || Value::String(String::from_utf8_lossy(&envelope.data).into_owned());
        let tags = |tags: &Tags| tags.iter().map(str::to_owned).collect();
        Self {
            position: event.position,
            stream: event.stream.to_string(),
            version: event.version,
            kind: envelope.kind.to_string(),
            at: event.at,
            id: envelope.id,
            schema: envelope.schema,
            public: envelope.public,
            tags: tags(&envelope.tags),
            trace: envelope.meta.trace.map(|trace| trace.to_string()),
            correlation: envelope.meta.correlation,
            causation: envelope.meta.causation,
            deadline: envelope.meta.deadline,
            data: serde_json::from_slice(&envelope.data).unwrap_or_else(|_| text()),
        }
    }
}
