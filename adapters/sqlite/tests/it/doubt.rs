//! A COMMIT that fails, and happened all the same or did not: what is answered is what the next opening finds.
//!
//! A process asks for something on a disk that leaves the COMMIT in doubt (see `shim`), says what it was told and what it
//! sees then, and ends as if it was killed. The store is opened from what the system has of it, and from what a power
//! failure would leave.

use std::error::Error as _;
use std::path::Path;
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use futures_util::poll;
use purlin::message::Envelope;
use purlin::store::{Collection, Commit, CommitError, Expected, Field, Query, Revision, Store, StreamId};
use purlin_sqlite::{Options, Sqlite};
use tokio::task::JoinSet;

use crate::shim::{Disk, is_preloaded, say};

/// Tell the child which file, by which mark the disk leaves things in doubt, what to ask for, and whether to write behind
/// it; without them `the_child` has nothing to do.
const FILE: &str = "PURLIN_TEST_DOUBT_FILE";
const MARK: &str = "PURLIN_TEST_DOUBT_MARK";
const WHAT: &str = "PURLIN_TEST_DOUBT_WHAT";
const GOES_ON: &str = "PURLIN_TEST_DOUBT_GOES_ON";

fn collection<const N: usize>(name: &'static str, fields: [Field; N]) -> Collection {
    Collection { name: name.into(), fields: fields.to_vec().into() }
}

fn put(commit: Commit, of: &Collection, n: u64) -> Commit {
    let row = serde_json::json!({ "n": n, "tags": [of.name] });
    commit.put_in(of, n.to_string(), &row, Revision::Any, None)
}

/// What is done, or is not.
async fn ask(store: &Store, what: &str) -> Result<(), CommitError> {
    let append = |commit: Commit| {
        let stream = StreamId::new("thing", 1).unwrap();
        commit.append(stream, Expected::Any, [Envelope::raw("thing.counted", "{}")])
    };
    match what {
        "define" => store.define_collection(collection("new", [Field::texts("tags")])).await,
        "change" => store.define_collection(collection("live", [Field::texts("tags")])).await,
        "swap" => {
            let noted =
                put(Commit::new().swap("next", "live"), &collection("ledger", [Field::integer("n")]), 4);
            store.commit(noted).await.map(drop)
        }
        "drop" => store.drop_collection("next").await,
        "append" => store.commit(append(Commit::new())).await.map(drop),
        "put" => {
            let commit = put(append(Commit::new()), &collection("live", [Field::integer("n")]), 7);
            store.commit(commit).await.map(drop)
        }
        other => panic!("{other}"),
    }
}

/// All that can be seen of a store.
async fn state(store: &Store) -> String {
    let mut all = format!("head {}", store.head());
    for Collection { name, fields } in store.collections().await.unwrap() {
        let records = store.list_records(&name, Query::all()).await.unwrap().records;
        let records: Vec<_> = records.iter().map(|record| String::from_utf8_lossy(&record.value)).collect();
        let fields: Vec<_> = fields.iter().map(Field::to_string).collect();
        all += &format!("; {name}({}): {}", fields.join(" "), records.join(" "));
    }
    all
}

fn is_refused_until_it_is_known(refused: &CommitError) -> bool {
    refused.source().is_some_and(|why| why.to_string().contains("finding out what became"))
}

#[test]
fn the_child() {
    let (Ok(file), Ok(mark)) = (std::env::var(FILE), std::env::var(MARK)) else { return };
    assert!(is_preloaded(), "the library is not preloaded: is the test linked statically?");
    let (what, goes_on) = (std::env::var(WHAT).unwrap(), std::env::var_os(GOES_ON).is_some());
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(live(Path::new(&file), Path::new(&mark), what, goes_on));
    // Nothing is closed.
    std::process::exit(0);
}

async fn live(file: &Path, mark: &Path, what: String, goes_on: bool) {
    let store = purlin_sqlite::open(file).await.unwrap();
    for (name, n) in [("live", 1), ("next", 2), ("ledger", 3)] {
        let collection = collection(name, [Field::integer("n")]);
        store.define_collection(collection.clone()).await.unwrap();
        store.commit(put(Commit::new(), &collection, n)).await.unwrap();
    }
    let (before, defined) = (state(&store).await, store.collections().await.unwrap());

    std::fs::write(mark, "").unwrap();
    let mut asked = JoinSet::new();
    asked.spawn({
        let (store, what) = (store.clone(), what.clone());
        async move { ask(&store, &what).await }
    });
    while std::fs::metadata(mark).unwrap().len() == 0 {
        tokio::task::yield_now().await;
    }
    // The first is refused once it was tried to find out, and the second because that is not known yet.
    let other = store.define_collection(collection("other", [])).await.unwrap_err();
    let same = ask(&store, &what).await.unwrap_err();
    assert!(
        is_refused_until_it_is_known(&other) && is_refused_until_it_is_known(&same),
        "{other:?}, {same:?}"
    );
    assert!(asked.try_join_next().is_none(), "who asked first waits until it is known");
    assert_eq!((store.collections().await.unwrap(), store.head().0), (defined, 0), "nor is it shown");

    std::fs::remove_file(mark).unwrap();
    let answer = asked.join_next().await.unwrap().unwrap();
    let after = state(&store).await;
    assert_eq!(after != before, answer.is_ok(), "{answer:?}: {after}");
    say(if answer.is_ok() { "done" } else { "refused" });
    if goes_on {
        for collection in store.collections().await.unwrap() {
            store.commit(put(Commit::new(), &collection, 9)).await.unwrap();
        }
        store.define_collection(collection("more", [])).await.unwrap();
    }
    say(&state(&store).await);
}

