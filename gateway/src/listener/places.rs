//! How many connections each address has.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::core::RateKey;

/// Places for connections, at most so many for one address, so that one cannot take those of all others.
#[derive(Debug, Clone)]
pub(super) struct Places {
    taken: Arc<Mutex<HashMap<RateKey<'static>, usize>>>,
    each: usize,
}

/// A connection's place, free again when this is dropped.
#[derive(Debug)]
pub(super) struct Place {
    places: Places,
    key: RateKey<'static>,
}

impl Places {
    /// So many for each address; for IPv6, for each network that its owner has whole.
    pub(super) fn new(each: usize) -> Self {
        Self { taken: Arc::default(), each }
    }

    /// A place for a connection from `peer`, unless it has as many as it may.
    pub(super) fn take(&self, peer: IpAddr) -> Option<Place> {
        let key = RateKey::of_address(peer);
        let mut taken = self.taken();
        let count = taken.entry(key).or_insert(0);
        if *count >= self.each {
            return None;
        }
        *count += 1;
        Some(Place { places: self.clone(), key })
    }

    fn taken(&self) -> MutexGuard<'_, HashMap<RateKey<'static>, usize>> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.places.taken();
        if let Some(count) = taken.get_mut(&self.key) {
            *count -= 1;
            if *count == 0 {
                taken.remove(&self.key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_so_many_places_and_nobody_is_remembered_for_nothing() {
        let (places, one, other) = (Places::new(2), "10.0.0.1".parse().unwrap(), "10.0.0.2".parse().unwrap());
        let (first, second) = (places.take(one).unwrap(), places.take(one).unwrap());
        assert!(places.take(one).is_none());
        assert!(places.take(other).is_some());
        drop(first);
        assert!(places.take(one).is_some());
        drop(second);
        assert!(places.taken().is_empty());
    }
}
