//! Whether we were there while an attempt was under way.
//!
//! A process that was held (SIGSTOP, a machine that was paused, an executor that was blocked) finds its timers due before
//! it has read the answers that lie in its sockets, and connections that others gave up meanwhile. None of that tells of
//! the callee. Timers that fire much too late give it away; so that there always is one, an attempt has one more for each
//! quarter of its time, and each second.
//!
//! A task that is merely not polled (it stands in a `buffer_unordered` whose answers are worked on, or in a `select!`) is
//! another thing: its timers fire when they should, and it hears of it late. So an [`Alarm`] writes down when they fired.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Wake, Waker};
use std::time::Duration;

use tokio::time::Instant;

use crate::resilience::Deadline;

/// Whether we were there, from the least to the most doubtful.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Away {
    /// We were.
    No,
    /// We heard late of what happened: how long it took, and whether it was in time, nobody knows. An answer is one all the
    /// same.
    Late,
    /// We were held for so long that others may have given us up: what failed may be our fault.
    Held,
}

/// Looks whether we are there.
#[derive(Debug)]
pub(super) struct Watch {
    begun: Instant,
    /// When the timer is due that is set, once we wait.
    due: Option<Instant>,
    /// For how long no timer is due.
    looks: Duration,
    /// How much too late we may hear of one.
    late: Duration,
    alarm: Option<(Arc<Alarm>, Waker)>,
    away: Away,
}

impl Watch {
    /// For how long no timer is due: at least, and at most.
    const LOOKS: [Duration; 2] = [Duration::from_millis(10), Duration::from_secs(1)];
    /// How much too late a timer may fire on a machine that is merely busy, at least; else it is an eighth of the attempt's
    /// time, up to a second: what goes on within a long attempt may have a much shorter time of its own. Who was held for
    /// less has had the rest to hear an answer. Of an attempt so short that this is much of its time it is a quarter.
    const LATE: Duration = Duration::from_millis(50);
    /// Who was held for less has been given up by nobody.
    const GIVEN_UP: Duration = Duration::from_secs(1);

    /// Of an attempt that begins now.
    pub(super) fn new(begun: Instant) -> Self {
        let [looks, late] = [Duration::ZERO; 2];
        Self { begun, due: None, looks, late, alarm: None, away: Away::No }
    }

    /// When the next timer is due; the attempt waits, and what it has done until now took no longer than it should.
    pub(super) fn next(&mut self, until: Deadline, now: Instant) -> Instant {
        if self.due.is_none() {
            let (time, [least, most]) = (until.remaining_at(self.begun), Self::LOOKS);
            self.looks = (time / 4).clamp(least, most);
            self.late = (time / 8).clamp(Self::LATE.min(time / 4), Self::GIVEN_UP);
            // We may have been held before there was any timer.
            self.due = Some(self.begun + self.looks);
        }
        self.look(now);
        if let Some((alarm, _)) = &self.alarm {
            alarm.rang.store(Alarm::NOT_YET, Ordering::Relaxed);
        }
        let due = until.instant().min(now + self.looks);
        self.due = Some(due);
        due
    }

    /// With what the timer wakes the task.
    pub(super) fn waker(&mut self, task: &Waker) -> &Waker {
        let rang =
            self.alarm.as_ref().map_or(Alarm::NOT_YET, |(alarm, _)| alarm.rang.load(Ordering::Acquire));
        // A timer that fires between this and the next time that it is polled has not rung here, and is not late.
        self.alarm.take_if(|(alarm, _)| !alarm.task.will_wake(task));
        let (_, waker) = self.alarm.get_or_insert_with(|| {
            let alarm = Arc::new(Alarm { begun: self.begun, rang: AtomicU64::new(rang), task: task.clone() });
            (Arc::clone(&alarm), alarm.into())
        });
        waker
    }

    /// Whether we were there all the time until now.
    pub(super) fn look(&mut self, now: Instant) -> Away {
        let Some(due) = self.due.filter(|due| now.saturating_duration_since(*due) > self.late) else {
            return self.away;
        };
        let rang = self.alarm.as_ref().and_then(|(alarm, _)| alarm.rang());
        let held = rang.unwrap_or(now).saturating_duration_since(due);
        let away = if held > Self::GIVEN_UP { Away::Held } else { Away::Late };
        self.away = self.away.max(away);
        self.away
    }
}

/// Wakes a task for a timer, and says when that was.
#[derive(Debug)]
struct Alarm {
    begun: Instant,
    /// How many nanoseconds after that.
    rang: AtomicU64,
    task: Waker,
}

impl Alarm {
    const NOT_YET: u64 = u64::MAX;

    fn rang(&self) -> Option<Instant> {
        let nanos = self.rang.load(Ordering::Acquire);
        (nanos != Self::NOT_YET).then(|| self.begun + Duration::from_nanos(nanos))
    }
}

impl Wake for Alarm {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        let nanos = Instant::now().saturating_duration_since(self.begun).as_nanos();
        let nanos = u64::try_from(nanos).unwrap_or(Self::NOT_YET);
        self.rang.store(nanos, Ordering::Release);
        self.task.wake_by_ref();
    }
}
