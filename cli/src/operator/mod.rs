//! Whoever answers an operator's questions: a running process, or the stores of a stopped one.

mod socket;
mod stores;

use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, StatusCode};
use serde_json::Value;

use crate::failure::Failure;
use crate::place::Place;
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
    /// Finds who answers for some stores: the process on their folder, or, when nobody holds their locks, we ourselves;
    /// we beside others for those in PostgreSQL.
    pub(crate) async fn reach(place: &Place) -> Result<Self, Failure> {
        let data = match place {
            Place::Database { url, service } => {
                return Opened::in_postgres(place, url, service.as_deref()).await.map(Self::Stores);
            }
            Place::Folder(folder) => folder.clone(),
            Place::File(file, _) => folder_of(file),
        };
        match Socket::connect(&data).await? {
            Some(socket) => Ok(Self::Process(socket)),
            None => Opened::of_sqlite(place, &data).await.map(Self::Stores),
        }
    }

    /// The stores, when it is we who have them open, with the names of their services.
    pub(crate) fn stores(&self) -> &[purlin::service::operator::Served] {
        match self {
            Self::Process(_) => &[],
            Self::Stores(opened) => opened.stores(),
        }
    }

    /// Whether it is sure that no process runs on the data: what is asked for is done when one is started.
    pub(crate) fn alone(&self) -> bool {
        match self {
            Self::Process(_) => false,
            Self::Stores(opened) => opened.alone(),
        }
    }

    /// Asks for something.
    pub(crate) async fn get(&self, path: &str) -> Result<Value, Failure> {
        self.ask(Method::GET, path, None).await
    }

    /// Asks to do something.
    pub(crate) async fn post(&self, path: &str) -> Result<Value, Failure> {
        self.ask(Method::POST, path, None).await
    }

    /// Asks to do something, and says more about it.
    pub(crate) async fn post_with(&self, path: &str, body: Option<&Value>) -> Result<Value, Failure> {
        self.ask(Method::POST, path, body).await
    }

    /// Asks to do something that takes as long as it takes.
    pub(crate) async fn post_patiently(&self, path: &str) -> Result<Value, Failure> {
        let (status, body) = self.exchange(Method::POST, path, None).await?;
        read(status, &body)
    }

    async fn ask(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Value, Failure> {
        let answer = tokio::time::timeout(PATIENCE, self.exchange(method, path, body)).await;
        let (status, body) = answer
            .map_err(|_| Failure::NoAnswer(format!("nothing came within {} s", PATIENCE.as_secs())))??;
        read(status, &body)
    }

    async fn exchange(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<(StatusCode, Bytes), Failure> {
        let request = Request::builder().method(method).uri(path).header(http::header::HOST, "operator");
        let (request, body) = match body {
            None => (request, Bytes::new()),
            Some(body) => {
                (request.header(http::header::CONTENT_TYPE, "application/json"), body.to_string().into())
            }
        };
        let request = request.body(body).map_err(|error| Failure::NoAnswer(error.to_string()))?;
        match self {
            Self::Process(socket) => socket.ask(request).await,
            Self::Stores(stores) => stores.ask(request).await,
        }
    }

    /// Closes what was opened, so that nothing waits in memory when the program ends.
    pub(crate) async fn close(self) {
        if let Self::Stores(stores) = self {
            stores.close().await;
        }
    }
}

/// The folder of a file.
pub(crate) fn folder_of(file: &Path) -> PathBuf {
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty());
    folder.unwrap_or(Path::new(".")).to_owned()
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
