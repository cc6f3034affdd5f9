//! The audit of a log: what is whole is found whole, and what is planted is found where it is.

mod damaged;
mod follow;

use std::time::Duration;

use purlin::message::{Envelope, Uuid};
use purlin::store::audit::{Audit, Damage, Finding, Progress, Report};
use purlin::store::{Commit, Expected, Position, Recorded, Store, StreamId};

use damaged::Damaged;

fn stream(n: u64) -> StreamId {
    StreamId::new("thing", n).unwrap()
}

fn event(n: u64) -> Envelope {
    Envelope::raw("thing.counted", format!("{{\"n\":{n}}}"))
}

/// Three streams of twenty events each, in turn: `thing-0` has positions 1, 4, 7 and so on.
async fn write(store: &Store) {
    for n in 0..60 {
        let append = Commit::new().append(stream(n % 3), Expected::Any, [event(n)]);
        store.commit(append).await.unwrap();
    }
}

/// Small pages, so that what is planted lies between them too.
fn audit() -> Audit {
    Audit { page: 7, ..Audit::default() }
}

async fn report(damaged: &Damaged) -> Report {
    audit().run(&damaged.store(), |_| {}).await.unwrap()
}

fn found(position: u64, of: Option<u64>, damage: Damage) -> Finding {
    Finding { position: Position(position), stream: of.map(stream), damage }
}

/// The log with one event made another.
fn changed(
    position: u64,
    change: impl Fn(&mut Recorded) + Send + 'static,
) -> impl FnMut(Vec<Recorded>) -> Vec<Recorded> + Send + 'static {
    move |mut events| {
        events.iter_mut().filter(|event| event.position.0 == position).for_each(&change);
        events
    }
}

#[tokio::test]
async fn a_whole_log_is_found_whole_and_counted() {
    let damaged = Damaged::new();
    write(&damaged.store()).await;
    let mut heard = Vec::new();
    let report = audit().run(&damaged.store(), |progress| heard.push(progress)).await.unwrap();
    assert!(report.is_clean(), "{report}");
    assert_eq!((report.events, report.streams, report.sampled, report.passes), (60, 3, 3, 1));
    assert_eq!(report.through, Position(60));
    assert!(report.bytes > 60 * 7 && report.first <= report.last);
    assert_eq!(
        report.to_string(),
        "60 events of 3 streams up to position 60, 3 streams also by themselves: nothing is wrong"
    );
    assert_eq!(heard.len(), 9 + 3);
    assert_eq!(heard[0].to_string(), "position 7 of 60");
    assert_eq!(heard.last(), Some(&Progress::Streams { done: 3, of: 3 }));
}

#[tokio::test]
async fn an_empty_log_is_whole() {
    let report = report(&Damaged::new()).await;
    assert!(report.is_clean() && report.events == 0 && report.first.is_none(), "{report}");
}

#[tokio::test]
async fn what_is_written_meanwhile_is_not_asked_about() {
    let damaged = Damaged::new();
    write(&damaged.store()).await;
    let store = damaged.store();
    let writer = store.clone();
    damaged.log(move |events| {
        // Between two pages.
        let append = writer.commit(Commit::new().append(stream(1), Expected::Any, [event(0)]));
        futures_util::FutureExt::now_or_never(append).unwrap().unwrap();
        events
    });
    let report = audit().run(&store, |_| {}).await.unwrap();
    assert!(report.is_clean() && report.through == Position(60) && report.events == 60, "{report}");
}

#[tokio::test]
async fn each_damage_is_found_where_it_is() {
    let damaged = Damaged::new();
    write(&damaged.store()).await;
    let without = |position: u64| {
        move |mut events: Vec<Recorded>| {
            events.retain(|event| event.position.0 != position);
            events
        }
    };
    // Between the pages, and inside of one.
    for position in [7, 8, 20] {
        damaged.log(without(position));
        let found = report(&damaged).await.findings;
        assert!(
            found.contains(&self::found(position, None, Damage::Missing(Position(position)))),
            "{found:?}"
        );
        let (of, due) = ((position - 1) % 3, (position - 1) / 3 + 1);
        let next = Damage::Version { due, found: due + 1 };
        assert!(found.contains(&self::found(position + 3, Some(of), next)), "its stream is known: {found:?}");
    }
    damaged.log(changed(10, |event| event.version = 9));
    let of_ten = report(&damaged).await.findings;
    assert!(of_ten.contains(&found(10, Some(0), Damage::Version { due: 4, found: 9 })), "{of_ten:?}");
    damaged.log(changed(10, |event| event.at -= Duration::from_secs(10)));
    let of_ten = report(&damaged).await.findings;
    assert!(matches!(of_ten[0].damage, Damage::Time(_)) && of_ten[0].position == Position(10), "{of_ten:?}");
    damaged.log(changed(10, |event| event.envelope.id = Uuid::nil()));
    assert_eq!(report(&damaged).await.findings[0], found(10, Some(0), Damage::Id(None)));
    damaged.log(changed(10, |event| event.envelope.kind = "a\nb".into()));
    assert_eq!(report(&damaged).await.findings[0], found(10, Some(0), Damage::Kind("a\nb".into())));
    damaged.log(changed(10, |event| event.envelope.kind = "".into()));
    assert_eq!(report(&damaged).await.findings[0], found(10, Some(0), Damage::Kind(String::new())));
    damaged.log(|mut events| {
        if let Some(n) = events.windows(2).position(|pair| pair[1].position.0 == 12) {
            events.swap(n, n + 1);
        }
        events
    });
    let of_twelve = report(&damaged).await.findings;
    assert!(of_twelve.contains(&found(11, Some(1), Damage::Disorder(Position(12)))), "{of_twelve:?}");
}

