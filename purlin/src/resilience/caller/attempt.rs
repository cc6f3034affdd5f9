//! One attempt: with a place, by leave of the breaker, within its time; and whom its end is held against.

use std::pin::{Pin, pin};
use std::sync::{Mutex, PoisonError};
use std::task::{Poll, ready};
use std::time::Duration;

use tokio::task::coop::{Unconstrained, unconstrained};
use tokio::time::{Instant, Sleep, sleep_until};

use crate::message::FaultKind;
use crate::resilience::breaker::Says;
use crate::resilience::budget::Reserved;
use crate::resilience::{Criticality, Deadline, Permit, Place, deadline};

use super::attempts::{Ended, Run};
use super::race::Race;
use super::{Silence, Verdict};

impl<'a, J> Run<'a, J> {
    /// Makes an attempt. Dropped when its `race` is lost, it tells the breaker nothing.
    pub(super) async fn attempt<T, E, F, Fut>(
        &self,
        now: Instant,
        retry: Option<Reserved<'a>>,
        work: &Mutex<F>,
        race: Option<&Race>,
    ) -> Ended<T, E>
    where
        F: FnMut() -> Fut,
        Fut: Future<Output = Result<T, E>>,
        J: Fn(&Result<T, E>) -> Verdict,
    {
        if self.deadline.remaining_at(now).is_zero() {
            return Ended::unasked(Silence::DeadlineExceeded, now);
        }
        let (place, now) = match self.parts.bulkhead.try_enter(self.class, now) {
            Ok(Some(place)) => (place, now),
            Ok(None) => match self.parts.bulkhead.wait(self.class, self.deadline).await {
                Ok(place) => (place, Instant::now()),
                Err(_) => return self.found_no_place(),
            },
            Err(_) => return Ended::unasked(Silence::Full, now),
        };
        let mut leave = match self.parts.breaker.admit(now) {
            Ok(permit) => Leave { permit: Some(permit), race, due: None, slept: false },
            Err(open) => return Ended::unasked(Silence::Open(open), now),
        };
        if let Some(retry) = retry {
            retry.made();
        }
        if let Some(race) = race {
            race.begins(now);
        }
        let time = self.time(now);
        let answer = {
            // Pinned here, and no argument of an async function: that would have it twice.
            let attempt = pin!(deadline::scope(time.until, async {
                let attempt = (work.lock().unwrap_or_else(PoisonError::into_inner))();
                attempt.await
            }));
            leave.until(time.until, now, attempt).await
        };
        let at = Instant::now();
        let (permit, slept) = leave.end(at);
        let since = (!slept).then_some(now);
        let Some(answer) = answer else {
            timed_out(permit, place, time, at, slept);
            let verdict = Verdict::Failed { kind: FaultKind::Timeout, retry_after: None };
            return Ended { answer: Err(Silence::DeadlineExceeded), at, verdict, asked: true, since };
        };
        let verdict = (self.judge)(&answer);
        match slept {
            true => permit.told_nothing(),
            false => settle(permit, place, Told { verdict, time, at, class: self.class }),
        }
        Ended { answer: Ok(answer), at, verdict, asked: true, since }
    }

    #[cold]
    fn found_no_place<T, E>(&self) -> Ended<T, E> {
        let now = Instant::now();
        match self.deadline.remaining_at(now).is_zero() {
            true => Ended::unasked(Silence::DeadlineExceeded, now),
            false => Ended::unasked(Silence::Full, now),
        }
    }

    /// How long an attempt has that begins now, and who says so.
    fn time(&self, now: Instant) -> Time {
        let policy = &self.parts.policy;
        let attempt = Deadline::from(now, policy.attempt);
        let until = attempt.min(self.deadline);
        let whose = match until {
            until if until == attempt => Whose::Policy,
            _ if self.given => Whose::Caller,
            // The end of a call whose time earlier attempts, or waiting for a place, have used up is no answer.
            until if until.remaining_at(now) >= policy.attempt.min(policy.timeout) / 2 => Whose::Policy,
            _ => Whose::Nobody,
        };
        Time { until, whose }
    }
}

/// Until when an attempt may last, and who says so.
#[derive(Debug, Clone, Copy)]
struct Time {
    until: Deadline,
    whose: Whose,
}

/// Whose wish it is that an attempt ends then.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Whose {
    /// The policy's: it is as long as an answer may take, and the end of it counts against the callee.
    Policy,
    /// Our caller's, who may give as little as he likes: that must not open the breaker for everybody else.
    Caller,
    /// What was left of the policy's time.
    Nobody,
}

impl Time {
    /// A failure so shortly before the end is most likely made by it: a connection that was given the same deadline.
    const ABOUT: Duration = Duration::from_millis(5);

