//! Stores of older formats, in which each part of an event had a column of its own, go on as they were.

use std::path::Path;

use crc32c::{crc32c, crc32c_append};
use purlin::message::Envelope;
use purlin::store::archive::Selection;
use purlin::store::{Commit, Expected, LogFilter, Position, Recorded, Store, StreamId};
use purlin_sqlite::{Options, Sqlite, Synchronous};
use rusqlite::Connection;

use crate::folder::Folder;

const STREAMS: u64 = 7;

fn stream(key: u64) -> StreamId {
    StreamId::new("thing", key).unwrap()
}

/// Some are tagged, some public, some longer than a page of the file.
fn event(n: u64) -> Envelope {
    let data =
        format!("{{\"n\":{n},\"text\":\"{}\"}}", "x".repeat(if n.is_multiple_of(6) { 9000 } else { 9 }));
    let event = Envelope::raw(format!("thing.k{}", n % 3), data);
    let event = if n.is_multiple_of(4) { event.tagged([format!("t{}", n % 5)]) } else { event };
    if n.is_multiple_of(2) { event.public() } else { event }
}

async fn open(file: &Path) -> Store {
    let options = Options { run: 20, window: 30, synchronous: Synchronous::Off, ..Options::new(file) };
    Store::new(Sqlite::open(options).await.unwrap())
}

async fn append(store: &Store, from: u64, to: u64) {
    for n in from..to {
        let commit = Commit::new().append(stream(n * n % STREAMS), Expected::Any, [event(n)]);
        store.commit(commit).await.unwrap();
    }
}

async fn wanted(store: &Store, filter: &LogFilter) -> Vec<Recorded> {
    let (mut events, mut after) = (Vec::new(), Position::START);
    while after < store.head() {
        let page = store.read_log(after, filter, 25).await.unwrap();
        after = page.through;
        events.extend(page.events);
    }
    events
}

/// The log by every way that leads to it, which agree.
async fn whole(store: &Store) -> Vec<Recorded> {
    let log = wanted(store, &LogFilter::all()).await;
    assert_eq!(log.len() as u64, store.head().0);
    let public = log.iter().filter(|event| event.envelope.public).cloned().collect::<Vec<_>>();
    assert_eq!(wanted(store, &LogFilter::public()).await, public);
    assert_eq!(wanted(store, &LogFilter::category("thing")).await, log);
    assert_eq!(wanted(store, &LogFilter::category("other")).await, []);
    for key in 0..STREAMS {
        let of_stream = log.iter().filter(|event| event.stream == stream(key)).cloned().collect::<Vec<_>>();
        assert_eq!(store.read_stream(&stream(key), 1, 1000).await.unwrap(), of_stream);
    }
    log
}

/// Rewrites a closed file as formats 2 to 4 had it.
pub(crate) fn as_before(file: &Path) {
    let file = Connection::open(file).unwrap();
    let mut select = file.prepare("SELECT position, header, data FROM _event").unwrap();
    let row = |row: &rusqlite::Row<'_>| Ok((row.get(0)?, row.get(1)?, row.get(2)?));
    let rows: Vec<(i64, Vec<u8>, String)> =
        select.query_map([], row).unwrap().collect::<Result<_, _>>().unwrap();
    drop(select);
    file.execute_batch(
        "DROP TABLE _event;
         CREATE TABLE _event(position INTEGER PRIMARY KEY, stream TEXT NOT NULL, version INTEGER NOT NULL,
            kind TEXT NOT NULL, id BLOB NOT NULL, at INTEGER NOT NULL, schema INTEGER NOT NULL,
            public INTEGER NOT NULL, meta BLOB, sum INTEGER, data TEXT NOT NULL);
         DELETE FROM _meta WHERE name = 'apart';
         UPDATE _meta SET value = 1 WHERE name = 'archive_format';",
    )
    .unwrap();
    for (position, header, data) in rows {
        let number = |at: usize| i64::from_le_bytes(header[at..at + 8].try_into().unwrap());
        let (version, at, id) = (number(4), number(12), &header[24..40]);
        let (schema, public) = (u16::from_le_bytes([header[40], header[41]]), header[42]);
        let (stream, kind) = (usize::from(header[43]), usize::from(header[44]));
        let (stream, rest) = header[46..].split_at(stream);
        let (kind, meta) = rest.split_at(kind);
        let mut sum = 0;
        let flags = u64::from(schema) << 1 | u64::from(public);
        for number in [stream.len() as u64, kind.len() as u64, meta.len() as u64, flags] {
            sum = crc32c_append(sum, &number.to_le_bytes());
        }
        for part in [id, stream, kind, meta] {
            sum = crc32c_append(sum, part);
        }
        for number in [position, version, at] {
            sum = crc32c_append(sum, &number.to_le_bytes());
        }
        let sum = (u64::from(sum) << 32 | u64::from(crc32c(data.as_bytes()))).cast_signed();
        let (stream, kind) = (std::str::from_utf8(stream).unwrap(), std::str::from_utf8(kind).unwrap());
        let meta = (!meta.is_empty()).then_some(meta);
        let insert = "INSERT INTO _event VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)";
        let row = rusqlite::params![position, stream, version, kind, id, at, schema, public, meta, sum, data];
        file.execute(insert, row).unwrap();
    }
}

