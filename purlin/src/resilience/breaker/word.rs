//! What can be decided without a lock, in one word.

use std::time::Duration;

use super::clock::nanos;
use super::machine::{Forced, GENERATIONS, Generation, Machine, Phase};

/// How it stands (3 bits), the generation (21), and a number (40): how many good calls came since the last bad one, or
/// a time in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Word(pub(super) u64);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Closed, and the windows of calls are full of good ones: one more changes nothing.
    Clean,
    /// Closed; the number counts good calls, which push bad ones out of the windows, or fill them.
    Counting,
    /// Refuses until the time.
    Open,
    /// All that may probe do; refuses until the time.
    Full,
    /// An operator holds it open.
    Shut,
    /// The machine must be asked.
    Ask,
}

impl Word {
    const NUMBER_BITS: u32 = 40;
    const NUMBER_MAX: u64 = (1 << Self::NUMBER_BITS) - 1;

    #[inline]
    fn new(kind: Kind, generation: Generation, number: u64) -> Self {
        Self((kind as u64) << 61 | u64::from(generation) << Self::NUMBER_BITS | number)
    }

    /// What stands while it is closed, and one more good call changes nothing.
    #[inline]
    pub(super) fn clean(generation: Generation) -> Self {
        Self::new(Kind::Clean, generation, 0)
    }

    /// What stands for a machine that nobody is changing.
    pub(super) fn of(machine: &Machine) -> Self {
        let millis =
            |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX).min(Self::NUMBER_MAX);
        let (kind, number) = match machine.phase() {
            Phase::Closed { window, .. } if !window.is_clean() => (Kind::Counting, 0),
            Phase::Closed { .. } | Phase::Forced(Forced::Closed) => (Kind::Clean, 0),
            Phase::Forced(Forced::Open) => (Kind::Shut, 0),
            Phase::Open { until } => (Kind::Open, millis(*until)),
            Phase::HalfOpen { .. } => match machine.full_until() {
                Some(until) => (Kind::Full, millis(until)),
                None => (Kind::Ask, 0),
            },
        };
        Self::new(kind, machine.generation(), number)
    }

    /// What stands while the machine is being changed: everybody else goes to the lock and waits.
    pub(super) fn frozen(self) -> Self {
        Self::new(Kind::Ask, self.generation(), 0)
    }

    /// With one more good call; after `reach` of them the windows are full of good ones.
    #[inline]
    pub(super) fn counted(self, reach: u64) -> Self {
        if self.number() + 1 >= reach {
            Self::new(Kind::Clean, self.generation(), 0)
        } else {
            Self(self.0 + 1)
        }
    }

    #[inline]
    pub(super) fn kind(self) -> Kind {
        match self.0 >> 61 {
            0 => Kind::Clean,
            1 => Kind::Counting,
            2 => Kind::Open,
            3 => Kind::Full,
            4 => Kind::Shut,
            _ => Kind::Ask,
        }
    }

    #[inline]
    pub(super) fn is_closed(self) -> bool {
        self.0 >> 61 <= Kind::Counting as u64
    }

    #[inline]
    pub(super) fn generation(self) -> Generation {
        (self.0 >> Self::NUMBER_BITS) as Generation % GENERATIONS
    }

    #[inline]
    pub(super) fn number(self) -> u64 {
        self.0 & Self::NUMBER_MAX
    }

    /// How long it is from `now` until the time, rounded up; none in the millisecond in which it comes, in which the
    /// machine, which is more exact, must be asked.
    #[inline]
    pub(super) fn remaining(self, now: Duration) -> Option<Duration> {
        const MILLI: u64 = 1_000_000;
        let (now, until) = (nanos(now), self.number() * MILLI);
        (now < until).then(|| Duration::from_nanos(until - now + MILLI))
    }
}
