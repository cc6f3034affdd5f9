//! The stores themselves, asked for by an operator: which log each is, who follows it, and copies of them.

use std::path::PathBuf;

use axum::extract::State;
use http::StatusCode;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::bus::{self, AcceptError, Acceptance, Follower, FollowerKind};
use crate::http::{Json, Path, Problem, Query};
use crate::store::{Position, Store, transfer};

use super::{Services, bad_request, not_found, told};

/// Which log a store is, and what it holds.
pub(super) async fn show(
    State(services): State<Services>,
    Path(service): Path<String>,
) -> Result<Json<Value>, Problem> {
    let store = services.store(&service)?;
    let collections = store.collections().await?;
    let names: Vec<&str> = collections.iter().map(|collection| &*collection.name).collect();
    Ok(Json(json!({
        "log": store.log_id().log,
        "incarnation": store.log_id().incarnation,
        "head": store.head(),
        "now": store.now(),
        "collections": names,
        "half_imported": transfer::unfinished(store).await?.is_some(),
    })))
}

/// Who follows the logs of these services, and how far behind: the relays and groups of all stores.
pub(super) async fn followers(State(services): State<Services>) -> Result<Json<Value>, Problem> {
    let mut items = Vec::new();
    for (service, store) in services.0.iter() {
        for follower in bus::followers(store).await? {
            // A life of the log that ended is another log to whoever follows it.
            let same = services.0.iter().find(|(_, store)| store.log_id() == follower.log);
            let other_life = services.lives_of(&follower).next().or_else(|| services.successor_of(&follower));
            let other_life = other_life.filter(|_| same.is_none());
            // Later than the follower was read, so that one who is at work never seems to be beyond the end.
            let head = match same.or(other_life) {
                Some((_, store)) => Some(store.head_up_to(follower.furthest).await?),
                None => None,
            };
            let lag = head.filter(|_| same.is_some()).map(|head| head.0.saturating_sub(follower.position.0));
            items.push(json!({
                "service": service,
                "kind": follower.kind,
                "name": follower.name,
                "follows": same.map(|(name, _)| name),
                "position": follower.position,
                "furthest": follower.furthest,
                "head": head,
                "lag": lag,
                "other_incarnation": other_life.is_some(),
                "other_log": other_life.is_some_and(|(_, store)| store.log_id().log != follower.log.log),
                "refuses": other_life.is_some() || head.is_some_and(|head| head < follower.furthest),
                "log": same.or(other_life).map(|(name, _)| name),
                "knows": follower.log.incarnation,
                "found": same.or(other_life).map(|(_, store)| store.log_id().incarnation),
            }));
        }
    }
    Ok(Json(json!({ "items": items })))
}

impl Services {
    /// The stores whose log somebody follows, in whichever life of it.
    fn lives_of(&self, follower: &Follower) -> impl Iterator<Item = (&String, &Store)> {
        let log = follower.log.log;
        self.0.iter().filter(move |(_, store)| store.log_id().log == log)
    }

    /// The store of the service that a relay copies, if that has begun another log since the one that was copied was lost.
    fn successor_of(&self, follower: &Follower) -> Option<(&String, &Store)> {
        let is_lost = self.lives_of(follower).next().is_none();
        let is_of =
            |(name, _): &(&String, &Store)| follower.kind == FollowerKind::Relay && **name == follower.name;
        self.0.iter().filter(|_| is_lost).find(is_of)
    }

    /// The store whose log somebody follows. Where a copy lies beside it, nobody but a person knows which is meant.
    fn followed(&self, follower: &Follower) -> Result<(&String, &Store), Problem> {
        let lives: Vec<_> = self.lives_of(follower).collect();
        match lives[..] {
            [one] => Ok(one),
            [] => self
                .successor_of(follower)
                .ok_or_else(|| not_found(format!("the log that `{}` follows is not here", follower.name))),
            _ => {
                let names: Vec<&str> = lives.iter().map(|(name, _)| name.as_str()).collect();
                Err(Problem::new(StatusCode::CONFLICT, "several-lives").detail(format!(
                    "{} are the same log, or lives of it, and which of them `{}` follows is not known: put all but that \
                     elsewhere",
                    names.join(", "),
                    follower.name
                )))
            }
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Accepting {
    /// Whose store keeps how far the follower has come.
    service: String,
    kind: FollowerKind,
    name: String,
    after: Position,
    #[serde(default)]
    dry_run: bool,
}

/// Lets somebody who refuses a log go on with it, or says what that would do.
pub(super) async fn accept(
    State(services): State<Services>,
    Query(wanted): Query<Accepting>,
) -> Result<Json<Value>, Problem> {
    let Accepting { service, kind, name, after, dry_run } = wanted;
    let store = services.store(&service)?;
    let all = bus::followers(store).await?;
    let follower = all.into_iter().find(|one| one.kind == kind && one.name == name);
    let follower =
        follower.ok_or_else(|| not_found(format!("`{service}` has no such follower as `{name}`")))?;
    let (log, followed) = services.followed(&follower)?;
    let acceptance = Acceptance::of_successor(store, &follower, followed, after).await.map_err(refused)?;
    let (from, dropped) = (acceptance.from, acceptance.dropped);
    if !dry_run {
        acceptance.apply().await.map_err(refused)?;
        tracing::warn!(
            service,
            name,
            log,
            %after,
            %from,
            dropped,
            "an operator lets a follower go on with another life of its log"
        );
    }
    let head = followed.head_up_to(follower.furthest.max(after)).await?;
    Ok(Json(json!({
        "service": service, "kind": kind, "name": name, "log": log,
        "knows": follower.log.incarnation, "found": followed.log_id().incarnation,
        "position": follower.position, "furthest": follower.furthest, "after": after, "from": from,
        "head": head, "dropped": dropped, "done": !dry_run,
        "other_log": followed.log_id().log != follower.log.log,
    })))
}

fn refused(error: AcceptError) -> Problem {
    let said = told(&error);
    Problem::from(error).detail(said)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Copy {
    to: PathBuf,
}

/// Writes a copy of a store to a new file, as of one instant, while it is used.
pub(super) async fn backup(
    State(services): State<Services>,
    Path(service): Path<String>,
    Query(wanted): Query<Copy>,
) -> Result<Json<Value>, Problem> {
    let store = services.store(&service)?;
    if !wanted.to.is_absolute() {
        return Err(bad_request(format!("`{}` is no absolute path", wanted.to.display())));
    }
    match store.backup(&wanted.to).await {
        Ok(()) => {
            tracing::info!(service, to = %wanted.to.display(), "an operator had a backup written");
            Ok(Json(json!({ "to": wanted.to })))
        }
        Err(error) => Err(Problem::new(StatusCode::CONFLICT, "no-backup").detail(told(&*error))),
    }
}
