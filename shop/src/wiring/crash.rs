//! A switch that only builds for tests have: the process ends, as by a power cut, before or after a chosen commit.
//!
//! `POST /crash {"when": "before" | "after", "commits": 3}` at the console's address arms it: it counts commits of
//! all stores of the process from then on.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use axum::extract::State;
use axum::routing::post;
use axum::{Json, Router};
use http::StatusCode;
use purlin::message::Timestamp;
use purlin::store::{
    BoxFuture, Cause, Collection, Commit, CommitError, Committed, Engine, LogFilter, LogId, LogPage,
    Position, Query, ReadError, Record, Recorded, Store, StreamId,
};
use serde::Deserialize;
use tokio::sync::watch;

/// The switch; cheap to clone.
#[derive(Clone, Default)]
pub struct Crash {
    /// How many commits are left before it happens; 0 or less: it is not armed.
    before: Arc<AtomicI64>,
    after: Arc<AtomicI64>,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "snake_case")]
enum When {
    Before,
    After,
}

#[derive(Debug, Deserialize)]
struct Order {
    when: When,
    commits: i64,
}

impl Crash {
    /// The route that arms it.
    pub fn router(&self) -> Router {
        Router::new().route("/crash", post(arm)).with_state(self.clone())
    }

    /// A store whose commits it counts.
    pub fn guard(&self, engine: impl Engine) -> Store {
        Store::new(Guarded { engine, crash: self.clone() })
    }

    fn count(left: &AtomicI64) {
        if left.load(Ordering::Acquire) > 0 && left.fetch_sub(1, Ordering::AcqRel) == 1 {
            std::process::abort();
        }
    }
}

async fn arm(State(crash): State<Crash>, Json(order): Json<Order>) -> StatusCode {
    let left = match order.when {
        When::Before => &crash.before,
        When::After => &crash.after,
    };
    left.store(order.commits, Ordering::Release);
    StatusCode::NO_CONTENT
}

/// An engine whose commits are counted.
struct Guarded<E> {
    engine: E,
    crash: Crash,
}

impl<E: Engine> Engine for Guarded<E> {
    fn commit(&self, commit: Commit) -> BoxFuture<'_, Result<Committed, CommitError>> {
        Box::pin(async move {
            Crash::count(&self.crash.before);
            let committed = self.engine.commit(commit).await;
            Crash::count(&self.crash.after);
            committed
        })
    }

    fn log_id(&self) -> LogId {
        self.engine.log_id()
    }

    fn read_stream(
        &self,
        stream: StreamId,
        from: u64,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<Recorded>, ReadError>> {
        self.engine.read_stream(stream, from, limit)
    }

    fn read_log(
        &self,
        after: Position,
        filter: LogFilter,
        limit: usize,
    ) -> BoxFuture<'_, Result<LogPage, ReadError>> {
        self.engine.read_log(after, filter, limit)
    }

    fn watch(&self) -> watch::Receiver<Position> {
        self.engine.watch()
    }

    fn get(&self, collection: String, key: String) -> BoxFuture<'_, Result<Option<Record>, ReadError>> {
        self.engine.get(collection, key)
    }

    fn list(&self, collection: String, query: Query) -> BoxFuture<'_, Result<Vec<Record>, ReadError>> {
        self.engine.list(collection, query)
    }

    fn due(
        &self,
        collection: String,
        until: Timestamp,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<Record>, ReadError>> {
        self.engine.due(collection, until, limit)
    }

    fn define(&self, collection: Collection) -> BoxFuture<'_, Result<(), CommitError>> {
        self.engine.define(collection)
    }

    fn swap(&self, from: String, to: String) -> BoxFuture<'_, Result<(), CommitError>> {
        self.engine.swap(from, to)
    }

    fn drop_collection(&self, name: String) -> BoxFuture<'_, Result<(), CommitError>> {
        self.engine.drop_collection(name)
    }

    fn backup<'a>(&'a self, to: &'a Path) -> BoxFuture<'a, Result<(), Cause>> {
        self.engine.backup(to)
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        self.engine.close()
    }
}
