//! Exports and imports of a store, whole, cut off and damaged.

use purlin::message::{Clock, Envelope, Meta, Timestamp, TraceContext, new_id};
use purlin::store::memory::Memory;
use purlin::store::transfer::{self, CompareError, ExportError, ImportError};
use purlin::store::{Commit, Expected, Field, OpenError, Position, Revision, Row, Store, Stores, StreamId};
use serde::{Deserialize, Serialize};

#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Bill {
    total: i64,
    tags: Vec<String>,
}

impl Row for Bill {
    const COLLECTION: &'static str = "bills";
    const FIELDS: &'static [Field] = &[Field::integer("total"), Field::texts("tags")];
}

fn stream(key: u64) -> StreamId {
    StreamId::new("order", key).unwrap()
}

/// A store with events of several times, kinds and streams, and with records.
async fn full() -> Store {
    let (clock, hand) = Clock::manual(Timestamp::from_second(1_700_000_000).unwrap());
    let store = Store::new(Memory::with_clock(clock));
    store.define::<Bill>().await.unwrap();
    for n in 0..50_u64 {
        hand.advance(std::time::Duration::from_micros(1_234_567));
        let trace = Some(TraceContext { trace_id: u128::from(n) + 1, span_id: 2, flags: 1 });
        let meta = Meta { trace, correlation: Some(new_id()), causation: None, deadline: None };
        let data = if n % 7 == 0 { "{\n \"pretty\": true }".to_owned() } else { format!("{{\"n\":{n}.0}}") };
        let first = Envelope { meta, schema: 3, ..Envelope::raw("order.placed", data) };
        let second = Envelope::raw("order.paid", "null").tagged(["a:1", "b"]).public();
        let bill = Bill { total: n.cast_signed(), tags: vec!["x".into()] };
        let due = Timestamp::from_second(2_000_000_000 + n.cast_signed()).ok().filter(|_| n % 2 == 0);
        let commit = Commit::new()
            .append(stream(n % 5), Expected::Any, [first, second])
            .append(stream(n % 3), Expected::Any, [Envelope::raw("order.seen", "\"\u{1F9F5}\"")])
            .put_expecting(format!("bill/{n:02}"), &bill, Revision::Absent, due);
        store.commit(commit).await.unwrap();
    }
    store
}

fn twin(of: &Store) -> Store {
    Store::new(Memory::of_log(of.log_id(), Clock::system()))
}

async fn exported(store: &Store) -> Vec<u8> {
    let mut lines = Vec::new();
    let moved = transfer::export(store, &mut lines, |_| ()).await.unwrap();
    assert_eq!((moved.events, moved.bytes), (store.head().0, lines.len() as u64));
    lines
}

#[tokio::test]
async fn what_is_exported_and_imported_is_the_same_store() {
    let store = full().await;
    let lines = exported(&store).await;
    let other = twin(&store);
    let mut told = Vec::new();
    let moved = transfer::import(&other, &lines[..], |progress| told.push(progress)).await.unwrap();
    assert_eq!((moved.events, moved.records, moved.bytes), (150, 50, lines.len() as u64));
    assert!(told.last().is_some_and(|last| last.events == 150 && last.of == 150));
    let compared = transfer::compare(&store, &other, |_| ()).await.unwrap();
    assert_eq!((compared.events, compared.records), (150, 50));
    assert_eq!(transfer::unfinished(&other).await.unwrap(), None);
    assert_eq!(other.collections().await.unwrap(), store.collections().await.unwrap());
    let due = other.due::<Bill>(Timestamp::from_second(2_000_000_001).unwrap(), 10).await.unwrap();
    assert_eq!(due.iter().map(|record| record.key.as_str()).collect::<Vec<_>>(), ["bill/00"]);
    // Its second export differs from the first only in when it was written.
    let again = exported(&other).await;
    let behind_header = |lines: &[u8]| {
        let text = String::from_utf8(lines.to_vec()).unwrap();
        let lines: Vec<&str> = text.lines().skip(1).collect();
        lines[..lines.len() - 1].join("\n")
    };
    assert_eq!(behind_header(&again), behind_header(&lines));
}

