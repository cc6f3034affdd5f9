//! The services that answer in this process, and how many requests each does at once.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use purlin::resilience::Bulkhead;
use purlin::telemetry::Metrics;

use crate::config::Places;

/// The places of the services of this process; cheap to clone.
#[derive(Clone)]
pub struct Served(Arc<Mutex<State>>);

struct State {
    places: Places,
    services: Vec<(&'static str, Bulkhead)>,
}

impl Served {
    /// No service yet; `metrics` shows how many requests found no place.
    pub fn new(places: Places, metrics: &Metrics) -> Self {
        let served = Self(Arc::new(Mutex::new(State { places, services: Vec::new() })));
        let help = "Requests that found no place at a service, since the start";
        let shown = served.clone();
        metrics.gauges_from("shop_shed", help, ["service", "criticality"], move || {
            let state = shown.lock();
            let shed = state.services.iter().flat_map(|(name, places)| {
                let shed = places.status().shed;
                shed.map(|(class, count)| ([*name, class.as_str()].map(str::to_owned), count as f64))
            });
            shed.collect()
        });
        served
    }

    /// The places of a service that is about to answer.
    pub fn places(&self, name: &'static str) -> Bulkhead {
        let mut state = self.lock();
        let places = Bulkhead::new(state.places.of(name));
        state.services.push((name, places.clone()));
        places
    }

    /// From now on each service has as many as `places` says. Whoever is inside stays inside. Those that have another number
    /// now, as the file calls them.
    pub fn reconfigure(&self, places: Places) -> Vec<String> {
        let mut state = self.lock();
        state.places = places;
        let mut changed = Vec::new();
        for (name, bulkhead) in &state.services {
            let config = state.places.of(name);
            if bulkhead.config() != config {
                bulkhead.reconfigure(config);
                changed.push(format!("places.{name}"));
            }
        }
        changed
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn other_places_hold_at_once_for_those_that_answer_and_for_those_that_will() {
        let served = Served::new(Places::default(), &Metrics::new());
        let (orders, users) = (served.places("orders"), served.places("users"));
        let four: Places =
            toml::from_str("[orders]\nmax_under_way = 4\n[shipping]\nmax_under_way = 3").unwrap();
        assert_eq!(served.reconfigure(four.clone()), ["places.orders"]);
        assert_eq!((orders.status().limit, users.status().limit), (4, 512));
        assert_eq!(served.places("shipping").status().limit, 3);
        assert!(served.reconfigure(four).is_empty());
        assert_eq!(served.reconfigure(Places::default()), ["places.orders", "places.shipping"]);
    }
}
