//! Where stores are, as it is typed.

use std::path::{Path, PathBuf};

use purlin::store::{LogId, Store};
use purlin_postgres::Postgres;
use purlin_sqlite::Sqlite;

use crate::failure::Failure;

/// Where stores are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Place {
    /// A folder of SQLite files, each the store of a service.
    Folder(PathBuf),
    /// The SQLite file of one, and where its archive is, if that is said.
    File(PathBuf, Option<PathBuf>),
    /// A PostgreSQL database: a schema each, or the one that is named.
    Database { url: String, service: Option<String> },
}

impl Place {
    /// Reads a URL.
    pub(crate) fn parse(url: &str) -> Result<Self, Failure> {
        if let Some(path) = url.strip_prefix("sqlite:").filter(|path| !path.is_empty()) {
            let (path, archive) = match path.split_once("?archive=") {
                Some((path, archive)) if !archive.is_empty() => (path, Some(PathBuf::from(archive))),
                _ => (path, None),
            };
            let path = PathBuf::from(path);
            let is_file = path.extension().is_some_and(|extension| extension == "db") || path.is_file();
            return match (is_file, archive) {
                (true, archive) => Ok(Self::File(path, archive)),
                (false, None) => Ok(Self::Folder(path)),
                (false, Some(_)) => Err(Failure::Usage(
                    "an archive belongs to one store: name its file, `sqlite:FILE.db?archive=FILE`"
                        .to_owned(),
                )),
            };
        }
        if url.starts_with("postgres://") || url.starts_with("postgresql://") {
            let (url, service) = without_service(url);
            return Ok(Self::Database { url, service });
        }
        Err(Failure::Usage(
            "a place of stores is written `sqlite:DIR`, `sqlite:FILE.db` (`?archive=FILE` behind it if its archive is \
             elsewhere) or `postgres://user@host/database?service=NAME`"
                .to_owned(),
        ))
    }

    /// The same with the archive of its one store in this place.
    pub(crate) fn with_archive(self, archive: &Path) -> Result<Self, Failure> {
        match self {
            Self::File(file, None) => Ok(Self::File(file, Some(archive.to_owned()))),
            Self::File(file, Some(said)) if said == archive => Ok(Self::File(file, Some(said))),
            Self::File(_, Some(said)) => Err(Failure::Usage(format!(
                "`?archive={}` and `--archive {}` are two places: say one of them",
                said.display(),
                archive.display()
            ))),
            Self::Folder(_) => Err(Failure::Usage(
                "an archive belongs to one store: name its file, `--store sqlite:FILE.db --archive FILE`"
                    .to_owned(),
            )),
            Self::Database { .. } => Err(Failure::Usage(
                "the archive of a store in PostgreSQL is in the database: `--archive` is for SQLite"
                    .to_owned(),
            )),
        }
    }

    /// The place of one service's store.
    pub(crate) fn of(self, service: Option<&str>) -> Result<Self, Failure> {
        match (self, service) {
            (Self::Folder(folder), Some(service)) => {
                Ok(Self::File(folder.join(format!("{service}.db")), None))
            }
            (Self::Folder(folder), None) => match &sqlite_files(&folder)?[..] {
                [(_, file)] => Ok(Self::File(file.clone(), None)),
                [] => Err(Failure::NoData(folder)),
                several => Err(say_which(several.iter().map(|(name, _)| name.as_str()))),
            },
            (Self::Database { url, service: None }, Some(service)) => {
                Ok(Self::Database { url, service: Some(service.to_owned()) })
            }
            (Self::Database { service: None, .. }, None) => {
                Err(Failure::Usage("say which store of the database: `..?service=NAME`".to_owned()))
            }
            (place, _) => Ok(place),
        }
    }

    /// Opens the one store that is here, alone. It must be there.
    pub(crate) async fn open(&self) -> Result<Store, Failure> {
        match self {
            Self::File(file, _) if !file.exists() => {
                Err(Failure::NoSuchThing(format!("there is no store `{}`", file.display())))
            }
            Self::Database { url, service: Some(service) } => {
                let found = purlin_postgres::inspect(url).await.map_err(|error| self.cannot_open(error))?;
                if !found.stores.iter().any(|store| store.name == *service) {
                    let said = format!("there is no store of `{service}` in the database");
                    return Err(Failure::NoSuchThing(said));
                }
                self.make(None).await
            }
            _ => self.make(None).await,
        }
    }

