//! A warning that would fill the log is written now and then only, and says how many were not.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// Says when a warning may be written again; the first always may.
#[derive(Debug)]
pub struct Rarely {
    every: Duration,
    state: Mutex<State>,
}

/// As [`Rarely`], for each thing that is warned of: what happens often hides nothing that happens once.
#[derive(Debug)]
pub struct RarelyEach {
    every: Duration,
    known: Mutex<HashMap<String, State>>,
}

#[derive(Debug, Default)]
struct State {
    next: Option<Instant>,
    /// How many were not written since the last one was.
    more: u64,
}

impl State {
    fn due(&mut self, now: Instant, every: Duration) -> Option<u64> {
        if self.next.is_some_and(|next| now < next) {
            self.more += 1;
            return None;
        }
        self.next = Some(now + every);
        Some(std::mem::take(&mut self.more))
    }
}

impl Rarely {
    /// At most once in so long.
    pub fn every(every: Duration) -> Self {
        Self { every, state: Mutex::default() }
    }

    /// Whether to write it now.
    pub fn is_time(&self) -> bool {
        self.due().is_some()
    }

    /// Whether to write it now, and how many more there were since the last one was written.
    pub fn due(&self) -> Option<u64> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).due(Instant::now(), self.every)
    }
}

impl RarelyEach {
    /// How many things are told apart; all others are one.
    const MOST: usize = 256;

    /// At most once in so long, of each.
    pub fn every(every: Duration) -> Self {
        Self { every, known: Mutex::default() }
    }

    /// Whether to write of this thing now, and how many more there were since the last one was written.
    pub fn due(&self, thing: &str) -> Option<u64> {
        let (now, mut known) = (Instant::now(), self.known.lock().unwrap_or_else(PoisonError::into_inner));
        if let Some(state) = known.get_mut(thing) {
            return state.due(now, self.every);
        }
        let thing = if known.len() < Self::MOST { thing } else { "" };
        known.entry(thing.to_owned()).or_default().due(now, self.every)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn it_is_time_once_in_a_while() {
        let rarely = Rarely::every(Duration::from_secs(1));
        assert!(rarely.is_time());
        assert!(!rarely.is_time());
        tokio::time::advance(Duration::from_secs(1)).await;
        assert!(rarely.is_time());
    }

    #[tokio::test(start_paused = true)]
    async fn each_is_told_with_the_number_of_those_that_were_not() {
        let rarely = RarelyEach::every(Duration::from_secs(1));
        assert_eq!(rarely.due("a"), Some(0));
        assert_eq!([(); 3].map(|()| rarely.due("a")), [None; 3]);
        assert_eq!(rarely.due("b"), Some(0), "another hides nothing of it");
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!((rarely.due("a"), rarely.due("b")), (Some(3), Some(0)));
    }

    #[tokio::test(start_paused = true)]
    async fn of_too_many_things_the_last_ones_are_one() {
        let rarely = RarelyEach::every(Duration::from_secs(1));
        let told = (0..2 * RarelyEach::MOST).filter(|thing| rarely.due(&thing.to_string()).is_some()).count();
        assert_eq!(told, RarelyEach::MOST + 1);
    }
}
