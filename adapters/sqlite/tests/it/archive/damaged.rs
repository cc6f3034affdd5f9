//! Archives and stores that are damaged.

use purlin::store::{LogFilter, Position, ReadError, Recorded};
use purlin_sqlite::Sqlite;

use super::{STREAMS, all, append, archive_of, archived, open, options, positions, stream, told, whole};
use crate::folder::Folder;

#[tokio::test]
async fn a_damaged_archived_event_is_named() {
    let folder = Folder::new();
    let file = folder.file("a");
    let log = archived(&file).await;
    let archive = rusqlite::Connection::open(archive_of(&file)).unwrap();
    archive.execute("UPDATE _event SET data = '{}' WHERE position = 18", []).unwrap();
    drop(archive);
    let store = open(&file).await;
    let named = |error: ReadError| match error {
        ReadError::Unreadable { what, .. } => what,
        other => panic!("{other:?}"),
    };
    let damaged = &log[17];
    let reads = [
        named(store.read_log(Position(17), &LogFilter::all(), 1).await.unwrap_err()),
        named(store.read_stream(&damaged.stream, damaged.version, 1).await.unwrap_err()),
    ];
    for what in reads {
        assert!(what.contains("the event at 18 ") && what.contains("a.db.archive"), "{what}");
    }
    assert_eq!(store.read_log(Position(18), &LogFilter::all(), 5).await.unwrap().events, log[18..23]);
    store.close().await;
    let found = purlin_sqlite::check(&file).await.unwrap();
    assert!(
        found.len() == 1 && found[0].contains("the event at 18 ") && found[0].contains("archive"),
        "{found:?}"
    );

    let archive = rusqlite::Connection::open(archive_of(&file)).unwrap();
    archive.execute("DELETE FROM _event WHERE position = 18", []).unwrap();
    drop(archive);
    let found = purlin_sqlite::check(&file).await.unwrap();
    assert!(found.contains(&"the events from 18 to 18 are missing".to_owned()), "{found:?}");
}

/// Nor does it keep other streams from moving.
#[tokio::test]
async fn a_damaged_event_is_not_moved() {
    let folder = Folder::new();
    let file = folder.file("a");
    let store = open(&file).await;
    append(&store, 0, 60).await;
    let log = whole(&store).await;
    store.close().await;
    let damaged = log.iter().find(|event| event.version == 2).unwrap();
    let hot = rusqlite::Connection::open(&file).unwrap();
    let position = damaged.position.0;
    hot.execute("UPDATE _event SET data = '{}' WHERE position = ?1", [position.cast_signed()]).unwrap();
    drop(hot);
    let store = open(&file).await;
    for _ in 0..2 {
        let done = store.archive(&all(), |_| ()).await.unwrap();
        assert!(done.is_done());
        let named = format!("the event at {position} ");
        assert!(done.damaged.len() == 1 && done.damaged[0].contains(&named), "{:?}", done.damaged);
    }
    store.close().await;
    let (hot, cold) = (positions(&file), positions(&archive_of(&file)));
    for event in &log {
        let last = log.iter().rfind(|last| last.stream == event.stream).unwrap();
        let stays = event.position == last.position || event.stream == damaged.stream && event.version > 1;
        let there = (hot.contains(&event.position.0), cold.contains(&event.position.0));
        assert_eq!(there, (stays, !stays), "{event:?}");
    }
}

