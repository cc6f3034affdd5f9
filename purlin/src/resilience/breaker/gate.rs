//! The machine behind a lock, and beside it one word, so that what happens most takes no lock: letting a call
//! through while closed, a good call, a refusal.
//!
//! The word alone is the truth about good calls since the last bad one; the machine is about everything else. Who
//! changes the machine takes the lock and first *freezes* the word: it is swapped for one that sends everybody to the
//! lock, and what it had counted is told to the machine. A result counts only if the word, or the machine, bears the
//! generation of its call: so one from before a change of state counts for nothing.
//!
//! A good call that finds the word clean writes nothing. That is right because it would change nothing: the windows
//! hold nothing but good calls, and are full. It takes its place before whatever bad call comes next.

use std::sync::PoisonError;
use std::time::Duration;

use super::buckets::Buckets;
use super::machine::{Generation, Machine, Outcome, Transition};
use super::stripes::Successes;
use super::sync::{AtomicU64, Mutex, Ordering};
use super::word::{Kind, Word};
use super::{BreakerConfig, BreakerState, Over};

#[derive(Debug)]
pub(super) struct Gate {
    word: AtomicU64,
    reach: u64,
    /// Whether slow calls count.
    slow: bool,
    /// Whether a good call needs to be told with its time.
    timed: bool,
    config: BreakerConfig,
    successes: Option<Successes>,
    machine: Mutex<Machine>,
}

impl Gate {
    pub(super) fn new(config: BreakerConfig) -> Self {
        let machine = Machine::new(config);
        let successes = config.rates.and_then(|rates| match rates.over {
            Over::Time(time) => Some(Successes::new(time)),
            Over::Calls(_) => None,
        });
        Self {
            word: AtomicU64::new(Word::of(&machine).0),
            reach: config.reach().into(),
            slow: config.slow_after().is_some(),
            timed: config.slow_after().is_some() || successes.is_some(),
            config,
            successes,
            machine: Mutex::new(machine),
        }
    }

    /// Whether a good call needs to be told with its time.
    #[inline]
    pub(super) fn is_timed(&self) -> bool {
        self.timed
    }

    /// Whether slow calls count.
    #[inline]
    pub(super) fn counts_slow(&self) -> bool {
        self.slow
    }

    /// The generation, while it is closed: the leave for a call, whatever the time is.
    #[inline]
    pub(super) fn closed(&self) -> Option<Generation> {
        let word = self.word();
        word.is_closed().then(|| word.generation())
    }

    /// Whether it is closed. A word that is frozen, as it is for every bad call, does not say so.
    #[inline]
    pub(super) fn is_closed(&self) -> bool {
        let word = self.word();
        word.is_closed() || (word.kind() == Kind::Ask && self.is_closed_inside())
    }

    #[cold]
    fn is_closed_inside(&self) -> bool {
        self.look(|machine, _| machine.state() == BreakerState::Closed)
    }

    /// Whether it is half-open, and calls of this generation are its probes.
    #[inline]
    pub(super) fn probes_in(&self, generation: Generation) -> bool {
        !self.word().is_closed() && self.probes_inside(generation)
    }

    #[cold]
    fn probes_inside(&self, generation: Generation) -> bool {
        self.look(|machine, _| {
            machine.generation() == generation && machine.state() == BreakerState::HalfOpen
        })
    }

    /// After how long to ask again, if a call is refused whatever the machine may say.
    #[inline]
    pub(super) fn refuses(&self, now: Duration) -> Option<Duration> {
        let word = self.word();
        match word.kind() {
            Kind::Clean | Kind::Counting | Kind::Ask => None,
            Kind::Open => word.remaining(now),
            Kind::Full => word.remaining(now).map(|_| Machine::patience(&self.config)),
            Kind::Shut => Some(self.config.timeout),
        }
    }

    /// Whether an operator lets nobody through.
    #[inline]
    pub(super) fn is_held_open(&self) -> bool {
        self.word().kind() == Kind::Shut
    }

    /// For how long nobody is let through, not even a probe.
    pub(super) fn rests(&self, now: Duration) -> Option<Duration> {
        let word = self.word();
        match word.kind() {
            Kind::Open => word.remaining(now),
            Kind::Shut => Some(Duration::MAX),
            Kind::Clean | Kind::Counting | Kind::Full | Kind::Ask => None,
        }
    }

    /// Lets a call through, or says after how long to ask again.
    pub(super) fn admit(
        &self,
        now: Duration,
        told: &mut dyn FnMut(Transition),
    ) -> Result<Generation, Duration> {
        if let Some(generation) = self.closed() {
            return Ok(generation);
        }
        match self.refuses(now) {
            Some(retry_after) => Err(retry_after),
            None => self.change(told, |machine| machine.admit(now)),
        }
    }

