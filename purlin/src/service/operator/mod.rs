//! What an operator asks of the services of a data folder: their logs, parked messages, sagas and read models, to look at
//! and to act on.
//!
//! A running process answers on a socket in its data folder, which only its own user can open. A command line asks
//! there; when nobody holds the data, it opens the stores itself and asks the same [`router`] in memory. Whatever is
//! asked for is a write of records, which a running lane or saga takes note of.
//!
//! ```
//! # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
//! use purlin::service::operator::{self, Served};
//! use purlin::store::Store;
//! use tower::ServiceExt;
//!
//! let router = operator::router([Served { name: "orders".into(), store: Store::memory() }]);
//! let request = http::Request::get("/orders/dead-letters").body(axum::body::Body::empty()).unwrap();
//! assert_eq!(router.oneshot(request).await.unwrap().status(), 200);
//! # });
//! ```
//!
//! | request | answer |
//! |---|---|
//! | `GET /` | `{"services": [name, ..]}` |
//! | `GET /<service>/dead-letters?group=&limit=&cursor=` | a page of [`DeadLetter`](crate::bus::DeadLetter)s |
//! | `GET /<service>/dead-letters/<id>` | [`DeadLetterDetails`](crate::bus::DeadLetterDetails) |
//! | `POST /<service>/dead-letters/<id>/replay`, `../drop` | `{"id": id}` |
//! | `GET /<service>/sagas?state=&kind=&limit=&cursor=` | a page of [`SagaRow`](crate::saga::SagaRow)s with their ids |
//! | `GET /<service>/sagas/<id>` | [`SagaView`](crate::saga::SagaView) |
//! | `POST /<service>/sagas/<id>/retry` | `{"id": id}` |
//! | `GET /<service>/projections` | a page of [`ViewStatus`](crate::projection::ViewStatus), all on the first |
//! | `GET /<service>/projections/<name>` | [`ViewStatus`](crate::projection::ViewStatus) |
//! | `POST /<service>/projections/<name>/rebuild`, `../cancel`, `../pause`, `../resume` | `{"name": name}` |
//! | `GET /<service>/projections/<name>/parked?limit=&cursor=` | a page of [`ParkedItem`](crate::projection::ParkedItem)s |
//! | `POST /<service>/projections/<name>/parked/<position>/retry`, `../drop` | `{"name": name, "position": position}` |
//! | `GET /<service>/streams?category=&tenant=&limit=&cursor=` | a page of streams, in the order in which they began |
//! | `GET /<service>/streams/<stream>?from=&before=&limit=` | a page of a stream's events, backwards when `before` is said; it ends before `limit` once its data come to some megabytes |
//! | `POST /<service>/archive?category=&tenant=&idle=&ended_by=&after=&dry_run=` | how far the streams of a category are archived after some seconds: [`Progress`](crate::store::archive::Progress), to be asked again with its `through` as `after` until that is `of`; `idle` in seconds, the kinds of `ended_by` with commas between; an answer that it failed has it too, as `progress` |
//! | `GET /<service>/log?category=&tenant=&kind=&tag=&after=&limit=&wait=` | `{"items": [event, ..], "through", "head"}`: a part of the log, to be asked again with its `through` as `after`; waits so many seconds for something new, and ends before `limit` once its data come to some megabytes |
//! | `GET /<service>/stats?after=` | the numbers of a part of the log, up to `through` |
//! | `GET /<service>/store` | which log it is, its head and collections |
//! | `GET /<service>/personal` | what the keys of personal data are wrapped in: [`PersonalKeys`](crate::store::personal::PersonalKeys), each of them looked at |
//! | `POST /<service>/personal/abandon?master=<name>` | the same, when the store has given up this master key, because it is lost |
//! | `POST /<service>/store/backup?to=<path>` | `{"to": path}`, when the copy is whole |
//! | `GET /followers` | `{"items": [..]}`: the relays and groups of all services, with their lag, and whether they refuse their log |
//! | `POST /followers/accept?service=&kind=&name=&after=&dry_run=` | lets one that refuses its log, because that was restored or has lost its end, go on behind a position of it: see [`Acceptance`](crate::bus::Acceptance) |
//!
//! A running process has more to ask for ([`process`]):
//!
//! | request | answer |
//! |---|---|
//! | `GET /calls` | `{"policies": [..], "lines": [..]}`: the policies in force, each value with where it comes from, and how the way to each callee stands |
//! | `POST /calls/reload` | `{"changed": [callee, ..]}`, when the policies have been read again; `also` names what was changed of the rest, if a program has more that is read with them |
//! | `GET /breakers` | a page of [`BreakerStatus`](crate::resilience::BreakerStatus), all on the first |
//! | `POST /breakers/<name>/open`, `../close`, `../reset` | [`BreakerStatus`](crate::resilience::BreakerStatus); a body `{"reason": ".."}` may say why |
//!
//! Pages are `{"items": [..], "next": cursor|null}`, and errors are problem+json.

