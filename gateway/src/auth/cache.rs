//! Tokens that were verified, so that their signature need not be again (35 to 80 us each).

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use super::Claims;

/// Verified tokens by their whole text, at most so many.
///
/// Two generations: when the young one is full it becomes the old one and the old one goes, so that what is asked for
/// stays and no list of uses is kept. An entry counts only for the key set it was verified with.
#[derive(Debug)]
pub(super) struct Cache {
    generations: Mutex<Generations>,
    half: usize,
}

#[derive(Debug, Default)]
struct Generations {
    epoch: u64,
    young: HashMap<Box<str>, Arc<Claims>>,
    old: HashMap<Box<str>, Arc<Claims>>,
}

impl Cache {
    /// A cache of at most `entries` tokens.
    pub(super) fn new(entries: usize) -> Self {
        Self { generations: Mutex::default(), half: (entries / 2).max(1) }
    }

    /// The claims of `token`, if the key set `epoch` verified it before.
    pub(super) fn get(&self, token: &str, epoch: u64) -> Option<Arc<Claims>> {
        let mut generations = self.generations.lock().unwrap_or_else(PoisonError::into_inner);
        if generations.epoch != epoch {
            return None;
        }
        if let Some(claims) = generations.young.get(token) {
            return Some(Arc::clone(claims));
        }
        let (token, claims) = generations.old.remove_entry(token)?;
        generations.insert(token, Arc::clone(&claims), self.half);
        Some(claims)
    }

    /// Remembers a token that the key set `epoch` verified.
    pub(super) fn put(&self, token: &str, claims: Arc<Claims>, epoch: u64) {
        let mut generations = self.generations.lock().unwrap_or_else(PoisonError::into_inner);
        if generations.epoch > epoch {
            return;
        }
        if generations.epoch < epoch {
            *generations = Generations { epoch, ..Generations::default() };
        }
        generations.insert(token.into(), claims, self.half);
    }
}

impl Generations {
    fn insert(&mut self, token: Box<str>, claims: Arc<Claims>, half: usize) {
        if self.young.len() >= half {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(token, claims);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claims() -> Arc<Claims> {
        Arc::new(Claims::new("7", 100))
    }

    #[test]
    fn it_never_holds_more_than_its_size_and_keeps_what_is_asked_for() {
        let cache = Cache::new(10);
        cache.put("often", claims(), 1);
        for count in 0..1000 {
            cache.put(&format!("token {count}"), claims(), 1);
            assert!(cache.get("often", 1).is_some(), "after {count}");
            let generations = cache.generations.lock().unwrap();
            assert!(generations.young.len() + generations.old.len() <= 10);
        }
        assert!(cache.get("token 0", 1).is_none());
    }

    #[test]
    fn a_new_key_set_forgets_what_the_old_one_verified() {
        let cache = Cache::new(10);
        cache.put("a", claims(), 1);
        assert!(cache.get("a", 2).is_none());
        cache.put("b", claims(), 2);
        cache.put("late", claims(), 1);
        assert!(cache.get("a", 1).is_none() && cache.get("late", 2).is_none() && cache.get("b", 2).is_some());
    }
}
