//! HTTP requests under a key, and without one.

use std::time::Duration;

use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode};

use crate::http::Problem;
use crate::store::{Commit, CommitError, Position};

use super::answer::{POSITION, REPLAYED, decides, of_problem};
use super::engine::{Settled, TRIES, Unsettled, Verb};
use super::entry::Answer;
use super::{Attempt, Decided, Idempotency, KeyState, WriteRequest};

impl Idempotency {
    /// Answers a request that writes: decides, commits effect and answer as one, and gives the answer again when
    /// the same caller sends the same request under the same key. Every answer bears the position that it stands on.
    ///
    /// `decide` runs again when its commit meets a conflict; whatever it does elsewhere it does under
    /// [`Attempt::key`]. Its error is an answer too: one that decides (404, 409, 422) is kept, any other frees the
    /// key. If the returned future is dropped, the key is free after five seconds.
    pub async fn run<F, Fut>(&self, caller: &str, request: &WriteRequest, decide: F) -> Response
    where
        F: Fn(Attempt) -> Fut,
        Fut: Future<Output = Result<Decided, Problem>>,
    {
        let settled = match &request.key {
            None => self.without_key(decide).await,
            Some(key) => self.with_key(caller, key, request, decide).await,
        };
        let (mut response, position, replayed) = match settled {
            Ok(Settled { answer, position, replayed }) => (answer.into_response(), position, replayed),
            // What was refused was refused on what the log had come to.
            Err(problem) => (problem.into_response(), self.store.head(), false),
        };
        if let Ok(token) = HeaderValue::try_from(self.store.token(position)) {
            response.headers_mut().insert(POSITION, token);
        }
        if replayed {
            response.headers_mut().insert(REPLAYED, HeaderValue::from_static("true"));
        }
        response
    }

    /// What a caller's key stands for in this store: for services that share their callers, and so must not both take
    /// a key.
    pub async fn state_of(&self, caller: &str, key: &str) -> Result<KeyState, Problem> {
        let ticket = self.ticket(caller, key, []).await?;
        Ok(self.state(&ticket).await?)
    }

    async fn with_key<F, Fut>(
        &self,
        caller: &str,
        key: &str,
        request: &WriteRequest,
        decide: F,
    ) -> Result<Settled, Problem>
    where
        F: Fn(Attempt) -> Fut,
        Fut: Future<Output = Result<Decided, Problem>>,
    {
        let content = [request.method.as_str().as_bytes(), request.path.as_bytes(), &request.body];
        let ticket = self.ticket(caller, key, content).await?;
        let work = |attempt, _| {
            let decided = decide(attempt);
            async { kept(decided.await) }
        };
        self.settle(&ticket, Verb::Do, work).await.map_err(problem_of)
    }

    async fn without_key<F, Fut>(&self, decide: F) -> Result<Settled, Problem>
    where
        F: Fn(Attempt) -> Fut,
        Fut: Future<Output = Result<Decided, Problem>>,
    {
        let id = crate::message::new_id();
        for number in 1..=TRIES {
            let (commit, answer) = decide(Attempt { id, number }).await?.split();
            match self.commit(commit).await {
                Ok(position) => return Ok(Settled { answer, position, replayed: false }),
                Err(CommitError::Conflict(_)) => tokio::task::yield_now().await,
                Err(error) => return Err(error.into()),
            }
        }
        Err(problem_of(Unsettled::Contended))
    }

    async fn commit(&self, commit: Commit) -> Result<Position, CommitError> {
        if commit.is_empty() {
            return Ok(self.store.head());
        }
        Ok(self.store.commit(commit).await?.position)
    }
}

/// The types of problems that say something of the key, not of the request.
const OF_KEYS: [&str; 2] = ["/problems/idempotency-key-reused", "/problems/idempotency-key-in-progress"];

/// What is stored with the effect; a problem that does not decide is an error here, and frees the key.
fn kept(decided: Result<Decided, Problem>) -> Result<(Commit, Answer), Problem> {
    match decided {
        Ok(decided) => Ok(decided.split()),
        // What is said of the key itself is no answer to the request.
        Err(problem) if OF_KEYS.contains(&&*problem.type_) => Err(problem),
        Err(problem) if decides(problem.status) => Ok((Commit::new(), of_problem(&problem))),
        Err(problem) => Err(problem),
    }
}

fn problem_of(unsettled: Unsettled<Problem>) -> Problem {
    match unsettled {
        Unsettled::Failed(problem) => problem,
        Unsettled::TooLate(error) => error.into(),
        Unsettled::Commit(error) => error.into(),
        Unsettled::Read(error) => error.into(),
        Unsettled::InProgress => Problem::new(StatusCode::CONFLICT, "idempotency-key-in-progress")
            .detail("a request with this Idempotency-Key is still running: send it again in a moment")
            .retry_after(Duration::from_secs(1)),
        Unsettled::Reused => Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "idempotency-key-reused")
            .detail("this Idempotency-Key was used for another request: choose a new one"),
        Unsettled::Undone => Problem::new(StatusCode::CONFLICT, "undone")
            .detail("the request with this Idempotency-Key was taken back: it is never done"),
        Unsettled::Contended => Problem::new(StatusCode::SERVICE_UNAVAILABLE, "contended")
            .detail("too many others change the same thing at this moment")
            .retry_after(Duration::from_secs(1)),
    }
}
