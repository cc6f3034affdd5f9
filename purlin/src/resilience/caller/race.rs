//! Two attempts beside each other, of which the first answer wins.

use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, OnceLock};
use std::task::{Poll, ready};
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use crate::resilience::Ticket;
use crate::resilience::budget::Reserved;
use crate::resilience::hedge::Hedging;

use super::Verdict;
use super::attempts::{Ended, Run};

/// What two attempts beside each other know of each other.
#[derive(Debug, Default)]
pub(super) struct Race {
    /// Since when the callee has been asked first: from there on it is slow or quick. What was waited for a place before
    /// is our own doing.
    since: OnceLock<Instant>,
    /// Whether there is an answer, so that what is still under way is not needed.
    lost: AtomicBool,
}

impl Race {
    pub(super) fn begins(&self, now: Instant) {
        // The second one comes later, and finds it said.
        let _ = self.since.set(now);
    }

    pub(super) fn is_lost(&self) -> bool {
        self.lost.load(Ordering::Relaxed)
    }

    /// The end of an attempt, unless the callee has been asked for as long as `delay` without an answer.
    async fn quick<T, E>(
        &self,
        mut first: Pin<&mut impl Future<Output = Ended<T, E>>>,
        delay: Duration,
    ) -> Option<Ended<T, E>> {
        let mut timer = pin!(None);
        std::future::poll_fn(|cx| {
            if let Poll::Ready(ended) = first.as_mut().poll(cx) {
                return Poll::Ready(Some(ended));
            }
            let Some(since) = self.since.get() else { return Poll::Pending };
            if timer.is_none() {
                timer.set(Some(sleep_until(*since + delay)));
            }
            if let Some(timer) = timer.as_mut().as_pin_mut() {
                ready!(timer.poll(cx));
            }
            Poll::Ready(None)
        })
        .await
    }

    /// The first answer, unless it is a failure and the other one is not.
    async fn better<T, E>(
        &self,
        ended: Ended<T, E>,
        other: impl Future<Output = Ended<T, E>>,
    ) -> Ended<T, E> {
        if ended.asked && !ended.verdict.is_failure() {
            // That the other one took longer, however long, is what hedging is for.
            self.lost.store(true, Ordering::Relaxed);
            return ended;
        }
        let other = other.await;
        match other.asked && (!other.verdict.is_failure() || !ended.asked) {
            true => other,
            false => ended,
        }
    }

    /// Tells hedging of a call, and how long the callee took.
    fn learn<T, E>(&self, hedging: &Hedging, ended: &Ended<T, E>) {
        if !ended.asked {
            return;
        }
        hedging.asked();
        let Some(since) = self.since.get().filter(|_| ended.measured) else { return };
        let took = ended.at.saturating_duration_since(*since);
        match ended.answer {
            Err(_) => hedging.unanswered(took),
            Ok(_) if !ended.verdict.is_failure() => hedging.answered(took),
            // A failure that comes at once is not how long answers take.
            Ok(_) => {}
        }
    }
}

impl<'a, J> Run<'a, J> {
    /// Makes an attempt, and when it is slow another one beside it, if that may be.
    pub(super) async fn hedged<T, E, F, Fut>(
        &self,
        now: Instant,
        retry: Option<Reserved<'a>>,
        work: &Mutex<F>,
    ) -> Ended<T, E>
    where
        F: FnMut(Option<Ticket>) -> Fut,
        Fut: Future<Output = Result<T, E>>,
        J: Fn(&Result<T, E>) -> Verdict,
    {
        let Some(hedging) = self.parts.hedging.as_deref().filter(|_| self.repeatable) else {
            return self.attempt(now, retry, work, None).await;
        };
        let race = Race::default();
        let mut first = pin!(self.attempt(now, retry, work, Some(&race)));
        let quick = match hedging.delay() {
            Some(delay) => race.quick(first.as_mut(), delay).await,
            None => Some(first.as_mut().await),
        };
        let ended = match quick {
            Some(ended) => ended,
            None => self.beside(first, hedging, &race, work).await,
        };
        race.learn(hedging, &ended);
        ended
    }

    /// Makes a second attempt beside one that is slow, if there is a budget for it.
    async fn beside<T, E, F, Fut>(
        &self,
        mut first: Pin<&mut impl Future<Output = Ended<T, E>>>,
        hedging: &'a Hedging,
        race: &Race,
        work: &Mutex<F>,
    ) -> Ended<T, E>
    where
        F: FnMut(Option<Ticket>) -> Fut,
        Fut: Future<Output = Result<T, E>>,
        J: Fn(&Result<T, E>) -> Verdict,
    {
        let now = Instant::now();
        // How long one without a second took counts all the same: by such calls a callee that has become slower is known.
        let Some(reserved) = hedging.budget().reserve(now) else { return first.await };
        if let Some(seen) = self.seen {
            seen.hedges.inc();
        }
        // Seldom needed, and as large as the first: it is not a part of every call.
        let mut second = Box::pin(self.attempt(now, Some(reserved), work, Some(race)));
        tokio::select! {
            biased;
            ended = &mut first => race.better(ended, second).await,
            ended = &mut second => race.better(ended, first).await,
        }
    }
}
