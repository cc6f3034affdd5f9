//! Archiving changes where events lie, and nothing that anybody reads.

use std::time::Duration;

use crate::message::Envelope;
use crate::store::archive::Selection;
use crate::store::{
    Archived, Commit, CommitError, Conflict, EventQuery, Expected, LogFilter, Position, Recorded, Store,
    StreamId,
};
use crate::testing::Dice;

use super::{Harness, event, whole_log, whole_stream};

const ROUNDS: u64 = 3;

pub(super) async fn run<H: Harness>(harness: &H) {
    for seed in 0..ROUNDS {
        let name = format!("archiving{seed}");
        let store = harness.open(&name).await;
        let read = no_read_changes(&store, seed).await;
        store.close().await;
        if H::DURABLE {
            let store = harness.open(&name).await;
            assert_eq!(Answers::of(&store).await, read, "seed {seed}, opened again");
            assert_eq!(
                archive(&store, streams_of(&read.log), 1000).await,
                Archived::default(),
                "nor moved again"
            );
            store.close().await;
        }
    }
    a_tenant_archives_his_own(&harness.open("archiving-tenants").await).await;
    streams_are_chosen_by_their_ends(&harness.open("archiving-chosen").await).await;
}

/// All that can be read of a log.
#[derive(Debug, PartialEq)]
struct Answers {
    head: Position,
    log: Vec<Recorded>,
    filtered: Vec<Vec<Recorded>>,
    streams: Vec<(Vec<Recorded>, Vec<Recorded>)>,
    parts: Vec<Vec<Recorded>>,
}

impl Answers {
    async fn of(store: &Store) -> Self {
        let (head, log) = (store.head(), whole_log(store).await);
        let (mut filtered, mut streams, mut parts) = (Vec::new(), Vec::new(), Vec::new());
        for filter in filters() {
            let read = found(store, &filter, 1000).await;
            for limit in [1, 7] {
                assert_eq!(found(store, &filter, limit).await, read, "{filter:?} in pages of {limit}");
            }
            filtered.push(read);
        }
        for stream in streams_of(&log) {
            let forwards = whole_stream(store, &stream).await;
            let mut backwards = Vec::new();
            while let Some(before) = backwards
                .last()
                .map_or(Some(u64::MAX), |event: &Recorded| Some(event.version))
                .filter(|v| *v > 1)
            {
                backwards
                    .extend(store.read_stream_back(&stream, before, 3).await.expect("a part of a stream"));
            }
            for from in 1..=forwards.len() as u64 {
                parts.push(store.read_stream(&stream, from, 2).await.expect("a part of a stream"));
                parts.push(store.read_stream_back(&stream, from, 2).await.expect("a part of a stream"));
            }
            streams.push((forwards, backwards));
        }
        Self { head, log, filtered, streams, parts }
    }
}

fn filters() -> Vec<LogFilter> {
    vec![
        LogFilter::public(),
        LogFilter::births(),
        LogFilter::category("order"),
        LogFilter::kinds(["k1", "k2"]),
        LogFilter::tagged(["two:1"]),
        LogFilter::tagged(["two:1", "five:3"]),
        LogFilter::matching(EventQuery::tagged(["five:2"]).or(EventQuery::of_kinds(["k0"]))),
        LogFilter { category: Some("bill".into()), ..LogFilter::tagged(["two:1"]) },
        LogFilter { public: true, ..LogFilter::category("bill") },
    ]
}

/// All that a filter wants, in pages of `limit`.
async fn found(store: &Store, filter: &LogFilter, limit: usize) -> Vec<Recorded> {
    let (mut after, mut found) = (Position::START, Vec::new());
    while after < store.head() {
        let page = store.read_log(after, filter, limit).await.expect("a page");
        assert!(page.through > after && page.events.len() <= limit);
        after = page.through;
        found.extend(page.events);
    }
    found
}

/// The streams of a log, in the order in which they began.
fn streams_of(log: &[Recorded]) -> Vec<StreamId> {
    log.iter().filter(|event| event.version == 1).map(|event| event.stream.clone()).collect()
}