/// What is read to choose streams may be damaged too: an event of another, one by which a stream begins or ends.
#[tokio::test]
async fn streams_are_chosen_past_what_is_damaged() {
    let folder = Folder::new();
    let file = folder.file("a");
    let store = open(&file).await;
    append(&store, 0, 60).await;
    let log = whole(&store).await;
    store.close().await;
    let birth = log.iter().rfind(|event| event.version == 1).unwrap();
    let last = log.last().unwrap();
    assert_ne!(last.stream, birth.stream);
    let of_another =
        |event: &&Recorded| event.version == 3 && event.stream != birth.stream && event.stream != last.stream;
    let middle = log.iter().find(of_another).unwrap();
    let hot = rusqlite::Connection::open(&file).unwrap();
    let damage = |column: &str, position: u64| {
        let sql = format!("UPDATE _event SET {column} = '{{}}' WHERE position = {position}");
        assert_eq!(hot.execute(&sql, []), Ok(1));
    };
    damage("data", birth.position.0);
    damage("header", middle.position.0);
    damage("data", last.position.0);
    drop(hot);
    let store = open(&file).await;
    let done = store.archive(&all(), |_| ()).await.unwrap();
    store.close().await;
    assert!(done.is_done());
    for damaged in [birth, middle, last] {
        let name = format!("the event at {} ", damaged.position);
        assert!(done.damaged.iter().any(|said| said.contains(&name)), "{name}: {:?}", done.damaged);
    }
    let streams = log.iter().filter(|event| event.version == 1).count();
    assert!(streams > 3 && done.chosen as usize == streams - 2, "{done:?}");
    let cold = positions(&archive_of(&file));
    let whole_streams =
        log.iter().filter(|event| ![birth, middle, last].iter().any(|one| one.stream == event.stream));
    let moved = whole_streams.clone().filter(|event| {
        let later = |other: &Recorded| other.stream == event.stream && other.version > event.version;
        log.iter().any(later)
    });
    assert!(moved.clone().count() > 10 && moved.clone().all(|event| cold.contains(&event.position.0)));
}

#[tokio::test]
async fn the_index_is_made_anew_from_both_files() {
    let folder = Folder::new();
    let file = folder.file("a");
    let log = archived(&file).await;
    for round in 0..3_u64 {
        let store = rusqlite::Connection::open(&file).unwrap();
        let broken = "UPDATE _block SET entries = zeroblob(length(entries))";
        match round {
            0 => store.execute(broken, []).unwrap(),
            1 => store.execute("UPDATE _run SET sum = sum + 1", []).unwrap(),
            // What the filter of a run excludes is never looked for in it: one that is cut off is damage too.
            _ => store.execute("UPDATE _run SET filter = x'00'", []).unwrap(),
        };
        drop(store);
        let store = open(&file).await;
        for n in 0..STREAMS {
            let wanted: Vec<_> = log.iter().filter(|event| event.stream == stream(n)).cloned().collect();
            // The first read may come upon it.
            let mut read = store.read_stream(&stream(n), 1, wanted.len()).await;
            for _ in 0..500 {
                if read.is_ok() {
                    break;
                }
                tokio::task::yield_now().await;
                read = store.read_stream(&stream(n), 1, wanted.len()).await;
            }
            assert_eq!(read.unwrap(), wanted, "round {round}");
        }
        append(&store, 300 + round * 20, 320 + round * 20).await;
        store.archive(&all(), |_| ()).await.unwrap();
        assert_eq!(whole(&store).await[..300], log);
        store.close().await;
        assert_eq!(purlin_sqlite::check(&file).await.unwrap(), Vec::<String>::new());
    }
}

/// Neither alone keeps it from opening.
#[tokio::test]
async fn a_store_whose_index_is_damaged_and_whose_archive_is_away_says_both() {
    let folder = Folder::new();
    let file = folder.file("a");
    let log = archived(&file).await;
    let edited = rusqlite::Connection::open(&file).unwrap();
    edited.execute("UPDATE _run SET sum = sum + 1", []).unwrap();
    drop(edited);
    let away = folder.path().join("away");
    std::fs::rename(archive_of(&file), &away).unwrap();
    let said = told(&Sqlite::open(options(&file)).await.err().expect("refused"));
    assert!(said.contains("the index of the streams is damaged") && said.contains("put it back"), "{said}");
    std::fs::rename(&away, archive_of(&file)).unwrap();
    let store = open(&file).await;
    assert_eq!(whole(&store).await, log);
    store.close().await;
}