    /// Whether a failure of this kind tells of how little time there was, not of the callee.
    fn explains(self, kind: FaultKind, at: Instant) -> bool {
        let ended = self.until.remaining_at(at) <= Self::ABOUT;
        // A callee that was told the deadline may say itself that it is too short, at once even.
        self.whose != Whose::Policy && (ended || kind == FaultKind::Timeout)
    }
}

/// The leave of an attempt, which may turn out to be the one that was not needed; and whether we slept meanwhile.
///
/// A process that was held (SIGSTOP, a machine that was paused, an executor that was blocked) finds its timers due before
/// it has read the answers that lie in its sockets, and connections that others gave up meanwhile. None of that tells of
/// the callee. Timers that fire much too late give it away; so that there always is one, an attempt has one more for each
/// quarter of its time, and each second. Whoever was held for half of it so knows.
struct Leave<'a, 'r> {
    permit: Option<Permit<'a>>,
    race: Option<&'r Race>,
    /// When the timer is due that is set, and how much too late it may fire, once we wait.
    due: Option<(Instant, Duration)>,
    slept: bool,
}

impl<'a> Leave<'a, '_> {
    /// For how long no timer is due: at least, and at most.
    const LOOKS: [Duration; 2] = [Duration::from_millis(10), Duration::from_secs(1)];
    /// How much too late a timer may fire on a machine that is merely busy, at least; else it is an eighth of the attempt's
    /// time. Who was held for less has had the rest to hear an answer.
    const LATE: Duration = Duration::from_millis(50);

    /// What comes of `work`; none if it is not over then.
    async fn until<F: Future>(
        &mut self,
        until: Deadline,
        begun: Instant,
        mut work: Pin<&mut F>,
    ) -> Option<F::Output> {
        let time = until.remaining_at(begun);
        let [least, most] = Self::LOOKS;
        let (looks, late) = ((time / 4).clamp(least, most), (time / 8).max(Self::LATE));
        let mut timer = pin!(None::<Unconstrained<Sleep>>);
        std::future::poll_fn(|cx| {
            if let Poll::Ready(answer) = work.as_mut().poll(cx) {
                return Poll::Ready(Some(answer));
            }
            loop {
                if let Some(timer) = timer.as_mut().as_pin_mut() {
                    ready!(timer.poll(cx));
                }
                let now = Instant::now();
                self.look(now);
                // What is due at this very instant is over, too: a deadline that has passed is none.
                if until.remaining_at(now).is_zero() {
                    return Poll::Ready(None);
                }
                let due = until.instant().min(now + looks);
                self.due = Some((due, late));
                // Work that never lets others run does not hold up its own end.
                timer.set(Some(unconstrained(sleep_until(due))));
            }
        })
        .await
    }

    fn look(&mut self, now: Instant) {
        self.slept |= self.due.is_some_and(|(due, late)| now.saturating_duration_since(due) > late);
    }

    /// The permit, and whether we slept since it was given.
    fn end(mut self, now: Instant) -> (Permit<'a>, bool) {
        self.look(now);
        (self.permit.take().expect("a leave is used once"), self.slept)
    }
}

impl Drop for Leave<'_, '_> {
    fn drop(&mut self) {
        let Some(permit) = self.permit.take() else { return };
        let now = Instant::now();
        self.look(now);
        match self.slept || self.race.is_some_and(Race::is_lost) {
            true => permit.told_nothing(),
            false => permit.abandoned(now),
        }
    }
}

#[cold]
fn timed_out(permit: Permit<'_>, place: Place<'_>, time: Time, at: Instant, slept: bool) {
    match time.whose {
        _ if slept => permit.told_nothing(),
        Whose::Policy => {
            permit.failed(at);
            place.overloaded(at);
        }
        // Whether the callee had enough of it is for the permit to say.
        Whose::Caller | Whose::Nobody => permit.abandoned(at),
    }
}

/// What breaker and limit are told of an answer.
#[derive(Debug, Clone, Copy)]
struct Told {
    verdict: Verdict,
    time: Time,
    at: Instant,
    class: Criticality,
}

fn settle(permit: Permit<'_>, place: Place<'_>, told: Told) {
    let Told { verdict, time, at, class } = told;
    let kind = verdict.kind();
    match verdict.says() {
        Says::Good => {
            permit.succeeded();
            place.answered(at);
        }
        Says::Nothing => {
            permit.told_nothing();
            // Fewer calls at once are what helps one who sheds load. That the unimportant is refused says nothing about
            // what there is for the rest.
            if kind == Some(FaultKind::Overloaded) && class == Criticality::Critical {
                place.overloaded(at);
            }
        }
        Says::Failed if kind.is_some_and(|kind| time.explains(kind, at)) => permit.abandoned(at),
        Says::Failed => {
            permit.failed(at);
            // One who is away is away quickly, which says nothing about how much he can do.
            if kind == Some(FaultKind::Timeout) {
                place.overloaded(at);
            }
        }
    }
}
