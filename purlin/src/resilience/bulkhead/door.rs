//! Who is inside, who waits, and who is called in: what threads must agree on, without a clock or a task.
//!
//! A place is taken by one exchange of a word while nobody waits, and given back by one subtraction. Whoever finds
//! others waiting stands in the queue; a place that is given back while somebody waits is handed over there, under a lock:
//! to the highest class, and of it to the one who has waited longest. Nobody who comes between can take it.

use std::sync::PoisonError;

use super::crowd::{Came, Crowd, Moment};
use super::queue::Queue;
use super::sync::{AtomicUsize, Mutex, Ordering::Relaxed};
use crate::resilience::Criticality;

/// Those who are called in. They have their places; whoever gets this tells them, and has no lock then: to be told may
/// mean to be dropped, which needs it.
#[must_use = "those who are called in have places, and must hear of it"]
#[derive(Debug)]
pub(super) struct Called<C>(Vec<C>);

impl<C> Called<C> {
    const NOBODY: Self = Self(Vec::new());

    pub(super) fn each(self, tell: impl FnMut(C)) {
        self.0.into_iter().for_each(tell);
    }
}

/// Where one comes in; who waits is called by a `C`.
#[derive(Debug)]
pub(super) struct Door<C> {
    places: AtomicUsize,
    max_waiting: AtomicUsize,
    crowd: Crowd,
    queue: Mutex<Queue<C>>,
}

impl<C> Door<C> {
    /// Without places.
    pub(super) fn new() -> Self {
        let (places, max_waiting) = (AtomicUsize::new(0), AtomicUsize::new(0));
        Self { places, max_waiting, crowd: Crowd::new(), queue: Mutex::new(Queue::new()) }
    }

    pub(super) fn places(&self) -> usize {
        self.places.load(Relaxed)
    }

    pub(super) fn now(&self) -> Moment {
        self.crowd.now()
    }

    /// Takes a place if one is free and nobody waits. Otherwise whether there may be one for who lines up.
    #[inline]
    pub(super) fn enter(&self, class: Criticality) -> Came {
        if self.crowd.enter(self.places_of(class)) {
            return Came::In;
        }
        let Moment { inside, waiting } = self.crowd.now();
        match waiting < self.waiting_of(class) || inside < self.places_of(class) {
            true => Came::Waits,
            false => Came::Refused,
        }
    }

    /// Stands in the queue, unless there is a place, or no room to wait; goes away by the number.
    pub(super) fn line_up(&self, class: Criticality, call: C) -> Result<u64, Came> {
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        let places = if queue.goes_before(class) { 0 } else { self.places_of(class) };
        match self.crowd.come(places, self.waiting_of(class)) {
            Came::Waits => Ok(queue.push(class, call)),
            came => Err(came),
        }
    }

    /// Gives a place back.
    #[inline]
    pub(super) fn leave(&self) -> Called<C> {
        if self.crowd.leave() { self.hand_over() } else { Called::NOBODY }
    }

    #[cold]
    fn hand_over(&self) -> Called<C> {
        self.call_in(&mut self.queue.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Leaves the queue; or the place that one was called to meanwhile.
    pub(super) fn give_up(&self, class: Criticality, number: u64) -> Called<C> {
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        if queue.remove(class, number) {
            self.crowd.give_up();
            return Called::NOBODY;
        }
        drop(queue);
        self.leave()
    }

    /// How many may wait from now on.
    pub(super) fn set_max_waiting(&self, max_waiting: usize) {
        self.max_waiting.store(max_waiting, Relaxed);
    }

    /// How many places there are from now on.
    pub(super) fn set_places(&self, places: usize) -> Called<C> {
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        // Under the lock: whoever stands in the queue has not seen it, whoever comes later does.
        self.places.store(places, Relaxed);
        self.call_in(&mut queue)
    }

    /// Hands free places over to those who wait.
    fn call_in(&self, queue: &mut Queue<C>) -> Called<C> {
        let has_place = |class| self.crowd.call(self.places_of(class));
        Called(std::iter::from_fn(|| queue.pop(has_place)).collect())
    }

    /// How many places the class may take.
    #[inline]
    fn places_of(&self, class: Criticality) -> usize {
        class.share(self.places())
    }

    /// How many may wait when one of the class does.
    fn waiting_of(&self, class: Criticality) -> usize {
        class.share(self.max_waiting.load(Relaxed))
    }
}