#[tokio::test]
async fn an_id_that_is_there_twice_is_found_within_the_window() {
    let store = Store::memory();
    let twice = event(1);
    for n in 0..20 {
        let event = if n == 3 || n == 13 { twice.clone() } else { event(n) };
        store.commit(Commit::new().append(stream(n), Expected::Any, [event])).await.unwrap();
    }
    let with = async |ids| Audit { ids, ..audit() }.run(&store, |_| {}).await.unwrap().findings;
    assert_eq!(with(20).await, [found(14, Some(13), Damage::Id(Some(Position(4))))]);
    assert_eq!(with(5).await, [], "it is further away than the window is long");
}

#[tokio::test]
async fn an_event_that_cannot_be_read_is_named_and_those_behind_it_are_read() {
    let damaged = Damaged::new();
    write(&damaged.store()).await;
    for position in [10, 11, 40] {
        damaged.unreadable(position);
    }
    let report = report(&damaged).await;
    let unreadable = |finding: &&Finding| matches!(finding.damage, Damage::Unreadable(_));
    let places = report.findings.iter().filter(unreadable).map(|finding| finding.position.0);
    assert_eq!(places.take(3).collect::<Vec<_>>(), [10, 11, 40], "{report}");
    assert_eq!(
        report.findings[0].to_string(),
        "position 10: the event cannot be read: the event at 10: the checksum is wrong"
    );
    assert_eq!(report.events, 57);
}

#[tokio::test]
async fn a_log_that_ends_before_its_head_is_found() {
    let damaged = Damaged::new();
    write(&damaged.store()).await;
    damaged.log(|mut events| {
        events.retain(|event| event.position.0 <= 50);
        events
    });
    let report = report(&damaged).await;
    let missing: Vec<_> =
        report.findings.iter().filter(|found| matches!(found.damage, Damage::Missing(_))).collect();
    assert_eq!(missing[0].position, Position(51), "{report}");
}

#[tokio::test]
async fn a_stream_that_says_something_else_than_the_log_is_found() {
    let damaged = Damaged::new();
    write(&damaged.store()).await;
    damaged.stream(changed(10, |event| event.envelope.data = "{\"n\":0}".into()));
    assert_eq!(report(&damaged).await.findings, [found(10, Some(0), Damage::NotInStream(4))]);
    damaged.stream(|mut events| {
        events.retain(|event| event.position.0 != 58);
        events
    });
    assert_eq!(
        report(&damaged).await.findings,
        [found(58, Some(0), Damage::NotInStream(20))],
        "its end is missing"
    );
    damaged.stream(|mut events| {
        events.retain(|event| event.position.0 != 4);
        events
    });
    assert_eq!(report(&damaged).await.findings, [found(4, Some(0), Damage::NotInStream(2))]);
    damaged.stream(|mut events| {
        if let Some(last) = events.last().filter(|last| last.position.0 == 59).cloned() {
            events.push(Recorded { version: last.version + 1, ..last });
        }
        events
    });
    assert_eq!(report(&damaged).await.findings, [found(59, Some(1), Damage::NotInLog(21))]);
}

#[tokio::test]
async fn of_much_damage_a_part_is_told_and_all_is_counted() {
    let damaged = Damaged::new();
    write(&damaged.store()).await;
    damaged.log(|mut events| {
        events.iter_mut().for_each(|event| event.envelope.id = Uuid::nil());
        events
    });
    let report = Audit { findings: 5, samples: 0, ..audit() }.run(&damaged.store(), |_| {}).await.unwrap();
    assert_eq!((report.found, report.findings.len()), (60, 5));
    assert!(report.to_string().ends_with("; and 55 more"), "{report}");
}

#[tokio::test]
async fn more_streams_than_are_followed_at_once_are_followed_one_part_after_the_other() {
    let damaged = Damaged::new();
    let store = damaged.store();
    for n in 0..200 {
        store.commit(Commit::new().append(stream(n % 100), Expected::Any, [event(n)])).await.unwrap();
    }
    damaged.log(|mut events| {
        events.iter_mut().filter(|event| event.position.0 > 100).for_each(|event| event.version += 1);
        events
    });
    let report = Audit { streams: 10, samples: 0, ..Audit::default() }.run(&store, |_| {}).await.unwrap();
    // How many it takes hangs on how the streams fall into parts.
    assert!(report.passes > 1, "{report:?}");
    assert_eq!((report.streams, report.found), (100, 100), "each stream once: {report}");
}