mod archive;
mod breakers;
mod calls;
mod dead_letters;
mod personal;
mod projections;
mod sagas;
mod socket;
mod stats;
mod stores;
mod streams;
mod why;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Request, State};
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Extension, Router};
use http::StatusCode;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::http::{Json, Problem};
use crate::resilience::DeadlineExceeded;
use crate::store::{ReadError, Store};

pub use calls::{OperatedCalls, Reread};
pub use socket::{connect, listen, socket_path};
pub use why::Why;

/// How long a request may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// A service that can be asked for.
#[derive(Debug, Clone)]
pub struct Served {
    /// Its name, as it stands in a path.
    pub name: String,
    /// Its data.
    pub store: Store,
}

/// Answers an operator's requests about these services.
pub fn router(services: impl IntoIterator<Item = Served>) -> Router {
    let stores = services.into_iter().map(|service| (service.name, service.store)).collect();
    Router::new()
        .route("/", get(services_of))
        .route("/{service}/dead-letters", get(dead_letters::list))
        .route("/{service}/dead-letters/{id}", get(dead_letters::show))
        .route("/{service}/dead-letters/{id}/replay", post(dead_letters::replay))
        .route("/{service}/dead-letters/{id}/drop", post(dead_letters::drop))
        .route("/{service}/sagas", get(sagas::list))
        .route("/{service}/sagas/{id}", get(sagas::show))
        .route("/{service}/sagas/{id}/retry", post(sagas::retry))
        .route("/{service}/projections", get(projections::list))
        .route("/{service}/projections/{name}", get(projections::show))
        .route("/{service}/projections/{name}/rebuild", post(projections::rebuild))
        .route("/{service}/projections/{name}/cancel", post(projections::cancel))
        .route("/{service}/projections/{name}/pause", post(projections::pause))
        .route("/{service}/projections/{name}/resume", post(projections::resume))
        .route("/{service}/projections/{name}/parked", get(projections::parked))
        .route("/{service}/projections/{name}/parked/{position}/retry", post(projections::retry))
        .route("/{service}/projections/{name}/parked/{position}/drop", post(projections::drop))
        .route("/{service}/streams", get(streams::list))
        .route("/{service}/streams/{stream}", get(streams::show))
        .route("/{service}/log", get(streams::tail))
        .route("/{service}/stats", get(stats::stats))
        .route("/{service}/store", get(stores::show))
        .route("/{service}/personal", get(personal::show))
        .route("/{service}/personal/abandon", post(personal::abandon))
        .route("/followers", get(stores::followers))
        .route("/followers/accept", post(stores::accept))
        .fallback(|| async { not_found("there is nothing at this path") })
        .layer(from_fn(in_time))
        // A copy takes as long as it takes.
        .route("/{service}/store/backup", post(stores::backup))
        // So does a step on a slow disk, which nothing is to cut off.
        .route("/{service}/archive", post(archive::archive))
        .with_state(Services(Arc::new(stores)))
}

/// Answers an operator's requests about these services, and about how the process that runs them calls others.
pub fn process(services: impl IntoIterator<Item = Served>, calls: OperatedCalls) -> Router {
    let of_process = Router::new()
        .route("/calls", get(calls::show))
        .route("/calls/reload", post(calls::reload))
        .route("/breakers", get(breakers::list))
        .route("/breakers/{name}/open", post(breakers::open))
        .route("/breakers/{name}/close", post(breakers::close))
        .route("/breakers/{name}/reset", post(breakers::reset))
        .with_state(calls);
    router(services).merge(of_process)
}

/// The same, whose answers that wait for something new are given at once when `shutdown` begins: whoever serves it need not
/// wait for them.
pub fn until(shutdown: CancellationToken, router: Router) -> Router {
    router.layer(Extension(Stopping(shutdown)))
}

/// What ends an answer that waits.
#[derive(Clone)]
struct Stopping(CancellationToken);

/// Answers in time, or says that it did not: an operator who waits learns nothing.
async fn in_time(request: Request, next: Next) -> Response {
    match tokio::time::timeout(PATIENCE, next.run(request)).await {
        Ok(response) => response,
        Err(_) => Problem::from(DeadlineExceeded).into_response(),
    }
}

/// The stores by the names of their services.
#[derive(Clone)]
struct Services(Arc<BTreeMap<String, Store>>);

impl Services {
    fn store(&self, name: &str) -> Result<&Store, Problem> {
        self.0.get(name).ok_or_else(|| not_found(format!("there is no service `{name}` here")))
    }
}

async fn services_of(State(services): State<Services>) -> Json<Value> {
    Json(json!({ "services": services.0.keys().collect::<Vec<_>>() }))
}

/// All that an error says, down to its first cause: an operator can do something about that.
fn told(error: &(dyn std::error::Error + 'static)) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

/// What cannot be read, with its causes: an archive that is away is put back by an operator.
fn unread(error: ReadError) -> Problem {
    let said = told(&error);
    Problem::from(error).detail(said)
}

fn bad_request(detail: impl Into<String>) -> Problem {
    Problem::new(StatusCode::BAD_REQUEST, "bad-request").detail(detail)
}

fn not_found(detail: impl Into<String>) -> Problem {
    Problem::new(StatusCode::NOT_FOUND, "not-found").detail(detail)
}