#[tokio::test]
async fn an_export_that_was_cut_anywhere_is_noticed_and_goes_on_when_the_whole_of_it_comes() {
    let store = full().await;
    let lines = exported(&store).await;
    for cut in (0..lines.len()).step_by(997).chain([1, lines.len() - 1]) {
        let other = twin(&store);
        let refused = transfer::import(&other, &lines[..cut], |_| ()).await;
        let header = lines.iter().position(|byte| *byte == b'\n').unwrap();
        match refused {
            Err(ImportError::Cut(_)) if cut > header => {
                let unfinished = transfer::unfinished(&other).await.unwrap();
                assert_eq!(unfinished.map(|header| header.head), Some(Position(150)));
                assert!(matches!(
                    transfer::export(&other, Vec::new(), |_| ()).await,
                    Err(ExportError::Unfinished)
                ));
            }
            Err(ImportError::Line { line: 1, .. }) if cut <= header => {}
            other => panic!("cut at {cut}: {other:?}"),
        }
        transfer::import(&other, &lines[..], |_| ()).await.unwrap();
        transfer::compare(&store, &other, |_| ()).await.unwrap();
    }
}

#[tokio::test]
async fn a_cut_off_import_goes_on_behind_what_it_has() {
    let (store, at) = (Store::memory(), Timestamp::from_second(1_000_000_000).unwrap());
    for n in 0..3000_u64 {
        let event = Envelope::raw("order.placed", n.to_string());
        store.commit(Commit::new().append_at(stream(n % 50), Expected::Any, [event], at)).await.unwrap();
    }
    let lines = exported(&store).await;
    let other = twin(&store);
    let half = lines.len() / 2;
    assert!(matches!(transfer::import(&other, &lines[..half], |_| ()).await, Err(ImportError::Cut(_))));
    let there = other.head();
    assert!(there > Position::START && there < store.head(), "{there}");
    // Another export of the same log is not taken for the rest of this one.
    store.commit(Commit::new().append(stream(1), Expected::Any, [Envelope::raw("more", "1")])).await.unwrap();
    let newer = exported(&store).await;
    let refused = transfer::import(&other, &newer[..], |_| ()).await;
    assert!(matches!(refused, Err(ImportError::Another { head: Position(3000), .. })), "{refused:?}");
    transfer::import(&other, &lines[..], |_| ()).await.unwrap();
    assert_eq!(other.head(), Position(3000));
    let differs = transfer::compare(&store, &other, |_| ()).await;
    assert!(matches!(differs, Err(CompareError::Differs(_))), "{differs:?}");
}

#[tokio::test]
async fn a_changed_byte_is_noticed() {
    let store = full().await;
    let lines = exported(&store).await;
    let text = String::from_utf8(lines).unwrap();
    let changes = [
        text.replace("order.seen", "order.sawn"),
        text.replacen("\"total\":7", "\"total\":8", 1),
        text.replacen("\"version\":2", "\"version\":3", 1),
        text.replacen("\"position\":70,", "\"position\":71,", 1),
        text.lines().filter(|line| !line.contains("bill/20")).map(|line| format!("{line}\n")).collect(),
    ];
    for changed in changes {
        assert_ne!(changed, text);
        let other = twin(&store);
        let refused = transfer::import(&other, changed.as_bytes(), |_| ()).await;
        assert!(
            matches!(
                refused,
                Err(ImportError::Damaged(_) | ImportError::Line { .. } | ImportError::Commit(_))
            ),
            "{refused:?}"
        );
        assert!(transfer::unfinished(&other).await.unwrap().is_some(), "what came is not for use");
    }
}

