//! The stores of a stopped process, opened here and asked by the same router that a process serves.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use axum::Router;
use axum::body::Body;
use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Limited};
use purlin::service::operator::{self, Served};
use purlin::store::Store;
use purlin_sqlite::OpenError;
use tower::ServiceExt;

use crate::failure::Failure;

/// Stores that are ours as long as this is there: a process that starts meanwhile is refused.
pub(crate) struct Opened {
    router: Router,
    stores: Vec<Store>,
}

impl Opened {
    /// Opens every store in a data folder; each is one service, called as its file.
    pub(crate) async fn open(data: &Path) -> Result<Self, Failure> {
        let files = files(data)?;
        if files.is_empty() {
            return Err(Failure::NoData(data.to_owned()));
        }
        let mut opened: Vec<Served> = Vec::new();
        let mut failed = None;
        for (name, file) in files {
            match purlin_sqlite::open(&file).await {
                Ok(store) => opened.push(Served { name, store }),
                Err(error) => {
                    failed = Some(why(data, file, error));
                    break;
                }
            }
        }
        let stores = opened.iter().map(|served| served.store.clone()).collect();
        let opened = Self { router: operator::router(opened), stores };
        match failed {
            None => Ok(opened),
            Some(failure) => {
                opened.close().await;
                Err(failure)
            }
        }
    }

    /// Answers a request.
    pub(crate) async fn ask(&self, request: Request<Bytes>) -> Result<(StatusCode, Bytes), Failure> {
        let Ok(answer) = self.router.clone().oneshot(request.map(Body::from)).await;
        let (head, body) = answer.into_parts();
        let body = Limited::new(body, super::LARGEST).collect().await;
        let body = body.map_err(|error| Failure::NoAnswer(error.to_string()))?;
        Ok((head.status, body.to_bytes()))
    }

    /// Closes the stores.
    pub(crate) async fn close(self) {
        for store in &self.stores {
            store.close().await;
        }
    }
}

/// The stores' files in a data folder, in the order of their names, and what each is called.
fn files(data: &Path) -> Result<Vec<(String, PathBuf)>, Failure> {
    let entries = match std::fs::read_dir(data) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(source) => return Err(Failure::Open { path: data.to_owned(), source: source.into() }),
    };
    let mut files: Vec<(String, PathBuf)> = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|file| file.extension().is_some_and(|extension| extension == "db"))
        .filter_map(|file| Some((file.file_stem()?.to_str()?.to_owned(), file)))
        .collect();
    files.sort();
    Ok(files)
}

fn why(data: &Path, path: PathBuf, error: OpenError) -> Failure {
    match error {
        OpenError::InUse { .. } => {
            Failure::Silent { data: data.to_owned(), socket: operator::socket_path(data) }
        }
        error => Failure::Open { path, source: error.into() },
    }
}
