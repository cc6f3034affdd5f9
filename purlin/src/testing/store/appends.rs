//! Streams and the log.

use crate::message::{Envelope, Meta, Tags, Timestamp, TraceContext, new_id};
use crate::store::{Commit, CommitError, Conflict, Expected, LogFilter, Position, Revision, Store, StreamId};

use super::{Harness, Note, assert_in_order, event, stream, whole_log, whole_stream};

pub(super) async fn run<H: Harness>(harness: &H) {
    what_is_appended_is_read_back(&harness.open("appends").await).await;
    an_append_expects_a_version(&harness.open("expectations").await).await;
    a_commit_is_all_or_nothing(&harness.open("atomic").await).await;
    the_log_is_read_by_category_and_by_what_is_public(&harness.open("filters").await).await;
    a_filter_for_no_category_is_refused(&harness.open("no_category").await).await;
    what_is_too_large_or_unknown_is_refused(&harness.open("limits").await).await;
    a_commit_with_an_id_happens_once(&harness.open("ids").await).await;
    what_is_brought_from_elsewhere_keeps_its_time(&harness.open("times").await).await;
    a_page_of_large_events_is_not_cut_short(&harness.open("large").await).await;
}

async fn what_is_appended_is_read_back(store: &Store) {
    let full = Envelope {
        tags: Tags::new(["b", "a:1"]),
        public: true,
        schema: 7,
        meta: Meta {
            trace: Some(TraceContext { trace_id: u128::MAX, span_id: 1, flags: 1 }),
            correlation: Some(new_id()),
            causation: Some(new_id()),
            deadline: Timestamp::from_microsecond(1_700_000_060_000_001).ok(),
        },
        ..Envelope::raw("thing.full", "{\"text\":\"\u{1F9F5} \\u0000 'quotes' \"}".to_owned())
    };
    let bare = Envelope::raw("thing.bare", "null");
    let commit = Commit::new()
        .append(stream(1), Expected::NoStream, [full.clone(), bare.clone()])
        .append(stream("ключ 2"), Expected::Any, [event(1)])
        .append(stream(1), Expected::Version(2), [event(2)]);
    let committed = store.commit(commit).await.expect("a commit of three appends");
    assert_eq!(committed.position, Position(4));
    let ends: Vec<_> =
        committed.appended.iter().map(|appended| (appended.first.0, appended.version)).collect();
    assert_eq!(ends, [(1, 2), (3, 1), (4, 3)]);
    let first = whole_stream(store, &stream(1)).await;
    assert_eq!(first.iter().map(|event| &event.envelope).take(2).collect::<Vec<_>>(), [&full, &bare]);
    assert_eq!((first.len(), store.head()), (3, Position(4)));
    let log = whole_log(store).await;
    assert_in_order(&log);
    assert_eq!(log[2].stream, stream("ключ 2"));
    assert!(log.iter().all(|event| event.at == committed.at), "one commit, one time");
    let back = store.read_stream_back(&stream(1), u64::MAX, 2).await.expect("the end of a stream");
    assert_eq!(back.iter().map(|event| event.version).collect::<Vec<_>>(), [3, 2], "the newest first");
    let back = store.read_stream_back(&stream(1), 3, 10).await.expect("what is before a version");
    assert_eq!(back, [first[1].clone(), first[0].clone()]);
    for (of, before) in [(stream(1), 1), (stream(1), 0), (stream("none"), u64::MAX)] {
        assert!(store.read_stream_back(&of, before, 10).await.expect("nothing is there").is_empty());
    }
    let from_two = store.read_stream(&stream(1), 2, 1).await.expect("a part of a stream");
    assert_eq!(from_two.iter().map(|event| event.version).collect::<Vec<_>>(), [2]);
    assert!(store.read_stream(&stream("none"), 1, 10).await.expect("no stream").is_empty());
}

async fn what_is_brought_from_elsewhere_keeps_its_time(store: &Store) {
    let time = |second: i64| Timestamp::from_second(second).expect("a time");
    let imported = Commit::new()
        .append_at(stream(1), Expected::Any, [event(1), event(2)], time(1_000_000_000))
        .append_at(stream(2), Expected::Any, [event(3)], time(1_000_000_002))
        .append_at(stream(1), Expected::Version(2), [event(4)], time(1_000_000_001));
    store.commit(imported).await.expect("an import");
    let further = Commit::new().append_at(stream(2), Expected::Any, [event(5)], time(1_000_000_003));
    store.commit(further).await.expect("an import that goes on");
    let now =
        store.commit(Commit::new().append(stream(1), Expected::Any, [event(6)])).await.expect("an event");
    let late = Commit::new().append_at(stream(1), Expected::Any, [event(7)], time(1_000_000_004));
    store.commit(late).await.expect("an import behind an event of now");
    let log = whole_log(store).await;
    assert_in_order(&log);
    let times: Vec<i64> = log.iter().take(5).map(|event| event.at.as_second() - 1_000_000_000).collect();
    assert_eq!(times, [0, 0, 2, 2, 3], "none is before the one before it");
    assert!(log[5].at == now.at && log[6].at == now.at, "time does not go back");
}

