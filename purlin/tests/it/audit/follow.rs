//! A follower sees what comes, and that nothing comes behind it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use purlin::store::audit::{Audit, Damage, Followed, Report};
use purlin::store::memory::Memory;
use purlin::store::{
    BoxFuture, Commit, Engine, Expected, Layer, LogFilter, LogPage, Position, ReadError, Recorded, Store,
};

use super::damaged::Damaged;
use super::{changed, event, found, stream, write};

/// Follows a log until it has come to its end.
async fn follow(damaged: &Damaged, behind: usize, after: u64) -> Followed {
    let audit = Audit { page: 7, behind, ..Audit::default() };
    audit.follow(&damaged.store(), Position(after), std::future::ready(()), |_| {}).await.unwrap()
}

#[tokio::test]
async fn a_follower_sees_what_is_written_while_it_follows() {
    let damaged = Damaged::new();
    let store = damaged.store();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let audit = Audit { page: 7, behind: 20, ..Audit::default() };
    let until = async {
        let _ = stopped.await;
    };
    let mut stop = Some(stop);
    let following = audit.follow(&store, Position::START, until, |report| {
        if report.through == Position(60) {
            let _ = stop.take().map(|stop| stop.send(()));
        }
    });
    let (followed, ()) = tokio::join!(following, write(&store));
    let followed = followed.unwrap();
    assert!(followed.report.is_clean(), "{followed}");
    assert_eq!((followed.report.events, followed.report.through), (60, Position(60)));
    assert!(followed.looks > 3, "{followed}");
}

#[tokio::test]
async fn a_follower_may_begin_in_the_middle() {
    let damaged = Damaged::new();
    write(&damaged.store()).await;
    let followed = follow(&damaged, 100, 31).await;
    assert!(followed.report.is_clean() && followed.report.events == 29, "{followed}");
    damaged.log(changed(45, |event| event.version += 1));
    assert_eq!(
        follow(&damaged, 100, 31).await.report.findings[0],
        found(45, Some(2), Damage::Version { due: 15, found: 16 })
    );
}

#[tokio::test]
async fn an_event_that_shows_up_behind_the_cursor_is_found() {
    let damaged = Damaged::new();
    write(&damaged.store()).await;
    let shown = Arc::new(AtomicBool::new(false));
    damaged.log(move |mut events| {
        // As a log does whose positions are drawn before they are committed: 20 is there when 40 has been read.
        if events.iter().any(|event| event.position.0 == 40) {
            shown.store(true, Ordering::Relaxed);
        }
        events.retain(|event| event.position.0 != 20 || shown.load(Ordering::Relaxed));
        events
    });
    let followed = follow(&damaged, 100, 0).await;
    assert!(followed.report.findings.contains(&found(20, None, Damage::Missing(Position(20)))), "{followed}");
    assert!(followed.report.findings.contains(&found(20, Some(1), Damage::Late)), "{followed}");
}

#[tokio::test]
async fn an_event_that_changes_or_goes_behind_the_cursor_is_found() {
    for (behind, known) in [(100, true), (10, false)] {
        for gone in [true, false] {
            let damaged = Damaged::new();
            write(&damaged.store()).await;
            let mut passed = false;
            damaged.log(move |mut events: Vec<Recorded>| {
                let other = |event: &Recorded| passed && event.position.0 == 20;
                if gone {
                    events.retain(|event| !other(event));
                } else if let Some(event) = events.iter_mut().find(|event| other(event)) {
                    event.envelope.data = "{\"n\":0}".into();
                }
                passed |= events.iter().any(|event| event.position.0 == 60);
                events
            });
            let followed = follow(&damaged, behind, 0).await;
            let expected = match (known, gone) {
                (true, true) => found(20, None, Damage::Gone),
                (true, false) => found(20, Some(1), Damage::Changed),
                // One of all that are too far away to be known one by one.
                (false, _) => found(50, None, Damage::Changed),
            };
            assert_eq!(followed.report.findings, [expected], "{followed}");
        }
    }
}

