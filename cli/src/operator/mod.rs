//! Whoever answers an operator's questions: a running process, or the stores of a stopped one.

mod socket;
mod stores;

use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, StatusCode};
use serde_json::Value;

use crate::failure::Failure;
use socket::Socket;
use stores::Opened;

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// Larger answers than this are nothing that was asked for.
const LARGEST: usize = 64 * 1024 * 1024;

/// Answers an operator's questions.
pub(crate) enum Operator {
    /// A process that runs.
    Process(Socket),
    /// Stores that nobody else has open.
    Stores(Opened),
}

impl Operator {
    /// Finds who answers for a data folder: the process on it, or, when nobody holds the lock, we ourselves.
    pub(crate) async fn reach(data: &Path) -> Result<Self, Failure> {
        match Socket::connect(data).await? {
            Some(socket) => Ok(Self::Process(socket)),
            None => Opened::open(data).await.map(Self::Stores),
        }
    }

    /// Asks for something.
    pub(crate) async fn get(&self, path: &str) -> Result<Value, Failure> {
        self.ask(Method::GET, path).await
    }

    /// Asks to do something.
    pub(crate) async fn post(&self, path: &str) -> Result<Value, Failure> {
        self.ask(Method::POST, path).await
    }

    async fn ask(&self, method: Method, path: &str) -> Result<Value, Failure> {
        let request = Request::builder().method(method).uri(path).header(http::header::HOST, "operator");
        let request = request.body(Bytes::new()).map_err(|error| Failure::NoAnswer(error.to_string()))?;
        let answer = async {
            match self {
                Self::Process(socket) => socket.ask(request).await,
                Self::Stores(stores) => stores.ask(request).await,
            }
        };
        let answer = tokio::time::timeout(PATIENCE, answer).await;
        let (status, body) = answer
            .map_err(|_| Failure::NoAnswer(format!("nothing came within {} s", PATIENCE.as_secs())))??;
        read(status, &body)
    }

    /// Closes what was opened, so that nothing waits in memory when the program ends.
    pub(crate) async fn close(self) {
        if let Self::Stores(stores) = self {
            stores.close().await;
        }
    }
}

fn read(status: StatusCode, body: &Bytes) -> Result<Value, Failure> {
    let body = if body.is_empty() { Ok(Value::Null) } else { serde_json::from_slice(body) };
    match body {
        Ok(body) if status.is_success() => Ok(body),
        Ok(body) => Err(Failure::of_problem(status, &body)),
        Err(_) if !status.is_success() => Err(Failure::of_problem(status, &Value::Null)),
        Err(error) => Err(Failure::NoAnswer(format!("the answer is not JSON: {error}"))),
    }
}
