//! Archives that are another's, older, newer or elsewhere.

use purlin::store::{LogFilter, Position, ReadError, Store};
use purlin_sqlite::{Options, Sqlite};

use super::{all, append, archive_of, archived, open, options, told, whole};
use crate::folder::Folder;

#[tokio::test]
async fn another_stores_archive_is_refused_by_name() {
    let folder = Folder::new();
    let (ours, other) = (folder.file("ours"), folder.file("other"));
    let log = archived(&ours).await;
    archived(&other).await;
    let kept = folder.path().join("kept");
    std::fs::rename(archive_of(&ours), &kept).unwrap();
    let refused = async |why: &str| {
        let error = Sqlite::open(options(&ours)).await.err().expect("refused");
        let told = told(&error);
        assert!(told.contains(&archive_of(&ours).display().to_string()) && told.contains(why), "{told}");
        let found = purlin_sqlite::check(&ours).await.unwrap();
        assert!(found.iter().any(|found| found.contains(why)), "{found:?}");
    };
    std::fs::copy(archive_of(&other), archive_of(&ours)).unwrap();
    refused("another log").await;
    std::fs::copy(&other, archive_of(&ours)).unwrap();
    refused("no archive").await;
    std::fs::write(archive_of(&ours), "").unwrap();
    refused("there is no archive in it").await;
    let mut broken = std::fs::read(&kept).unwrap();
    broken[..40].fill(7);
    std::fs::write(archive_of(&ours), &broken).unwrap();
    refused("damaged").await;
    // Of another life of the log.
    std::fs::copy(&kept, archive_of(&ours)).unwrap();
    let lives = rusqlite::Connection::open(archive_of(&ours)).unwrap();
    lives.execute("UPDATE _meta SET value = 7 WHERE name = 'incarnation'", []).unwrap();
    drop(lives);
    refused("its identity does not match its checksum").await;
    purlin_sqlite::restore(&other, folder.file("none")).await.unwrap();
    std::fs::rename(&kept, archive_of(&ours)).unwrap();
    let store = open(&ours).await;
    assert_eq!(whole(&store).await, log);
    store.close().await;

    // One that lies there before anything was archived.
    let fresh = folder.file("fresh");
    std::fs::copy(archive_of(&other), archive_of(&fresh)).unwrap();
    let store = open(&fresh).await;
    append(&store, 0, 50).await;
    let error = store.archive(&all(), |_| ()).await.unwrap_err();
    assert!(told(&error).contains("another log"), "{}", told(&error));
    assert_eq!(whole(&store).await.len(), 50);
    store.close().await;
}

/// Another program must not take what it cannot read for lost.
#[tokio::test]
async fn a_store_of_a_newer_format_is_refused() {
    let folder = Folder::new();
    let file = folder.file("a");
    open(&file).await.close().await;
    let edited = rusqlite::Connection::open(&file).unwrap();
    edited.execute("UPDATE _meta SET value = 6 WHERE name = 'format'", []).unwrap();
    drop(edited);
    let newer = Sqlite::open(options(&file)).await.err().expect("refused");
    assert!(told(&newer).contains("format 6, this program knows formats up to 5"), "{}", told(&newer));
}

/// One in which not all is that left the store.
#[tokio::test]
async fn an_older_archive_is_refused_by_name() {
    let folder = Folder::new();
    let file = folder.file("a");
    let store = open(&file).await;
    append(&store, 0, 200).await;
    store.archive(&all(), |_| ()).await.unwrap();
    store.close().await;
    let (older, newer) = (folder.path().join("older"), folder.path().join("newer"));
    std::fs::copy(archive_of(&file), &older).unwrap();
    let store = open(&file).await;
    append(&store, 200, 300).await;
    store.archive(&all(), |_| ()).await.unwrap();
    let log = whole(&store).await;
    store.close().await;
    std::fs::rename(archive_of(&file), &newer).unwrap();
    std::fs::copy(&older, archive_of(&file)).unwrap();
    let refused = Sqlite::open(options(&file)).await.err().expect("refused");
    assert!(told(&refused).contains("it is an older one"), "{}", told(&refused));
    let found = purlin_sqlite::check(&file).await.unwrap();
    assert!(found.iter().any(|found| found.contains("it is an older one")), "{found:?}");
    let inspected = purlin_sqlite::inspect(&file).await.unwrap().archive.unwrap();
    assert!(inspected.refused.unwrap().contains("it is an older one"));
    std::fs::rename(&newer, archive_of(&file)).unwrap();
    let store = open(&file).await;
    assert_eq!(whole(&store).await, log);
    store.close().await;
}

/// A reader has the file open that was there, and what moves now would go to the other.
#[tokio::test]
async fn an_archive_that_is_replaced_while_the_store_is_open_is_noticed() {
    let folder = Folder::new();
    let file = folder.file("a");
    archived(&file).await;
    let store = open(&file).await;
    let log = whole(&store).await;
    append(&store, 300, 400).await;
    let copied = folder.path().join("copied");
    std::fs::copy(archive_of(&file), &copied).unwrap();
    std::fs::rename(&copied, archive_of(&file)).unwrap();
    let error = store.archive(&all(), |_| ()).await.unwrap_err();
    assert!(told(&error).contains("was replaced"), "{}", told(&error));
    let error = store.read_log(Position::START, &LogFilter::all(), 10).await.unwrap_err();
    assert!(matches!(error, ReadError::Unavailable(_)) && told(&error).contains("was replaced"), "{error:?}");
    store.close().await;
    let store = open(&file).await;
    store.archive(&all(), |_| ()).await.unwrap();
    assert_eq!(whole(&store).await[..300], log);
    store.close().await;
    assert_eq!(purlin_sqlite::check(&file).await.unwrap(), Vec::<String>::new());
}

#[tokio::test]
async fn where_an_archive_is_said_to_be_is_remembered_once_it_is_there() {
    let folder = Folder::new();
    let file = folder.file("a");
    let at = |name: &str| Options { archive: Some(folder.path().join(name)), ..options(&file) };
    // Before there is one.
    let store = Store::new(Sqlite::open(at("elsewhere")).await.unwrap());
    append(&store, 0, 100).await;
    let copy = folder.file("copy");
    store.backup(&copy).await.unwrap();
    store.close().await;
    let store = open(&file).await;
    store.archive(&all(), |_| ()).await.unwrap();
    let log = whole(&store).await;
    store.close().await;
    assert!(folder.path().join("elsewhere").exists() && !archive_of(&file).exists());
    // A copy has an archive of its own.
    let store = open(&copy).await;
    store.archive(&all(), |_| ()).await.unwrap();
    store.close().await;
    assert!(archive_of(&copy).exists());
    // Where it is not, or where another is.
    let store = Store::new(Sqlite::open(at("nowhere")).await.unwrap());
    assert!(store.read_log(Position::START, &LogFilter::all(), 10).await.is_err());
    store.close().await;
    assert!(Sqlite::open(at("copy.db.archive")).await.is_err());
    let store = open(&file).await;
    assert_eq!(whole(&store).await, log);
    store.close().await;
}
