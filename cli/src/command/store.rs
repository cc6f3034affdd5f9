//! `purlin store`: copies of stores, and moving them.

use std::fs::{File, OpenOptions};
use std::os::fd::AsFd as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use purlin::store::transfer::{self, ExportError, ImportError, Importer, Moved};
use serde_json::{Value, json};
use tokio::io::{AsyncWriteExt as _, BufReader, duplex};

use super::{Outcome, encoded, encoded_query, services};
use crate::arguments::{Abandon, Backup, Export, Import, Move, NewIncarnation, Restore, Store};
use crate::failure::Failure;
use crate::operator::{Operator, folder_of};
use crate::place::{Place, say_which};
use crate::progress::Bar;

/// Bytes between an export and the import of it.
const PIPE: usize = 4 << 20;

pub(super) async fn run(place: Place, command: &Store) -> Result<Outcome, Failure> {
    match command {
        Store::Backup(wanted) => backup(&place, wanted).await,
        Store::Restore(wanted) => restore(wanted).await,
        Store::Accept(wanted) => {
            let operator = Operator::reach(&place).await?;
            let done = super::accept::run(&operator, wanted).await;
            operator.close().await;
            done
        }
        Store::NewIncarnation(wanted) => begin_anew(place, wanted).await,
        Store::AbandonMasterKey(wanted) => {
            let operator = Operator::reach(&place).await?;
            let done = abandon(&operator, wanted).await;
            operator.close().await;
            done
        }
        Store::Export(wanted) => export(place, wanted).await,
        Store::Import(wanted) => import(wanted).await,
        Store::Move(wanted) => move_store(wanted).await,
    }
}

async fn backup(place: &Place, wanted: &Backup) -> Result<Outcome, Failure> {
    if wanted.to == Path::new("-") {
        return Err(Failure::Usage(
            "a copy is written to a file (a second one beside it if the store has an archive), not to the standard \
             output: name one; `purlin store export --to -` writes there"
                .to_owned(),
        ));
    }
    let operator = Operator::reach(place).await?;
    let copied = copy(&operator, place, wanted).await;
    operator.close().await;
    let service = copied?;
    let mut copy = described(&wanted.to).await?;
    let head = copy["head"].clone();
    copy["service"] = service.clone().into();
    let said = format!(
        "`{}` is a copy of the store of {service}, checked: {head} events up to {}",
        wanted.to.display(),
        copy["last"].as_str().unwrap_or("now")
    );
    Ok(Outcome::Done { said, answer: copy })
}

/// Has a store take another master key than the one that is lost; or says what would be lost.
async fn abandon(operator: &Operator, wanted: &Abandon) -> Result<Outcome, Failure> {
    let Abandon { master, service, yes } = wanted;
    let known = services(operator, service.as_deref()).await?;
    let [service] = &known[..] else { return Err(say_which(known.iter().map(String::as_str))) };
    let path = format!("/{}/personal", encoded(service));
    let keys = operator.get(&path).await?;
    let count = keys["wrapped"][master].as_u64().unwrap_or(0);
    if !yes {
        return Err(Failure::Refused(format!(
            "{count} keys of {service} are wrapped in the master key `{master}`: what they seal can then be read by nobody, \
             and nothing more is written about those people. Nothing was changed: say it again with --yes to do so"
        )));
    }
    let answer = operator.post(&format!("{path}/abandon?{}", encoded_query(&[("master", master)]))).await?;
    let said =
        format!("the store of {service} takes the next master key that it is given; {count} keys are lost");
    Ok(Outcome::Done { said, answer })
}

