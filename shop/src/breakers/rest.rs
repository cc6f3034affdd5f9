//! What administrators are answered.

use axum::extract::State;
use axum::routing::{get, post};
use axum::{Extension, Json as Answer, Router};
use http::{HeaderMap, StatusCode};
use purlin::http::{Cursors, Limit, Path, Problem, Query};
use purlin::resilience::Forced;
use purlin::service::operator::Why;
use purlin_gateway::auth::Verifier;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::Peers;
use super::peers::{Process, Said, Unreached};
use crate::contracts::clients::Holding;
use crate::contracts::who::{Admin, bearer, unauthorized};

/// The gateway's pool of these routes.
pub const POOL: &str = "breakers";

/// The routes.
pub fn router(peers: Peers, verifier: Verifier) -> Router {
    Router::new()
        .route("/admin/breakers", get(list))
        .route("/admin/breakers/{name}/open", post(open))
        .route("/admin/breakers/{name}/close", post(close))
        .route("/admin/breakers/{name}/reset", post(reset))
        .with_state(peers)
        .layer(Extension(verifier))
}

/// Some breakers, and which processes did not answer.
#[derive(Debug, Serialize)]
struct BreakerList {
    items: Vec<Value>,
    next: Option<String>,
    unreached: Vec<Unreached>,
}

/// Which part of them is wanted.
#[derive(Debug, Deserialize)]
struct Page {
    #[serde(default)]
    limit: Limit,
    cursor: Option<String>,
}

const CURSORS: Cursors = Cursors::of("breakers");

/// Whose breaker is meant, where several processes have one of the name.
#[derive(Debug, Deserialize)]
struct Whose {
    process: Option<String>,
}

async fn list(
    State(peers): State<Peers>,
    _: Admin,
    headers: HeaderMap,
    Query(page): Query<Page>,
) -> Result<Answer<BreakerList>, Problem> {
    let after = CURSORS.read_optional(page.cursor.as_deref())?;
    let Said { processes, unreached } = peers.ask(token(&headers)?).await;
    let items = processes.iter().flat_map(|process| process.items.iter().map(move |item| (process, item)));
    let mut items: Vec<(String, Value)> = items
        .map(|(process, item)| (process.place(item), process.shown(item.clone())))
        .filter(|(place, _)| after.as_ref().is_none_or(|after| place > after))
        .collect();
    items.sort_by(|(one, _), (other, _)| one.cmp(other));
    let more = items.len() > page.limit.get();
    items.truncate(page.limit.get());
    let next = items.last().filter(|_| more).map(|(place, _)| CURSORS.write(place));
    Ok(Answer(BreakerList { items: items.into_iter().map(|(_, item)| item).collect(), next, unreached }))
}

/// Who wants what of which breaker.
struct Asked {
    peers: Peers,
    admin: Admin,
    token: String,
    name: String,
    process: Option<String>,
}

impl<S: Send + Sync> axum::extract::FromRequestParts<S> for Asked
where
    Peers: axum::extract::FromRef<S>,
{
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut http::request::Parts, state: &S) -> Result<Self, Problem> {
        let admin = Admin::from_request_parts(parts, state).await?;
        let Path(name) = Path::from_request_parts(parts, state).await?;
        let Query(Whose { process }) = Query::from_request_parts(parts, state).await?;
        let peers = axum::extract::FromRef::from_ref(state);
        Ok(Self { peers, admin, token: token(&parts.headers)?.to_owned(), name, process })
    }
}

/// Refuses calls from now on, however healthy the callee is.
async fn open(asked: Asked, why: Why) -> Held {
    asked.hold(Some(Forced::Open), &why).await
}

/// Lets calls through from now on, however sick the callee is.
async fn close(asked: Asked, why: Why) -> Held {
    asked.hold(Some(Forced::Closed), &why).await
}

/// Lets the breaker decide again, beginning closed.
async fn reset(asked: Asked, why: Why) -> Held {
    asked.hold(None, &why).await
}

type Held = Result<Answer<Value>, Problem>;

impl Asked {
    async fn hold(&self, forced: Option<Forced>, why: &Why) -> Held {
        if forced == Some(Forced::Open) && self.name == purlin_gateway::calls::callee(POOL) {
            return Err(needed(&self.name));
        }
        let said = self.peers.ask(&self.token).await;
        let of = |process: &&Process| self.process.as_deref().is_none_or(|wanted| process.is(wanted));
        let all: Vec<&Process> = said.processes.iter().filter(of).collect();
        let having: Vec<&Process> = all.into_iter().filter(|process| process.has(&self.name)).collect();
        let process = match having[..] {
            // Who does not answer may have one of the name as well, and be the one who is meant.
            [process] if self.process.is_none() && !said.unreached.is_empty() => {
                return Err(self.unsure(process, &said.unreached));
            }
            [process] => process,
            [] => return Err(self.not_found(&said.unreached)),
            [..] => return Err(self.ambiguous(&having)),
        };
        let held = match &process.at {
            None => self.peers.here.hold(&self.name, forced, self.admin.0, &why.0),
            Some(peer) => {
                let holding = Holding { process: &process.id, name: &self.name, forced, why: &why.0 };
                Some(peer.breakers.hold(&self.token, holding).await?)
            }
        };
        Ok(Answer(process.shown(held.ok_or_else(|| self.not_found(&[]))?)))
    }

    /// It is nowhere; or nobody knows, as long as somebody does not answer.
    fn not_found(&self, unreached: &[Unreached]) -> Problem {
        let name = &self.name;
        if unreached.is_empty() {
            let detail = format!("there is no breaker `{name}`: `GET /admin/breakers` lists them");
            return Problem::new(StatusCode::NOT_FOUND, "not-found").detail(detail);
        }
        let detail = format!("there is no breaker `{name}` in the processes that answered; some did not");
        Self::unreached(detail, unreached)
    }

    /// One has it, and who else has is not known.
    fn unsure(&self, having: &Process, unreached: &[Unreached]) -> Problem {
        let detail = format!(
            "of the processes that answered only `{process}` has a breaker `{name}`, and some did not answer; say whose, by \
             name or by address: `?process={process}`",
            process = having.name,
            name = self.name
        );
        Self::unreached(detail, unreached)
    }

    fn unreached(detail: String, unreached: &[Unreached]) -> Problem {
        let problem = Problem::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable").detail(detail);
        let unreached = serde_json::to_value(unreached).unwrap_or_default();
        // It is not we who are away.
        let (of, another) = (purlin::http::FAULT_OF, http::HeaderValue::from_static("another"));
        problem.with("unreached", unreached).header(of, another)
    }

    fn ambiguous(&self, having: &[&Process]) -> Problem {
        let name = |process: &&Process| match process.endpoint() {
            Some(endpoint) => format!("{} ({endpoint})", process.name),
            None => process.name.clone(),
        };
        let names = having.iter().map(name).collect::<Vec<_>>().join(", ");
        let detail = format!(
            "several processes have a breaker `{}`: {names}; say whose, by name or by address: `?process=..`",
            self.name
        );
        Problem::new(StatusCode::CONFLICT, "breaker-ambiguous").detail(detail)
    }
}

/// Whoever opens this one cannot close it again.
fn needed(name: &str) -> Problem {
    let detail = format!(
        "`{name}` is the way to these very routes: whoever opens it here cannot close it again. `purlin breakers open` \
         does so on the operator's socket"
    );
    Problem::new(StatusCode::CONFLICT, "breaker-needed").detail(detail)
}

fn token(headers: &HeaderMap) -> Result<&str, Problem> {
    bearer(headers).ok_or_else(|| unauthorized("the request has no bearer token"))
}