fn set_format(file: &Path, format: i64) {
    let file = Connection::open(file).unwrap();
    file.execute("UPDATE _meta SET value = ?1 WHERE name = 'format'", [format]).unwrap();
}

async fn check(file: &Path) {
    assert_eq!(purlin_sqlite::check(file).await.unwrap(), [""; 0]);
}

#[tokio::test]
async fn what_an_older_format_wrote_stays_and_is_read_beside_what_comes() {
    for format in [2, 3, 4] {
        let folder = Folder::new();
        let (file, archive) = (folder.file("a"), folder.path().join("a.db.archive"));
        let store = open(&file).await;
        append(&store, 0, 90).await;
        if format == 4 {
            store.archive(&Selection::category("thing"), |_| ()).await.unwrap();
            append(&store, 90, 95).await;
        }
        let before = whole(&store).await;
        store.close().await;
        as_before(&file);
        set_format(&file, format);
        if format == 4 {
            as_before(&archive);
        }
        check(&file).await;
        let inspected = purlin_sqlite::inspect(&file).await.unwrap();
        assert_eq!((inspected.format, inspected.known, inspected.head), (format, 5, store.head()));
        assert_eq!(inspected.last, before.last().map(|event| event.at));

        let store = open(&file).await;
        assert_eq!(whole(&store).await, before);
        append(&store, 100, 150).await;
        let all = whole(&store).await;
        assert_eq!(all[..before.len()], before);
        store.close().await;
        check(&file).await;
        assert_eq!(purlin_sqlite::inspect(&file).await.unwrap().format, 5);

        // Both kinds of rows lie in the archive too, and in a copy.
        let store = open(&file).await;
        store.archive(&Selection::category("thing"), |_| ()).await.unwrap();
        assert_eq!(whole(&store).await, all);
        store.backup(&folder.file("copy")).await.unwrap();
        store.close().await;
        for file in [file, folder.file("copy")] {
            check(&file).await;
            let store = open(&file).await;
            assert_eq!(whole(&store).await, all);
            store.close().await;
        }
    }
}

/// As archives were before there was a format for them, with the index of then and with that of format 2.
#[tokio::test]
async fn an_archive_from_before_format_4_is_read() {
    for index in
        ["DELETE FROM _meta WHERE name = 'left'", "DELETE FROM _meta WHERE name IN ('left', 'secret')"]
    {
        let folder = Folder::new();
        let (file, archive) = (folder.file("a"), folder.path().join("a.db.archive"));
        let store = open(&file).await;
        append(&store, 0, 90).await;
        store.archive(&Selection::category("thing"), |_| ()).await.unwrap();
        let before = whole(&store).await;
        store.close().await;
        as_before(&file);
        as_before(&archive);
        set_format(&file, 3);
        Connection::open(&file).unwrap().execute_batch(index).unwrap();
        for _ in 0..2 {
            let store = open(&file).await;
            assert_eq!(whole(&store).await, before);
            store.close().await;
            check(&file).await;
        }
    }
}

#[tokio::test]
async fn the_index_is_made_anew_from_both_kinds_of_rows() {
    let folder = Folder::new();
    let file = folder.file("a");
    let store = open(&file).await;
    append(&store, 0, 50).await;
    store.close().await;
    as_before(&file);
    set_format(&file, 3);
    let store = open(&file).await;
    append(&store, 50, 100).await;
    let all = whole(&store).await;
    store.close().await;
    Connection::open(&file).unwrap().execute_batch("DELETE FROM _block; DELETE FROM _run").unwrap();
    let store = open(&file).await;
    assert_eq!(whole(&store).await, all);
    store.close().await;
}

