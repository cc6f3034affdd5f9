//! The stores of a stopped process, or those in a database, opened here and asked by the same router that a process
//! serves.

use std::path::{Path, PathBuf};

use axum::Router;
use axum::body::Body;
use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Limited};
use purlin::service::operator::{self, Served};
use purlin::store::{Store, transfer};
use purlin_postgres::Postgres;
use purlin_sqlite::{OpenError, Sqlite};
use tower::ServiceExt;

use crate::failure::Failure;
use crate::place::{Place, sqlite_files};

/// Stores that are open as long as this is there. Those in files are ours alone: a process that starts meanwhile is
/// refused.
pub(crate) struct Opened {
    router: Router,
    stores: Vec<Served>,
    alone: bool,
}

impl Opened {
    /// Opens the store of a file, or every one in a folder; each is one service, called as its file.
    pub(crate) async fn of_sqlite(place: &Place, data: &Path) -> Result<Self, Failure> {
        let files = match place {
            Place::File(file, _) if file.is_file() => {
                let name = file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
                vec![(name, file.clone())]
            }
            Place::File(file, _) => return Err(Failure::NoData(file.clone())),
            _ => sqlite_files(data)?,
        };
        if files.is_empty() {
            return Err(Failure::NoData(data.to_owned()));
        }
        let mut opened = Vec::new();
        for (name, file) in files {
            let mut options = purlin_sqlite::Options::new(&file);
            // It can be looked at.
            options.half_imported = true;
            if let Place::File(_, archive) = place {
                options.archive.clone_from(archive);
            }
            match Sqlite::open(options).await {
                Ok(engine) => opened.push(Served { name, store: Store::new(engine) }),
                Err(error) => {
                    let failure = why(data, file, error);
                    Self::new(opened, true).close().await;
                    return Err(failure);
                }
            }
        }
        Ok(Self::new(opened, true))
    }

    /// Opens the stores in a database, or the one of a service. Processes that use them go on; what one does here they
    /// take note of, as they do of each other.
    pub(crate) async fn in_postgres(
        place: &Place,
        url: &str,
        service: Option<&str>,
    ) -> Result<Self, Failure> {
        let cannot = |error: purlin_postgres::OpenError| Failure::Open {
            path: place.to_string().into(),
            source: error.into(),
        };
        let mut found = purlin_postgres::inspect(url).await.map_err(cannot)?.stores;
        found.retain(|store| service.is_none_or(|service| store.name == service));
        if found.is_empty() {
            return Err(Failure::NoSuchThing(format!("there is no store in {place}")));
        }
        // Who opens a store of an older format brings it up to date, under the feet of whoever uses it.
        if let Some(old) = found.iter().find(|store| store.in_use && store.format < store.known) {
            return Err(Failure::Refused(format!(
                "the store of `{}` has format {} and is in use by an older program: stop that first, or use its own \
                 command line (this one knows format {})",
                old.name, old.format, old.known
            )));
        }
        let mut opened = Vec::new();
        for store in found {
            let options = purlin_postgres::Options::new(url, &store.name);
            let options = purlin_postgres::Options { half_imported: true, ..options };
            match Postgres::open(options).await {
                Ok(open) => opened.push(Served { name: store.name, store: Store::new(open) }),
                Err(error) => {
                    Self::new(opened, false).close().await;
                    return Err(cannot(error));
                }
            }
        }
        Ok(Self::new(opened, false))
    }

    fn new(stores: Vec<Served>, alone: bool) -> Self {
        Self { router: operator::router(stores.clone()), stores, alone }
    }

    /// The stores.
    pub(crate) fn stores(&self) -> &[Served] {
        &self.stores
    }

    /// Whether nobody else can have one of them open; of those in a database nobody knows.
    pub(crate) fn alone(&self) -> bool {
        self.alone
    }

    /// Answers a request.
    pub(crate) async fn ask(&self, request: Request<Bytes>) -> Result<(StatusCode, Bytes), Failure> {
        if request.method() != http::Method::GET {
            self.refuse_half_imported().await?;
        }
        let Ok(answer) = self.router.clone().oneshot(request.map(Body::from)).await;
        let (head, body) = answer.into_parts();
        let body = Limited::new(body, super::LARGEST).collect().await;
        let body = body.map_err(|error| Failure::NoAnswer(error.to_string()))?;
        Ok((head.status, body.to_bytes()))
    }

    /// A store that is half imported can be looked at, and nothing else.
    async fn refuse_half_imported(&self) -> Result<(), Failure> {
        for Served { name, store } in &self.stores {
            if matches!(transfer::unfinished(store).await, Ok(Some(_))) {
                return Err(Failure::Refused(format!(
                    "the store of `{name}` is half imported: finish the import, or remove the store"
                )));
            }
        }
        Ok(())
    }

    /// Closes the stores.
    pub(crate) async fn close(self) {
        for served in &self.stores {
            served.store.close().await;
        }
    }
}

fn why(data: &Path, path: PathBuf, error: OpenError) -> Failure {
    match error {
        OpenError::InUse { .. } => {
            Failure::Silent { data: data.to_owned(), socket: operator::socket_path(data) }
        }
        error => Failure::Open { path, source: error.into() },
    }
}