/// Has the copy written, by whoever has the store open; it grows in a file of our own machine.
async fn copy(operator: &Operator, place: &Place, wanted: &Backup) -> Result<String, Failure> {
    let stem = |file: &Path| file.file_stem().map(|stem| stem.to_string_lossy().into_owned());
    let named = match place {
        Place::File(file, _) if wanted.service.is_none() => stem(file),
        _ => wanted.service.clone(),
    };
    let known = services(operator, named.as_deref()).await?;
    let [service] = &known[..] else { return Err(say_which(known.iter().map(String::as_str))) };
    let to = std::path::absolute(&wanted.to).map_err(|error| cannot_open(&wanted.to, error))?;
    outside(place, &to)?;
    let Some(path) = to.to_str() else {
        return Err(Failure::Refused("the path of a copy must be UTF-8".to_owned()));
    };
    let parts = ["", ".archive"].map(|file| PathBuf::from(format!("{path}{file}.part")));
    let whole = match place {
        Place::Folder(folder) => sizes(&folder.join(format!("{service}.db"))).await,
        Place::File(file, _) => sizes(file).await,
        Place::Database { .. } => 0,
    };
    let asked = format!("/{}/store/backup?{}", encoded(service), encoded_query(&[("to", path)]));
    let bar = Bar::new(&format!("copying {service}"), "bytes");
    let written = operator.post_patiently(&asked);
    tokio::pin!(written);
    loop {
        tokio::select! {
            answer = &mut written => return answer.map(|_| service.clone()),
            () = tokio::time::sleep(Duration::from_millis(250)) => {
                bar.at(parts.iter().map(|part| size(part)).sum(), whole);
            }
        }
    }
}

/// Refuses a copy in the folder of what it is a copy of: there it would pass for a store, and go the way of the original.
fn outside(place: &Place, to: &Path) -> Result<(), Failure> {
    let data = match place {
        Place::Folder(folder) => folder.clone(),
        Place::File(file, _) => folder_of(file),
        Place::Database { .. } => return Ok(()),
    };
    let data = data.canonicalize().map_err(|error| cannot_open(&data, error))?;
    let folder = folder_of(to);
    let folder = folder.canonicalize().map_err(|error| cannot_open(&folder, error))?;
    match folder.starts_with(&data) {
        true => Err(Failure::Refused(format!(
            "`{}` is in the data folder `{}`: a copy there would pass for a store of its own, and be lost with the \
             original; name a file elsewhere",
            to.display(),
            data.display()
        ))),
        false => Ok(()),
    }
}

/// How large a store is, with its archive.
async fn sizes(file: &Path) -> u64 {
    let archive = purlin_sqlite::inspect(file).await.ok().and_then(|found| found.archive);
    size(file) + archive.map_or(0, |archive| archive.bytes)
}

fn size(file: &Path) -> u64 {
    std::fs::metadata(file).map_or(0, |file| file.len())
}

async fn restore(wanted: &Restore) -> Result<Outcome, Failure> {
    let opening = |path: &Path, error: purlin_sqlite::OpenError| Failure::Open {
        path: path.to_owned(),
        source: error.into(),
    };
    let found = purlin_sqlite::check(&wanted.from).await.map_err(|error| opening(&wanted.from, error))?;
    if !found.is_empty() {
        let what = found.join("; ");
        return Err(Failure::Refused(format!("the backup `{}` is damaged: {what}", wanted.from.display())));
    }
    let restored = purlin_sqlite::restore(&wanted.from, &wanted.to).await;
    restored.map_err(|error| opening(&wanted.to, error))?;
    let store = described(&wanted.to).await?;
    let said = format!(
        "`{}` is a store again, checked: {} events; the log begins a new incarnation when it is opened, and relays and \
         groups that followed the old one stop and say so (`purlin store accept` lets them go on)",
        wanted.to.display(),
        store["head"]
    );
    Ok(Outcome::Done { said, answer: store })
}