#[test]
fn the_child_that_closes() {
    let (Ok(file), Ok(mark)) = (std::env::var(FILE), std::env::var(MARK)) else { return };
    assert!(is_preloaded(), "the library is not preloaded: is the test linked statically?");
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(close(Path::new(&file), Path::new(&mark)));
    std::process::exit(0);
}

/// Closes a store while a COMMIT is in doubt behind which others, and the closing itself, were taken out of the queue.
async fn close(file: &Path, mark: &Path) {
    let options = Options { queue_bytes: 1 << 20, ..Options::new(file) };
    let store = Store::new(Sqlite::open(options).await.unwrap());
    store.define_collection(collection("live", [Field::integer("n")])).await.unwrap();
    let other = rusqlite::Connection::open(file).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    let large = |expected| {
        let event = Envelope::raw("thing.counted", format!("\"{}\"", "x".repeat(700_000)));
        store.commit(Commit::new().append(StreamId::new("thing", 1).unwrap(), expected, [event]))
    };
    // The writer waits with a commit that writes nothing. The next one has room to wait once that was taken.
    let (mut refused, mut first) = (pin!(large(Expected::Version(9))), pin!(large(Expected::Any)));
    assert!(poll!(refused.as_mut()).is_pending());
    while let Poll::Ready(full) = poll!(first.as_mut()) {
        assert!(matches!(full, Err(CommitError::Overloaded)), "{full:?}");
        tokio::task::yield_now().await;
        first.set(large(Expected::Any));
    }
    let (mut change, mut behind) = (pin!(ask(&store, "change")), pin!(ask(&store, "put")));
    assert!(poll!(change.as_mut()).is_pending() && poll!(behind.as_mut()).is_pending());
    let mut closing = pin!(store.close());
    loop {
        // Whoever sees the threads that read ended is about to ask the writer.
        let ended = !has_thread("sqlite-read") && !has_thread("sqlite-close");
        assert!(poll!(closing.as_mut()).is_pending());
        if ended {
            break;
        }
        tokio::task::yield_now().await;
    }
    std::fs::write(mark, "").unwrap();
    other.execute_batch("ROLLBACK").unwrap();

    let refused = soon(refused).await;
    assert!(matches!(refused, Err(CommitError::Conflict { .. })), "{refused:?}");
    let (change, behind) = (soon(change).await.unwrap_err(), soon(behind).await.unwrap_err());
    assert!(
        is_refused_until_it_is_known(&change) && is_refused_until_it_is_known(&behind),
        "{change:?}, {behind:?}"
    );
    soon(closing).await;
    // Who closes it once more is held up neither, nor is the thread that he does it on.
    let mut again = JoinSet::new();
    again.spawn({
        let store = store.clone();
        async move { store.close().await }
    });
    soon(again.join_next()).await.unwrap().unwrap();
    assert!(poll!(first.as_mut()).is_pending(), "who asked first waits until it is known");
    std::fs::remove_file(mark).unwrap();
    say(if soon(first).await.is_ok() { "done" } else { "refused" });
}

async fn soon<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(30), work).await.expect("it comes to an end")
}

/// Whether this process has a thread with a name that begins so.
fn has_thread(begin: &str) -> bool {
    let name =
        |task: std::fs::DirEntry| std::fs::read_to_string(task.path().join("comm")).unwrap_or_default();
    std::fs::read_dir("/proc/self/task").unwrap().any(|task| name(task.unwrap()).starts_with(begin))
}

#[tokio::test]
async fn who_closes_behind_a_commit_in_doubt_does_not_wait_for_the_disk() {
    let Some(disk) = Disk::new() else { return };
    let (file, mark) = (disk.seen().join("a.db"), disk.doubt());
    let variables = [(FILE, file.to_str().unwrap()), (MARK, mark.to_str().unwrap())];
    let ran = disk.run("doubt::the_child_that_closes", &variables);
    ran.expect_success();
    assert_eq!(ran.said(), ["refused"]);
    let store = purlin_sqlite::open(&file).await.unwrap();
    assert_eq!(state(&store).await, "head 0; live(n:integer): ");
    store.close().await;
}

async fn check(what: &str, keeps: bool, goes_on: bool) {
    let Some(mut disk) = Disk::new() else { return };
    if keeps {
        disk = disk.with("PURLIN_DISK_KEEPS", &1);
    }
    let (file, mark) = (disk.seen().join("a.db"), disk.doubt());
    let mut variables = vec![(FILE, file.to_str().unwrap()), (MARK, mark.to_str().unwrap()), (WHAT, what)];
    if goes_on {
        variables.push((GOES_ON, "1"));
    }
    let ran = disk.run("doubt::the_child", &variables);
    ran.expect_success();
    let said = ran.said();
    assert_eq!(said[0], if keeps { "done" } else { "refused" }, "{what}");
    for folder in [disk.seen(), disk.left()] {
        let file = folder.join("a.db");
        let store = purlin_sqlite::open(&file).await.unwrap();
        assert_eq!(state(&store).await, said[1], "{what} was {}, in {}", said[0], folder.display());
        store.close().await;
        assert_eq!(purlin_sqlite::check(&file).await.unwrap(), Vec::<String>::new());
    }
}

#[tokio::test]
async fn a_change_of_collections_whose_commit_failed_is_answered_as_it_is_on_the_disk() {
    for what in ["define", "change", "swap", "drop"] {
        for (keeps, goes_on) in [(false, false), (false, true), (true, false), (true, true)] {
            check(what, keeps, goes_on).await;
        }
    }
}

#[tokio::test]
async fn a_commit_whose_commit_failed_is_answered_as_it_is_on_the_disk() {
    for what in ["append", "put"] {
        for (keeps, goes_on) in [(false, false), (false, true), (true, false), (true, true)] {
            check(what, keeps, goes_on).await;
        }
    }
}