/// Appends of one to four events, with tags and without, to streams of three categories.
async fn fill(store: &Store, dice: &mut Dice, commits: usize) {
    for _ in 0..commits {
        let category = ["order", "bill", "other"][usize::try_from(dice.below(3)).expect("small")];
        let stream = StreamId::new(category, dice.below(6)).expect("a name of the suite's own");
        let events = (0..=dice.below(4)).map(|_| {
            let event =
                Envelope::raw(format!("k{}", dice.below(4)), format!("{{\"n\":{}}}", dice.below(1000)));
            let event = if dice.percent(30) { event.public() } else { event };
            match dice.percent(60) {
                true => event.tagged([format!("two:{}", dice.below(2)), format!("five:{}", dice.below(5))]),
                false => event,
            }
        });
        let events: Vec<_> = events.collect();
        store.commit(Commit::new().append(stream, Expected::Any, events)).await.expect("an append");
    }
}

async fn archive(store: &Store, streams: Vec<StreamId>, limit: usize) -> Archived {
    store.engine().archive(streams, limit).await.expect("archived")
}

/// What is to be moved of a log, when so many events of it were moved before.
fn to_move(log: &[Recorded]) -> (u64, u64) {
    let last =
        |event: &Recorded| log.iter().rev().find(|other| other.stream == event.stream).map(|e| e.position);
    let moving: Vec<_> = log.iter().filter(|event| last(event) != Some(event.position)).collect();
    (moving.len() as u64, moving.iter().map(|event| event.envelope.data.len() as u64).sum())
}

async fn no_read_changes(store: &Store, seed: u64) -> Answers {
    let mut dice = Dice::new(seed);
    fill(store, &mut dice, 60).await;
    let before = Answers::of(store).await;
    let mut streams = streams_of(&before.log);
    // One that there is not, and one twice.
    streams.push(StreamId::new("order", "none").expect("a name"));
    streams.push(streams[0].clone());
    let (events, bytes) = to_move(&before.log);
    assert_eq!(archive(store, streams.clone(), 0).await, Archived { more: true, ..Archived::default() });
    let mut moved = Archived { more: true, ..Archived::default() };
    while moved.more {
        let step = archive(store, streams.clone(), 10).await;
        assert!(step.events == 10 || !step.more, "the limit is used, and kept: {step:?}");
        moved = Archived {
            events: moved.events + step.events,
            bytes: moved.bytes + step.bytes,
            more: step.more,
            ..Archived::default()
        };
        assert_eq!(Answers::of(store).await, before, "seed {seed}, when {} events were moved", moved.events);
    }
    assert_eq!(moved, Archived { events, bytes, ..Archived::default() }, "all but the last of each stream");
    assert_eq!(archive(store, streams.clone(), 1000).await, Archived::default(), "nothing is moved twice");

    heads_hold(store, &before).await;
    conditions_see_what_is_archived(store, &before).await;

    // Streams go on, and what was their last event is archived with what came behind it.
    fill(store, &mut dice, 30).await;
    let after = Answers::of(store).await;
    assert_eq!(after.log[..before.log.len()], before.log, "the log goes on");
    let (all, all_bytes) = to_move(&after.log);
    let step = archive(store, streams_of(&after.log), 10_000).await;
    assert_eq!(step, Archived { events: all - events, bytes: all_bytes - bytes, ..Archived::default() });
    assert_eq!(Answers::of(store).await, after, "seed {seed}, archived once more");
    after
}

/// What appends expect is held against the stream as it is.
async fn heads_hold(store: &Store, before: &Answers) {
    for (events, _) in &before.streams {
        let last = events.last().expect("a stream has events");
        let new = Commit::new().append(last.stream.clone(), Expected::NoStream, [event(0)]);
        match store.commit(new).await {
            Err(CommitError::Conflict(Conflict::Stream { actual, .. })) => assert_eq!(actual, last.version),
            other => panic!("an archived stream was begun again: {other:?}"),
        }
    }
    let last = before.streams[0].0.last().expect("a stream has events");
    let next = Commit::new().append(last.stream.clone(), Expected::Version(last.version), [event(0)]);
    let appended = store.commit(next).await.expect("an append at the right version");
    assert_eq!(appended.appended[0].version, last.version + 1);
    // As it was, but for this one.
    assert_eq!(store.head().0, before.head.0 + 1);
}