    /// Whether a good call of this generation would change nothing.
    #[inline]
    pub(super) fn is_clean_in(&self, generation: Generation) -> bool {
        !self.timed && self.word() == Word::clean(generation)
    }

    /// Counts a good call that was not slow, or says that the machine must be told.
    #[inline]
    pub(super) fn count_good_in_time(&self, generation: Generation, now: Duration) -> bool {
        if self.word() != Word::clean(generation) {
            return self.count_good(generation, now);
        }
        self.count(generation, now);
        true
    }

    /// The same; `now` matters to windows of time only.
    pub(super) fn count_good(&self, generation: Generation, now: Duration) -> bool {
        let mut word = self.word();
        while word.generation() == generation {
            let counted = match word.kind() {
                Kind::Clean => Ok(word.0),
                Kind::Counting => {
                    let next = word.counted(self.reach).0;
                    self.word.compare_exchange_weak(word.0, next, Ordering::AcqRel, Ordering::Acquire)
                }
                _ => return false,
            };
            match counted {
                Ok(_) => {
                    self.count(generation, now);
                    break;
                }
                Err(other) => word = Word(other),
            }
        }
        true
    }

    #[inline]
    fn count(&self, generation: Generation, now: Duration) {
        if let Some(successes) = &self.successes {
            successes.add(generation, now);
        }
    }

    /// Any result.
    #[cold]
    pub(super) fn settle(
        &self,
        generation: Generation,
        outcome: Outcome,
        now: Duration,
        told: &mut dyn FnMut(Transition),
    ) {
        // Of a call that was given up while it is closed nothing is kept.
        if outcome != Outcome::Abandoned || !self.word().is_closed() {
            self.tell(generation, now, told, |machine, elsewhere| {
                machine.settle(generation, outcome, now, elsewhere);
            });
        }
    }

    /// The result of a call that was given up before, whose place is free.
    #[cold]
    pub(super) fn settle_late(
        &self,
        generation: Generation,
        outcome: Outcome,
        now: Duration,
        told: &mut dyn FnMut(Transition),
    ) {
        self.tell(generation, now, told, |machine, elsewhere| {
            machine.settle_late(generation, outcome, now, elsewhere);
        });
    }

    /// Tells the machine a result, if those of its generation count, with the good calls that are counted outside.
    fn tell(
        &self,
        generation: Generation,
        now: Duration,
        told: &mut dyn FnMut(Transition),
        result: impl FnOnce(&mut Machine, Option<&Buckets>),
    ) {
        if self.is_in(generation) {
            self.change(told, |machine| {
                let elsewhere = self.successes.as_ref().map(|successes| successes.of(generation, now));
                result(machine, elsewhere.as_ref());
            });
        }
    }

    /// Whether results of this generation count.
    pub(super) fn is_in(&self, generation: Generation) -> bool {
        self.word().generation() == generation
    }

    /// Changes the machine; `told` hears, in the order in which they happen, of the changes of state.
    #[cold]
    pub(super) fn change<T>(
        &self,
        told: &mut dyn FnMut(Transition),
        change: impl FnOnce(&mut Machine) -> T,
    ) -> T {
        let mut machine = self.machine.lock().unwrap_or_else(PoisonError::into_inner);
        // Only who holds the lock changes the generation.
        let frozen = self.word().frozen().0;
        let word = Word(self.word.swap(frozen, Ordering::AcqRel));
        machine.absorb(self.counted(word));
        let answer = change(&mut machine);
        let transition = machine.take_transition();
        self.word.store(Word::of(&machine).0, Ordering::Release);
        transition.into_iter().for_each(told);
        answer
    }

    /// Whether nothing would be lost with it.
    pub(super) fn is_at_rest(&self, now: Duration) -> bool {
        self.look(|machine, good| machine.is_at_rest(good, now))
    }

    /// Looks at the machine, and at how many good calls it has not been told of.
    pub(super) fn look<T>(&self, look: impl FnOnce(&Machine, u64) -> T) -> T {
        let machine = self.machine.lock().unwrap_or_else(PoisonError::into_inner);
        look(&machine, self.counted(self.word()))
    }

    /// The good calls in a word; a clean one has seen as many as the windows reach, or it makes no difference.
    fn counted(&self, word: Word) -> u64 {
        match word.kind() {
            Kind::Clean => self.reach,
            Kind::Counting => word.number(),
            _ => 0,
        }
    }

    #[inline]
    fn word(&self) -> Word {
        Word(self.word.load(Ordering::Acquire))
    }
}