    /// Opens the one store that is here, alone, or makes it: as this log, if it is said.
    pub(crate) async fn make(&self, log: Option<LogId>) -> Result<Store, Failure> {
        // Whoever says which log it is imports it, and may go on with that.
        let half_imported = log.is_some();
        match self {
            Self::File(file, archive) => {
                let archive = archive.clone();
                let options = purlin_sqlite::Options::new(file);
                let options = purlin_sqlite::Options { log, archive, half_imported, ..options };
                let opened = Sqlite::open(options).await;
                opened.map(Store::new).map_err(|error| self.cannot_open(error))
            }
            Self::Database { url, service: Some(service) } => {
                let options = purlin_postgres::Options::new(url, service);
                let options = purlin_postgres::Options { log, half_imported, sole: true, ..options };
                let opened = Postgres::open(options).await;
                opened.map(Store::new).map_err(|error| self.cannot_open(error))
            }
            _ => Err(Failure::Refused(format!("`{self}` is not the place of one store"))),
        }
    }

    fn cannot_open(&self, error: impl std::error::Error + Send + Sync + 'static) -> Failure {
        Failure::Open { path: self.to_string().into(), source: error.into() }
    }
}

impl std::fmt::Display for Place {
    /// Without the password that a URL may have.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Folder(path) | Self::File(path, _) => write!(f, "{}", path.display()),
            Self::Database { url, service } => {
                let behind = url
                    .split_once('@')
                    .map_or_else(|| url.split_once("://").map_or("", |(_, rest)| rest), |(_, behind)| behind);
                let database = behind.split('?').next().unwrap_or_default();
                match service {
                    Some(service) => write!(f, "{service} in postgres://{database}"),
                    None => write!(f, "postgres://{database}"),
                }
            }
        }
    }
}

/// The URL without the parameter that is ours, and its value.
fn without_service(url: &str) -> (String, Option<String>) {
    let Some((base, query)) = url.split_once('?') else { return (url.to_owned(), None) };
    let (mut kept, mut service) = (Vec::new(), None);
    for part in query.split('&') {
        match part.strip_prefix("service=").filter(|name| !name.is_empty()) {
            Some(name) => service = Some(name.to_owned()),
            None => kept.push(part),
        }
    }
    let base = if kept.is_empty() { base.to_owned() } else { format!("{base}?{}", kept.join("&")) };
    (base, service)
}

/// The refusal to guess.
pub(crate) fn say_which<'a>(services: impl Iterator<Item = &'a str>) -> Failure {
    let services = services.collect::<Vec<_>>().join(", ");
    Failure::Refused(format!("there are several services: say which with --service ({services})"))
}

/// The stores' files in a data folder, in the order of their names, and what each is called.
pub(crate) fn sqlite_files(data: &Path) -> Result<Vec<(String, PathBuf)>, Failure> {
    let entries = match std::fs::read_dir(data) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_read_and_shown_without_a_password() {
        let place = |url| Place::parse(url).expect("a place");
        assert_eq!(place("sqlite:data"), Place::Folder("data".into()));
        assert_eq!(place("sqlite:data/orders.db"), Place::File("data/orders.db".into(), None));
        let archived = place("sqlite:data/orders.db?archive=/cold/orders");
        assert_eq!(archived, Place::File("data/orders.db".into(), Some("/cold/orders".into())));
        let database = place("postgres://ada:secret@db:5432/shop?service=orders&connect_timeout=3");
        let url = "postgres://ada:secret@db:5432/shop?connect_timeout=3".to_owned();
        assert_eq!(database, Place::Database { url, service: Some("orders".into()) });
        assert_eq!(database.to_string(), "orders in postgres://db:5432/shop");
        for wrong in ["data", "sqlite:", "mysql://db/shop", "sqlite:data?archive=/cold/orders"] {
            assert!(matches!(Place::parse(wrong), Err(Failure::Usage(_))), "{wrong}");
        }
    }

    #[test]
    fn an_archive_may_be_named_apart_and_only_once() {
        let with = |url: &str| Place::parse(url)?.with_archive(Path::new("/cold/orders"));
        let said = Place::File("data/orders.db".into(), Some("/cold/orders".into()));
        assert_eq!(with("sqlite:data/orders.db").expect("a place"), said);
        assert_eq!(with("sqlite:data/orders.db?archive=/cold/orders").expect("a place"), said);
        for wrong in ["sqlite:data/orders.db?archive=/warm/orders", "sqlite:data", "postgres://db/shop"] {
            assert!(matches!(with(wrong), Err(Failure::Usage(_))), "{wrong}");
        }
    }
}
