//! One attempt: with a place, by leave of the breaker, within its time; and whom its end is held against.

use std::pin::{Pin, pin};
use std::sync::{Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::task::coop::{Unconstrained, unconstrained};
use tokio::time::{Instant, Sleep, sleep_until};

use crate::message::FaultKind;
use crate::resilience::breaker::Says;
use crate::resilience::budget::Reserved;
use crate::resilience::{Criticality, Deadline, Permit, Place, Ticket, deadline};

use super::attempts::{Ended, Run};
use super::race::Race;
use super::watch::{Away, Watch};
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
        F: FnMut(Option<Ticket>) -> Fut,
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
                Err(_) => return self.found_no_place(Instant::now()),
            },
            Err(_) => return Ended::unasked(Silence::Full, now),
        };
        // Who is called in may hear of it when it is too late.
        if self.deadline.remaining_at(now).is_zero() {
            return Ended::unasked(Silence::DeadlineExceeded, now);
        }
        let (ticket, mut leave) = match self.parts.breaker.admit(now) {
            Ok(permit) => (permit.ticket(), Leave { permit: Some(permit), race, watch: Watch::new(now) }),
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
                let attempt = (work.lock().unwrap_or_else(PoisonError::into_inner))(ticket);
                attempt.await
            }));
            leave.until(time.until, attempt).await
        };
        let at = Instant::now();
        let (permit, away) = leave.end(at);
        let measured = away == Away::No;
        let Some(answer) = answer else {
            timed_out(permit, place, time, at, away);
            let verdict = Verdict::Failed { kind: FaultKind::Timeout, retry_after: None };
            return Ended { answer: Err(Silence::DeadlineExceeded), at, verdict, asked: true, measured };
        };
        let verdict = (self.judge)(&answer);
        settle(permit, place, Told { verdict, time, at, class: self.class, away });
        Ended { answer: Ok(answer), at, verdict, asked: true, measured }
    }

    #[cold]
    fn found_no_place<T, E>(&self, now: Instant) -> Ended<T, E> {
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

/// The leave of an attempt, which may turn out to be the one that was not needed; and whether we were there meanwhile.
struct Leave<'a, 'r> {
    permit: Option<Permit<'a>>,
    race: Option<&'r Race>,
    watch: Watch,
}

impl<'a> Leave<'a, '_> {
    /// What comes of `work`; none if it is not over then.
    async fn until<F: Future>(&mut self, until: Deadline, mut work: Pin<&mut F>) -> Option<F::Output> {
        let mut timer = pin!(None::<Unconstrained<Sleep>>);
        std::future::poll_fn(|cx| {
            if let Poll::Ready(answer) = work.as_mut().poll(cx) {
                return Poll::Ready(Some(answer));
            }
            loop {
                if let Some(timer) = timer.as_mut().as_pin_mut() {
                    let mut alarmed = Context::from_waker(self.watch.waker(cx.waker()));
                    ready!(timer.poll(&mut alarmed));
                }
                let now = Instant::now();
                let due = self.watch.next(until, now);
                // What is due at this very instant is over, too: a deadline that has passed is none.
                if until.remaining_at(now).is_zero() {
                    return Poll::Ready(None);
                }
                // Work that never lets others run does not hold up its own end.
                timer.set(Some(unconstrained(sleep_until(due))));
            }
        })
        .await
    }

    /// The permit, and whether we were there since it was given.
    fn end(mut self, now: Instant) -> (Permit<'a>, Away) {
        let away = self.watch.look(now);
        (self.permit.take().expect("a leave is used once"), away)
    }
}

impl Drop for Leave<'_, '_> {
    fn drop(&mut self) {
        let Some(permit) = self.permit.take() else { return };
        let now = Instant::now();
        match self.watch.look(now) != Away::No || self.race.is_some_and(Race::is_lost) {
            true => permit.told_nothing(),
            false => permit.abandoned(now),
        }
    }
}

#[cold]
fn timed_out(permit: Permit<'_>, place: Place<'_>, time: Time, at: Instant, away: Away) {
    match time.whose {
        _ if away != Away::No => permit.told_nothing(),
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
    away: Away,
}

impl Told {
    /// Whether it is a failure that tells of how little time there was, not of the callee, nor of whom that asked.
    fn is_of_haste(self) -> bool {
        let explains = |kind| self.time.explains(kind, self.at);
        self.verdict.is_failure() && self.verdict.kind().is_some_and(explains)
    }

    /// Whether an overload concerns the limit. Fewer calls at once are what helps one who sheds load; that the unimportant
    /// is refused says nothing about what there is for the rest.
    fn is_overload(self) -> bool {
        self.verdict.kind() == Some(FaultKind::Overloaded) && self.class == Criticality::Critical
    }
}

fn settle(permit: Permit<'_>, place: Place<'_>, told: Told) {
    let Told { verdict, at, away, .. } = told;
    match verdict.says() {
        _ if away != Away::No => heard_late(permit, place, told),
        Says::Nothing => {
            permit.told_nothing();
            if told.is_overload() {
                place.overloaded(at);
            }
        }
        Says::Good if !verdict.is_failure() => {
            permit.succeeded();
            place.answered(at);
        }
        Says::Good if told.is_of_haste() => permit.told_nothing(),
        Says::Good => {
            permit.succeeded();
            failed_in_place(place, told);
        }
        Says::Failed if told.is_of_haste() => permit.abandoned(at),
        Says::Failed => {
            permit.failed(at);
            failed_in_place(place, told);
        }
    }
}

/// One who is away is away quickly, which says nothing about how much he can do.
fn failed_in_place(place: Place<'_>, told: Told) {
    if told.verdict.kind() == Some(FaultKind::Timeout) {
        place.overloaded(told.at);
    }
}

/// An answer that we heard late is one, but how long it took is no measurement; a failure that time may have made is none,
/// and neither is one that others may have made who had given us up.
#[cold]
fn heard_late(permit: Permit<'_>, place: Place<'_>, told: Told) {
    let Told { verdict, at, away, .. } = told;
    let timed_out = verdict.is_failure() && verdict.kind() == Some(FaultKind::Timeout);
    let by_time = timed_out || told.is_of_haste();
    match verdict.says() {
        Says::Failed if by_time || away == Away::Held => permit.told_nothing(),
        Says::Good if by_time => permit.told_nothing(),
        says => permit.told_sometime(says),
    }
    if told.is_overload() && away != Away::Held {
        place.overloaded(at);
    }
}