async fn an_append_expects_a_version(store: &Store) {
    let append = |expected| store.commit(Commit::new().append(stream(1), expected, [event(0)]));
    let refused = |expected, actual| async move {
        match append(expected).await {
            Err(CommitError::Conflict(Conflict::Stream { stream: of, expected: e, actual: a })) => {
                assert_eq!((of, e, a), (stream(1), expected, actual));
            }
            other => panic!("{expected:?} at version {actual} gave {other:?}"),
        }
    };
    refused(Expected::Version(1), 0).await;
    append(Expected::NoStream).await.expect("there is no stream");
    refused(Expected::NoStream, 1).await;
    refused(Expected::Version(0), 1).await;
    refused(Expected::Version(2), 1).await;
    append(Expected::Version(1)).await.expect("the stream has one event");
    append(Expected::Any).await.expect("any version will do");
    let chained = Commit::new().append(stream(1), Expected::Version(3), [event(1)]).append(
        stream(1),
        Expected::Version(3),
        [event(2)],
    );
    let chained = store.commit(chained).await;
    assert!(matches!(chained, Err(CommitError::Conflict(_))), "the second append sees the first");
    assert_eq!(whole_stream(store, &stream(1)).await.len(), 3);
}

async fn a_commit_is_all_or_nothing(store: &Store) {
    store.define::<Note>().await.expect("a collection can be defined");
    let base = Commit::new().append(stream(1), Expected::Any, [event(1)]).put("there", &Note::new("a", 1));
    let revision = store.commit(base).await.expect("the beginning").revision;
    let good = || {
        Commit::new()
            .append(stream(2), Expected::NoStream, [event(1)])
            .put("new", &Note::new("b", 2))
            .delete::<Note>("there", Revision::Any)
    };
    let wrong = [
        good().append(stream(1), Expected::NoStream, [event(2)]),
        good().put_expecting("there", &Note::new("c", 3), Revision::Absent, None),
        good().put_expecting("gone", &Note::new("c", 3), Revision::Exact(revision), None),
        good().delete::<Note>("there", Revision::Exact(revision + 1)),
        good().require::<Note>("gone", Revision::Exact(revision)),
        good().require::<Note>("there", Revision::Absent),
    ];
    for commit in wrong {
        let refused = store.commit(commit).await;
        assert!(matches!(refused, Err(CommitError::Conflict(_))), "{refused:?}");
        assert_eq!(store.head(), Position(1));
        assert!(store.read_stream(&stream(2), 1, 1).await.expect("readable").is_empty());
        assert_eq!(store.get::<Note>("new").await.expect("readable"), None);
        assert_eq!(store.get::<Note>("there").await.expect("readable"), Some(Note::new("a", 1)));
    }
    let right =
        good().require::<Note>("there", Revision::Exact(revision)).require::<Note>("new", Revision::Absent);
    store.commit(right).await.expect("all is as expected");
    assert_eq!(store.get::<Note>("there").await.expect("readable"), None);
    let notes = store.get_record("notes", "new").await.expect("readable").expect("it was put");
    assert_eq!(notes.position, Position(2), "a record knows the position of its own commit");
}

async fn the_log_is_read_by_category_and_by_what_is_public(store: &Store) {
    let other = StreamId::new("thing.other", 1).expect("a name");
    for n in 0..300 {
        let event = if n % 3 == 0 { event(n).public() } else { event(n) };
        let of = if n % 2 == 0 { stream(n % 7) } else { other.clone() };
        store.commit(Commit::new().append(of, Expected::Any, [event])).await.expect("an append");
    }
    let public_other = LogFilter { public: true, ..LogFilter::category("thing.other") };
    for (filter, count) in [
        (LogFilter::all(), 300),
        (LogFilter::public(), 100),
        (LogFilter::category("thing"), 150),
        (public_other, 50),
        (LogFilter::category("none"), 0),
    ] {
        let (mut after, mut seen) = (Position::START, Vec::new());
        while after < store.head() {
            let page = store.read_log(after, &filter, 7).await.expect("a page");
            assert!(page.events.len() <= 7 && page.through > after, "a page is bounded and goes on");
            assert!(page.events.iter().all(|event| event.position > after && event.position <= page.through));
            after = page.through;
            seen.extend(page.events);
        }
        assert_eq!(seen.len(), count, "{filter:?}");
        assert!(
            seen.is_sorted_by_key(|event| event.position) && seen.iter().all(|event| filter.admits(event))
        );
        let end = store.read_log(after, &filter, 7).await.expect("the end");
        assert_eq!((end.events.len(), end.through), (0, after));
    }
}