/// Has the log of a store in a database begin a new incarnation; or says what that means.
async fn begin_anew(place: Place, wanted: &NewIncarnation) -> Result<Outcome, Failure> {
    let place = place.of(wanted.service.as_deref())?;
    let Place::Database { url, service: Some(service) } = &place else {
        return Err(Failure::Refused(format!(
            "`{place}` is a file: one that was copied back becomes a store of its own by `purlin store restore FILE NEW`"
        )));
    };
    let cannot = |error: purlin_postgres::OpenError| Failure::Open {
        path: place.to_string().into(),
        source: error.into(),
    };
    let found = purlin_postgres::inspect(url).await.map_err(cannot)?.stores;
    let Some(store) = found.into_iter().find(|store| store.name == *service) else {
        return Err(Failure::NoSuchThing(format!("there is no store of `{service}` in the database")));
    };
    if !wanted.yes {
        return Err(Failure::Refused(format!(
            "the log of {service} ends at {}: positions that were given out before would be refused, and relays and groups \
             that follow it stop until `purlin store accept` lets them go on. Nothing was changed: say it again with --yes \
             to do so",
            store.head
        )));
    }
    purlin_postgres::mark_restored(url, service).await.map_err(cannot)?;
    let said = format!(
        "the log of {service} begins a new incarnation when it is opened, and relays and groups that followed the old one \
         stop and say so (`purlin store accept` lets them go on)"
    );
    let answer = json!({ "service": service, "log": store.log.map(|id| id.log), "head": store.head });
    Ok(Outcome::Done { said, answer })
}

/// What a store's file says of itself.
async fn described(file: &Path) -> Result<Value, Failure> {
    let found = purlin_sqlite::inspect(file).await;
    let found = found.map_err(|error| Failure::Open { path: file.to_owned(), source: error.into() })?;
    Ok(json!({
        "file": file.display().to_string(),
        "log": found.log.log,
        "incarnation": found.log.incarnation,
        "format": found.format,
        "head": found.head,
        "last": found.last,
        "collections": found.collections,
        "bytes": found.bytes,
    }))
}

async fn export(place: Place, wanted: &Export) -> Result<Outcome, Failure> {
    let place = place.of(wanted.service.as_deref())?;
    let store = place.open().await?;
    let to_stdout = wanted.to == Path::new("-");
    let written = match output(&wanted.to) {
        Ok(file) => {
            let bar = Bar::new("exporting", "events");
            let file = tokio::fs::File::from_std(file);
            let durable = file.try_clone().await;
            let mut written = transfer::export(&store, file, |now| bar.moved(now)).await;
            // A pipe has nothing that could be durable.
            if let (false, Ok(_), Ok(durable)) = (to_stdout, &written, durable)
                && let Err(error) = durable.sync_all().await
            {
                written = Err(error.into());
            }
            written.map_err(|error| failed_export(&place, &error))
        }
        Err(failure) => Err(failure),
    };
    store.close().await;
    if let (Err(Failure::Refused(_)), false) = (&written, to_stdout) {
        let _ = std::fs::remove_file(&wanted.to);
    }
    let moved = written?;
    let said = format!("{} events and {} records of {place} are written", moved.events, moved.records);
    match to_stdout {
        true => {
            eprintln!("{said}");
            Ok(Outcome::Said)
        }
        false => Ok(Outcome::Done { said, answer: numbers(moved) }),
    }
}

/// A new file for the owner alone, or the standard output.
fn output(to: &Path) -> Result<File, Failure> {
    if to == Path::new("-") {
        let out = std::io::stdout().as_fd().try_clone_to_owned();
        return out.map(File::from).map_err(|error| cannot_open(to, error));
    }
    let made = OpenOptions::new().write(true).create_new(true).mode(0o600).open(to);
    made.map_err(|error| cannot_open(to, error))
}

fn input(from: &Path) -> Result<File, Failure> {
    let opened = match from == Path::new("-") {
        true => std::io::stdin().as_fd().try_clone_to_owned().map(File::from),
        false => File::open(from),
    };
    opened.map_err(|error| cannot_open(from, error))
}