async fn conditions_see_what_is_archived(store: &Store, before: &Answers) {
    let query = EventQuery::tagged(["two:1", "five:3"]);
    let matching = before.log.iter().filter(|event| query.matches(&event.envelope));
    let Some(last) = matching.last().map(|event| event.position) else { return };
    let behind = |after: u64| Commit::new().unless(query.clone(), Position(after));
    match store.commit(behind(last.0 - 1)).await {
        Err(CommitError::Conflict(Conflict::Condition { found, .. })) => assert_eq!(found, last),
        other => panic!("a condition passed over an archived event: {other:?}"),
    }
    store.commit(behind(last.0)).await.expect("nothing matches behind the last");
}

async fn a_tenant_archives_his_own(store: &Store) {
    let (acme, other) = (store.tenant("acme").expect("a name"), store.tenant("other").expect("a name"));
    let order = StreamId::new("order", 1).expect("a name");
    for store in [store, &acme, &other] {
        let three = Commit::new().append(order.clone(), Expected::NoStream, [event(1), event(2), event(3)]);
        store.commit(three).await.expect("an append");
    }
    let log = whole_log(store).await;
    assert_eq!(archive(&acme, vec![order.clone()], 10).await.events, 2, "his own");
    assert_eq!(whole_log(store).await, log);
    assert_eq!(whole_stream(&acme, &order).await.len(), 3);
    assert_eq!(archive(&acme, vec![order.clone()], 10).await.events, 0, "no second time");
    let all = Selection::category("order").tenant("other");
    let done = store.archive(&all, |_| ()).await.expect("archived");
    assert_eq!((done.seen, done.chosen, done.events), (1, 1, 2), "of one tenant, by the store itself");
    let done = acme.archive(&Selection::category("order"), |_| ()).await.expect("archived");
    assert_eq!((done.seen, done.chosen, done.events), (1, 1, 0), "a tenant sees his own alone");
    assert_eq!(archive(store, vec![order], 10).await.events, 2, "that of nobody was left");
    assert_eq!(whole_log(store).await, log);
}

async fn streams_are_chosen_by_their_ends(store: &Store) {
    let raw = |kind: &str| Envelope::raw(kind, "{}");
    for (n, last) in
        ["order.shipped", "order.paid", "order.cancelled"].into_iter().cycle().take(9).enumerate()
    {
        let stream = StreamId::new("order", n).expect("a name");
        let events = [raw("order.placed"), raw("order.paid"), raw(last)];
        store.commit(Commit::new().append(stream, Expected::NoStream, events)).await.expect("an append");
    }
    let before = whole_log(store).await;
    let ended = Selection::category("order").ended_by(["order.shipped", "order.cancelled"]);
    let dry = store.archive(&ended.clone().dry_run(), |_| ()).await.expect("counted");
    assert_eq!((dry.seen, dry.chosen, dry.events, dry.bytes), (9, 6, 12, 0));
    let young =
        store.archive(&ended.clone().idle_for(Duration::from_secs(3600)), |_| ()).await.expect("looked at");
    assert_eq!((young.seen, young.chosen, young.events), (9, 0, 0), "none of them is an hour old");
    let mut told = Vec::new();
    let done = store.archive(&ended, |progress| told.push(progress)).await.expect("archived");
    assert_eq!((done.seen, done.chosen, done.events, done.bytes), (9, 6, 12, 24));
    assert!(done.is_done() && told.is_sorted_by_key(|progress| (progress.through, progress.events)));
    let again = store.archive(&ended, |_| ()).await.expect("nothing left");
    assert_eq!((again.chosen, again.events), (6, 0));
    let rest =
        store.archive(&Selection::category("order").after(Position(9)), |_| ()).await.expect("archived");
    assert_eq!((rest.seen, rest.events), (6, 4), "behind a position");
    let other = store.archive(&Selection::category("other"), |_| ()).await.expect("nothing there");
    assert_eq!(other.seen, 0);
    assert_eq!(whole_log(store).await, before);
    let nonsense = [
        Selection::category("no category!"),
        Selection::category("order").tenant("NO"),
        Selection::category("order").ended_by([""]),
        Selection::category("order").ended_by((0..65).map(|n| n.to_string())),
        Selection::category("order").idle_for(Duration::MAX),
    ];
    for selection in nonsense {
        assert!(store.archive(&selection, |_| ()).await.is_err(), "{selection:?}");
    }
}