/// Follows a log in which something becomes of the event at position 16, once 21 has been read. It is looked back at 21, 42
/// and twice at 60, over 28 events, and then over all.
async fn harmed(harm: fn(&mut Vec<Recorded>, bool)) -> Followed {
    let damaged = Damaged::new();
    write(&damaged.store()).await;
    let mut passed = false;
    damaged.log(move |mut events: Vec<Recorded>| {
        harm(&mut events, passed);
        passed |= events.iter().any(|event| event.position.0 == 21);
        events
    });
    follow(&damaged, 28, 0).await
}

#[tokio::test]
async fn what_is_seen_at_several_looks_is_told_once() {
    let gone = harmed(|events, passed| events.retain(|event| !passed || event.position.0 != 16)).await;
    assert!(gone.looks == 4 && gone.report.findings == [found(16, None, Damage::Gone)], "{gone}");
    let changed = harmed(|events, passed| {
        for event in events.iter_mut().filter(|event| passed && event.position.0 == 16) {
            event.envelope.data = "{\"n\":0}".into();
        }
    });
    let changed = changed.await.report;
    assert!(matches!(&changed.findings[..], [only] if only.damage == Damage::Changed), "{changed}");
    let late = harmed(|events, passed| events.retain(|event| passed || event.position.0 != 16)).await.report;
    let behind = |damage: &Damage| matches!(damage, Damage::Late | Damage::Changed | Damage::Gone);
    let told: Vec<_> = late.findings.iter().map(|finding| &finding.damage).filter(|it| behind(it)).collect();
    assert_eq!(told, [&Damage::Late], "{late}");
}

#[tokio::test]
async fn a_follower_that_nothing_comes_to_waits() {
    let damaged = Damaged::new();
    let store = damaged.store();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let audit = Audit::default();
    let until = async {
        let _ = stopped.await;
    };
    let following = audit.follow(&store, Position::START, until, |_| {});
    let later = async {
        for n in 0..3 {
            tokio::task::yield_now().await;
            store.commit(Commit::new().append(stream(n), Expected::Any, [event(n)])).await.unwrap();
        }
        tokio::task::yield_now().await;
        let _ = stop.send(());
    };
    let (followed, ()) = tokio::join!(following, later);
    assert_eq!(followed.unwrap().report.events, 3);
}

/// A log to which somebody always appends before it is read.
struct Growing(Memory, AtomicU64);

impl Layer for Growing {
    fn inner(&self) -> &dyn Engine {
        &self.0
    }

    fn read_log(
        &self,
        after: Position,
        filter: LogFilter,
        limit: usize,
    ) -> BoxFuture<'_, Result<LogPage, ReadError>> {
        Box::pin(async move {
            let reads = self.1.fetch_add(1, Ordering::Relaxed);
            assert!(reads < 100_000, "it reads for ever");
            let next = Commit::new().append(stream(1), Expected::Any, [event(reads)]);
            self.0.commit(next).await.expect("a commit");
            self.0.read_log(after, filter, limit).await
        })
    }
}

#[tokio::test]
async fn a_follower_that_is_to_end_does_not_chase_what_is_written_meanwhile() {
    let store = Store::new(Growing(Memory::new(), AtomicU64::new(0)));
    let audit = Audit { page: 1, ..Audit::default() };
    let followed = audit.follow(&store, Position::START, std::future::ready(()), |_| {}).await.unwrap();
    assert!(followed.report.is_clean(), "{followed}");
    assert!(followed.report.through < store.head());
}

#[tokio::test]
async fn what_is_wrong_is_told_when_it_is_seen() {
    let damaged = Damaged::new();
    write(&damaged.store()).await;
    damaged.log(changed(20, |event| event.version += 1));
    let mut heard = Vec::new();
    let audit = Audit { page: 7, ..Audit::default() };
    let tell = |report: &Report| heard.push((report.through.0, report.events, report.found));
    audit.follow(&damaged.store(), Position::START, std::future::ready(()), tell).await.unwrap();
    assert_eq!(heard[..4], [(0, 0, 0), (7, 7, 0), (14, 14, 0), (21, 21, 1)]);
}