fn cannot_open(path: &Path, error: std::io::Error) -> Failure {
    Failure::Open { path: path.to_owned(), source: error.into() }
}

async fn import(wanted: &Import) -> Result<Outcome, Failure> {
    let place = Place::parse(&wanted.into)?.of(None)?;
    let lines = BufReader::with_capacity(1 << 20, tokio::fs::File::from_std(input(&wanted.from)?));
    let importer = Importer::begin(lines).await.map_err(|error| failed_import(&place, &error))?;
    let store = place.make(Some(importer.header().log)).await?;
    let bar = Bar::new("importing", "events");
    let imported = importer.into_store(&store, |now| bar.moved(now)).await;
    drop(bar);
    store.close().await;
    let moved = imported.map_err(|error| failed_import(&place, &error))?;
    let said = format!("{} events and {} records are in {place}", moved.events, moved.records);
    Ok(Outcome::Done { said, answer: numbers(moved) })
}

async fn move_store(wanted: &Move) -> Result<Outcome, Failure> {
    let (from, to) = (Place::parse(&wanted.from)?.of(None)?, Place::parse(&wanted.to)?.of(None)?);
    if from == to {
        return Err(Failure::Refused("the store is there already".to_owned()));
    }
    let old = from.open().await?;
    let new = match to.make(Some(old.log_id())).await {
        Ok(new) => new,
        Err(failure) => {
            old.close().await;
            return Err(failure);
        }
    };
    let moved = piped(&old, &new, (&from, &to)).await;
    new.close().await;
    old.close().await;
    let moved = moved?;
    let said = format!(
        "{} events and {} records of the log {} are in {to}, compared one by one; {from} is as it was: put it away, \
         because both are the same log now",
        moved.events,
        moved.records,
        new.log_id().log
    );
    Ok(Outcome::Done { said, answer: numbers(moved) })
}

/// Exports one store into the import of the other, and compares both.
async fn piped(
    old: &purlin::store::Store,
    new: &purlin::store::Store,
    (from, to): (&Place, &Place),
) -> Result<Moved, Failure> {
    let bar = Bar::new("moving", "events");
    let (mut write, read) = duplex(PIPE);
    let export = async {
        let exported = transfer::export(old, &mut write, |_| ()).await;
        // Whether it worked or not, nothing more comes.
        let _ = write.shutdown().await;
        drop(write);
        exported
    };
    let import = async {
        let importer = Importer::begin(BufReader::with_capacity(1 << 20, read)).await?;
        importer.into_store(new, |now| bar.moved(now)).await
    };
    let (exported, imported) = tokio::join!(export, import);
    match (exported, imported) {
        // The end of a pipe is what became of the other.
        (Err(ExportError::Write(_)), Err(error)) | (Ok(_), Err(error)) => {
            return Err(failed_import(to, &error));
        }
        (Err(error), _) => return Err(failed_export(from, &error)),
        (Ok(_), Ok(_)) => {}
    }
    drop(bar);
    let bar = Bar::new("comparing", "events");
    let compared = transfer::compare(old, new, |now| bar.moved(now)).await;
    compared.map_err(|error| refused(&format!("{to} is not what {from} is"), &error))
}

fn failed_export(place: &Place, error: &ExportError) -> Failure {
    refused(&format!("{place} is not exported"), error)
}

fn failed_import(place: &Place, error: &ImportError) -> Failure {
    refused(&format!("nothing more is imported into {place}"), error)
}

/// A refusal with all of its causes.
pub(super) fn refused(what: &str, error: &dyn std::error::Error) -> Failure {
    let mut said = format!("{what}: {error}");
    let mut cause = error.source();
    while let Some(error) = cause {
        said += &format!(": {error}");
        cause = error.source();
    }
    Failure::Refused(said)
}

fn numbers(moved: Moved) -> Value {
    json!({ "events": moved.events, "records": moved.records, "bytes": moved.bytes })
}