#[tokio::test]
async fn only_an_empty_store_of_the_same_log_takes_an_import() {
    let store = full().await;
    let lines = exported(&store).await;
    let stranger = transfer::import(&Store::memory(), &lines[..], |_| ()).await;
    assert!(matches!(stranger, Err(ImportError::OtherLog { .. })), "{stranger:?}");
    let used = twin(&store);
    used.commit(Commit::new().append(stream(1), Expected::Any, [Envelope::raw("a", "1")])).await.unwrap();
    let refused = transfer::import(&used, &lines[..], |_| ()).await;
    assert!(matches!(refused, Err(ImportError::NotEmpty(_))), "{refused:?}");
    let records = twin(&store);
    records.define::<Bill>().await.unwrap();
    records.commit(Commit::new().put("a", &Bill { total: 1, tags: vec![] })).await.unwrap();
    let refused = transfer::import(&records, &lines[..], |_| ()).await;
    assert!(matches!(refused, Err(ImportError::NotEmpty(_))), "{refused:?}");
    let newer = String::from_utf8(lines).unwrap().replacen("\"format\":1", "\"format\":2", 1);
    let refused = transfer::import(&twin(&store), newer.as_bytes(), |_| ()).await;
    assert!(matches!(refused, Err(ImportError::Newer(2))), "{refused:?}");
}

#[tokio::test]
async fn a_store_that_is_written_to_meanwhile_is_not_exported() {
    let store = full().await;
    let mut writes = 0;
    let written = store.clone();
    let refused = transfer::export(&store, Vec::new(), |_| {
        if writes == 0 {
            let commit = written.commit(Commit::new().put("late", &Bill { total: 1, tags: vec![] }));
            futures_util::FutureExt::now_or_never(commit).unwrap().unwrap();
        }
        writes += 1;
    });
    let refused = refused.await;
    assert!(matches!(refused, Err(ExportError::Disturbed)), "{refused:?}");
}

#[tokio::test]
async fn a_half_imported_store_is_refused_until_it_is_finished() {
    let store = full().await;
    let lines = exported(&store).await;
    let half = twin(&store);
    let opened = half.clone();
    let stores = Stores::new().with("test", move |_, _| {
        let opened = opened.clone();
        async move { Ok(opened) }
    });
    transfer::import(&half, &lines[..lines.len() - 5], |_| ()).await.unwrap_err();
    // The store that the refusal closes is another handle of this one in memory: begin anew.
    let refused = stores.open("test:", "orders").await;
    assert!(matches!(refused, Err(OpenError::HalfImported { .. })), "{refused:?}");
    let whole = twin(&store);
    transfer::import(&whole, &lines[..], |_| ()).await.unwrap();
    let stores = Stores::new().with("test", move |_, _| {
        let whole = whole.clone();
        async move { Ok(whole) }
    });
    stores.open("test:", "orders").await.unwrap();
}

#[tokio::test]
async fn personal_data_travel_sealed_and_are_read_where_their_keys_arrive() {
    use purlin::store::personal::{Personal, Subject};

    let (store, ada) = (Store::memory(), Subject::new("ada").unwrap());
    #[derive(Serialize, Deserialize)]
    enum Happened {
        Named(Personal<String>),
    }
    impl purlin::message::Event for Happened {}
    let named = Happened::Named(Personal::new(&ada, "Ada Lovelace".to_owned()));
    let named = Envelope::new("user", &named).unwrap();
    store.commit(Commit::new().append(stream(1), Expected::NoStream, [named])).await.unwrap();
    let lines = exported(&store).await;
    assert!(!lines.windows(8).any(|bytes| bytes == b"Lovelace"), "nobody reads it on its way");
    let other = twin(&store);
    // One that was cut off behind the keys goes on.
    let end = lines[..lines.len() - 1].iter().rposition(|byte| *byte == b'\n').unwrap();
    for _ in 0..2 {
        let cut = transfer::import(&other, &lines[..=end], |_| ()).await;
        assert!(matches!(cut, Err(ImportError::Cut(_))), "{cut:?}");
    }
    transfer::import(&other, &lines[..], |_| ()).await.unwrap();
    let event = other.read_stream(&stream(1), 1, 1).await.unwrap().remove(0);
    let name: Personal<String> = serde_json::from_slice(&event.envelope.data).unwrap();
    assert_eq!(name.get().map(String::as_str), Some("Ada Lovelace"));
    other.forget(&ada, Commit::new()).await.unwrap();
    let event = other.read_stream(&stream(1), 1, 1).await.unwrap().remove(0);
    let name: Personal<String> = serde_json::from_slice(&event.envelope.data).unwrap();
    assert_eq!(name.get(), None);
}