async fn a_filter_for_no_category_is_refused(store: &Store) {
    let of = StreamId::parse("cart-item-1").expect("a name: `item-1` of `cart`");
    store.commit(Commit::new().append(of, Expected::Any, [event(1)])).await.expect("an append");
    for category in ["cart-item", "", "cart item"] {
        let page = store.read_log(Position::START, &LogFilter::category(category), 7).await;
        assert!(matches!(page, Err(crate::store::ReadError::Invalid(_))), "`{category}` gave {page:?}");
    }
}

async fn what_is_too_large_or_unknown_is_refused(store: &Store) {
    let large = |len: usize| Envelope::raw("thing.large", format!("\"{}\"", "x".repeat(len)));
    let append = |envelope| store.commit(Commit::new().append(stream(1), Expected::Any, [envelope]));
    append(large(1_000_000)).await.expect("a megabyte is taken");
    let too_large = append(large(2_000_000)).await;
    assert!(matches!(too_large, Err(CommitError::Invalid(_))), "{too_large:?}");
    let undefined = Commit::new().append(stream(1), Expected::Any, [event(1)]).put("a", &Note::new("a", 1));
    let undefined = store.commit(undefined).await;
    assert!(matches!(undefined, Err(CommitError::Invalid(_))), "{undefined:?}");
    let many = Commit::new().append(stream(1), Expected::Any, (0..100_000).map(event));
    assert!(matches!(store.commit(many).await, Err(CommitError::Invalid(_))));
    assert_eq!(store.head(), Position(1), "nothing was applied");
    assert!(store.get::<Note>("a").await.is_err(), "an undefined collection cannot be read");
    let bad_name = crate::store::Collection { name: "x\"; DROP TABLE".into(), fields: [].as_slice().into() };
    assert!(matches!(store.define_collection(bad_name).await, Err(CommitError::Invalid(_))));
}

async fn a_commit_with_an_id_happens_once(store: &Store) {
    let (id, keep) = (new_id(), std::time::Duration::from_secs(3600));
    let commit = || Commit::new().append(stream(1), Expected::Any, [event(1)]).with_id(id, keep);
    let first = store.commit(commit()).await.expect("the first time");
    store.commit(Commit::new().append(stream(2), Expected::Any, [event(1)])).await.expect("another");
    let again = store.commit(commit()).await.expect("the second time is answered");
    assert!(!first.repeated && again.repeated);
    assert_eq!((again.position, again.revision), (first.position, first.revision));
    assert_eq!(store.head(), Position(2), "it happened once");
    let strict = || {
        Commit::new()
            .append(stream(3), Expected::NoStream, [event(1)])
            .with_id(crate::message::derived_id(id, "strict"), keep)
    };
    let once = store.commit(strict()).await.expect("there is no such stream");
    let twice = store.commit(strict()).await.expect("what it meets is what it did itself");
    assert_eq!((once.repeated, twice.repeated, twice.position), (false, true, once.position));
    let other = Commit::new().append(stream(3), Expected::NoStream, [event(1)]).with_id(new_id(), keep);
    assert!(
        matches!(store.commit(other).await, Err(CommitError::Conflict(_))),
        "another id is another commit"
    );
    let later = Timestamp::MAX;
    assert_eq!(store.forget_commits(later).await.expect("forgotten"), 2);
    assert!(!store.commit(commit()).await.expect("after the window it is a new commit").repeated);
}

async fn a_page_of_large_events_is_not_cut_short(store: &Store) {
    let large = || Envelope::raw("thing.large", format!("\"{}\"", "x".repeat(900_000)));
    for version in 0..20 {
        let append = Commit::new().append(stream(1), Expected::Version(version), [large()]);
        store.commit(append).await.expect("an append");
    }
    let events = store.read_stream(&stream(1), 2, 30).await.expect("readable");
    assert_eq!(events.iter().map(|event| event.version).collect::<Vec<_>>(), (2..=20).collect::<Vec<_>>());
    let back = store.read_stream_back(&stream(1), 20, 30).await.expect("readable");
    assert_eq!(back.iter().map(|event| event.version).collect::<Vec<_>>(), (1..20).rev().collect::<Vec<_>>());
}
