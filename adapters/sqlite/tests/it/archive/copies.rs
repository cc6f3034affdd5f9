//! Copies of a store and its archive: backups, and what is restored from them.

use std::path::Path;

use purlin_sqlite::Sqlite;

use super::{all, append, archive_of, archived, open, options, positions, told, whole};
use crate::folder::Folder;

#[tokio::test]
async fn a_backup_and_what_is_restored_from_it_have_the_archive() {
    let folder = Folder::new();
    let file = folder.file("a");
    let log = archived(&file).await;
    let store = open(&file).await;
    let copy = folder.file("copy");
    store.backup(&copy).await.unwrap();
    assert!(archive_of(&copy).exists());
    // The original goes another way.
    append(&store, 1000, 1100).await;
    store.archive(&all(), |_| ()).await.unwrap();
    let went_on = whole(&store).await;
    store.close().await;
    assert_eq!(purlin_sqlite::check(&copy).await.unwrap(), Vec::<String>::new());
    let restored = folder.file("restored");
    purlin_sqlite::restore(&copy, &restored).await.unwrap();
    assert!(purlin_sqlite::restore(&copy, &restored).await.is_err(), "nothing is written over");
    for file in [&copy, &restored] {
        for life in 0..2_u64 {
            let store = open(file).await;
            assert_eq!(whole(&store).await[..300], log);
            append(&store, 2000 + life * 100, 2050 + life * 100).await;
            let read = whole(&store).await;
            store.archive(&all(), |_| ()).await.unwrap();
            assert_eq!(whole(&store).await, read);
            store.close().await;
        }
        assert_eq!(purlin_sqlite::check(file).await.unwrap(), Vec::<String>::new());
    }
    // An archive of another life of the log, as of which the log says something else.
    let theirs = std::fs::read(archive_of(&restored)).unwrap();
    std::fs::write(archive_of(&file), theirs).unwrap();
    let error = Sqlite::open(options(&file)).await.err().expect("refused");
    assert!(told(&error).contains("incarnation"), "{}", told(&error));
    assert_eq!(went_on.len(), 400);
}

/// Its archive is still marked as a copy of the incarnation before.
#[tokio::test]
async fn a_copy_that_was_opened_without_its_archive_can_be_backed_up_once_it_is_back() {
    let folder = Folder::new();
    let file = folder.file("a");
    let log = archived(&file).await;
    let (restored, backup, away) = (folder.file("b"), folder.file("c"), folder.path().join("away"));
    purlin_sqlite::restore(&file, &restored).await.unwrap();
    std::fs::rename(archive_of(&restored), &away).unwrap();
    let store = open(&restored).await;
    std::fs::rename(&away, archive_of(&restored)).unwrap();
    store.backup(&backup).await.unwrap();
    store.close().await;
    assert_eq!(purlin_sqlite::check(&backup).await.unwrap(), Vec::<String>::new());
    let store = open(&backup).await;
    assert_eq!(whole(&store).await, log);
    store.close().await;
}

/// One waits for the other, whoever comes first: nothing moves while a copy is made, and appends go on.
#[tokio::test]
async fn a_backup_and_an_archiving_at_once_are_both_done_and_both_whole() {
    let folder = Folder::new();
    let store = open(&folder.file("a")).await;
    append(&store, 0, 400).await;
    for round in 0..8_u64 {
        append(&store, 400 + round * 60, 460 + round * 60).await;
        let head = store.head();
        let copy = folder.file(&format!("copy{round}"));
        let (backup, archived) = (store.backup(&copy), async {
            let moved = store.archive(&all(), |_| ()).await.unwrap().events;
            append(&store, 0, 20).await;
            moved + store.archive(&all(), |_| ()).await.unwrap().events
        });
        let moved = match round % 2 {
            0 => {
                let (made, moved) = futures_util::future::join(backup, archived).await;
                made.unwrap();
                moved
            }
            _ => {
                let (moved, made) = futures_util::future::join(archived, backup).await;
                made.unwrap();
                moved
            }
        };
        assert!(moved >= 60, "it went on: {moved}");
        assert_eq!(purlin_sqlite::check(&copy).await.unwrap(), Vec::<String>::new());
        let (hot, cold) = (positions(&copy), positions_or_none(&archive_of(&copy)));
        let copy = open(&copy).await;
        assert!(copy.head() >= head);
        let mut both: Vec<_> = hot.iter().chain(&cold).copied().collect();
        both.sort_unstable();
        assert!(both.into_iter().eq(1..=copy.head().0), "each event is in one of the two, once");
        assert_eq!(whole(&copy).await[..], whole(&store).await[..usize::try_from(copy.head().0).unwrap()]);
        copy.close().await;
    }
    store.close().await;
}

fn positions_or_none(file: &Path) -> Vec<u64> {
    if file.exists() { positions(file) } else { Vec::new() }
}

/// A crash may come between the names of the two files.
#[tokio::test]
async fn what_a_copy_left_that_was_cut_off_is_said_to_be_that() {
    let folder = Folder::new();
    let file = folder.file("a");
    archived(&file).await;
    let copy = folder.file("copy");
    std::fs::write(archive_of(&copy), "half").unwrap();
    let store = open(&file).await;
    let error = store.backup(&copy).await.unwrap_err();
    let said = told(&*error);
    assert!(said.contains("copy.db.archive") && said.contains("cut off"), "{said}");
    std::fs::remove_file(archive_of(&copy)).unwrap();
    store.backup(&copy).await.unwrap();
    store.close().await;
}