#[tokio::test]
async fn damage_to_either_kind_of_row_is_named_and_nothing_tells_them_wrongly_apart() {
    let folder = Folder::new();
    let file = folder.file("a");
    let store = open(&file).await;
    append(&store, 0, 50).await;
    store.close().await;
    as_before(&file);
    set_format(&file, 3);
    let store = open(&file).await;
    append(&store, 50, 100).await;
    let all = whole(&store).await;
    store.close().await;
    for (position, column) in [(20, "kind"), (22, "id"), (23, "sum"), (70, "id"), (71, "data")] {
        let change = format!("UPDATE _event SET {column} = x'00' WHERE position = {position}");
        Connection::open(&file).unwrap().execute(&change, []).unwrap();
    }
    let found = purlin_sqlite::check(&file).await.unwrap();
    let named = [20, 22, 23, 70, 71].map(|position| format!("the event at {position} ("));
    assert!(
        found.len() == named.len() && found.iter().zip(&named).all(|(f, n)| f.starts_with(n)),
        "{found:?}"
    );
    let store = open(&file).await;
    for position in 1..=100 {
        let read = store.read_log(Position(position - 1), &LogFilter::all(), 1).await;
        if [20, 22, 23, 70, 71].contains(&position) {
            let told = format!("{:?}", read.unwrap_err());
            assert!(told.contains(&format!("the event at {position} ")), "{told}");
        } else {
            assert_eq!(read.unwrap().events, all[position as usize - 1..position as usize]);
        }
    }
    store.close().await;
    let border =
        "UPDATE _meta SET value = substr(value, 1, 7) || x'11' || substr(value, 9) WHERE name = 'apart'";
    Connection::open(&file).unwrap().execute(border, []).unwrap();
    assert!(Sqlite::open(Options::new(&file)).await.is_err());
}

#[tokio::test]
async fn an_older_store_without_events_is_as_a_new_one() {
    let folder = Folder::new();
    let file = folder.file("a");
    open(&file).await.close().await;
    as_before(&file);
    set_format(&file, 3);
    let store = open(&file).await;
    append(&store, 0, 50).await;
    let all = whole(&store).await;
    store.close().await;
    check(&file).await;
    let columns = "SELECT group_concat(name) FROM pragma_table_info('_event')";
    let columns: String = Connection::open(&file).unwrap().query_row(columns, [], |row| row.get(0)).unwrap();
    assert_eq!(columns, "position,header,data");
    let store = open(&file).await;
    assert_eq!(whole(&store).await, all);
    store.close().await;
}

/// What a file says of itself, and how many events lie in it.
fn told(file: &Path) -> (Vec<(String, String)>, i64) {
    let file = Connection::open(file).unwrap();
    let mut select = file.prepare("SELECT name, quote(value) FROM _meta ORDER BY name").unwrap();
    let rows = select.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
    let told = rows.collect::<Result<_, _>>().unwrap();
    (told, file.query_row("SELECT count(*) FROM _event", [], |row| row.get(0)).unwrap())
}

async fn refused_untouched(file: &Path, what: &str) {
    let before = told(file);
    let refused = Sqlite::open(Options::new(file)).await.err().expect("it is refused");
    let cause = std::error::Error::source(&refused).expect("it says why").to_string();
    assert!(cause.contains(what), "{cause}");
    assert_eq!(told(file), before);
}

#[tokio::test]
async fn a_format_that_is_not_what_it_was_is_refused_before_anything_is_written() {
    for is_older in [false, true] {
        let folder = Folder::new();
        let file = folder.file("a");
        let store = open(&file).await;
        append(&store, 0, 50).await;
        store.close().await;
        if is_older {
            as_before(&file);
            set_format(&file, 3);
            let store = open(&file).await;
            append(&store, 50, 60).await;
            store.close().await;
        }
        for format in [1, 2, 3, 4] {
            set_format(&file, format);
            refused_untouched(&file, "how old its events are").await;
        }
    }
}

#[tokio::test]
async fn a_log_that_only_seems_empty_is_not_made_anew() {
    let folder = Folder::new();
    let file = folder.file("a");
    let store = open(&file).await;
    append(&store, 0, 50).await;
    store.close().await;
    as_before(&file);
    Connection::open(&file).unwrap().execute("DELETE FROM _event", []).unwrap();
    for format in [2, 3, 4] {
        set_format(&file, format);
        refused_untouched(&file, "its log is empty").await;
    }
}

#[tokio::test]
async fn an_archive_whose_events_lie_otherwise_is_refused_by_name() {
    let folder = Folder::new();
    let (file, archive) = (folder.file("a"), folder.path().join("a.db.archive"));
    let store = open(&file).await;
    append(&store, 0, 90).await;
    store.archive(&Selection::category("thing"), |_| ()).await.unwrap();
    store.close().await;
    as_before(&archive);
    refused_untouched(&file, "otherwise than in the store").await;
}
