//! Ours beside several others at once: one measurement of ours a round, a figure for each of the others.

use anyhow::{Result, ensure};

use crate::figure::{Measurement, interleaved};
use crate::{Measured, Reading, Unit};

/// A measurement of ours, and limits and peers that take turns with it.
pub struct Comparison<'a> {
    bench: &'static str,
    unit: Unit,
    ours: Measurement<'a>,
    others: Vec<Other<'a>>,
}

struct Other<'a> {
    case: String,
    is_limit: bool,
    measure: Measurement<'a>,
}

impl<'a> Comparison<'a> {
    /// A comparison of a benchmark; how ours is measured once.
    pub fn new(
        bench: &'static str,
        unit: Unit,
        ours: impl FnMut() -> Result<Reading> + 'a,
    ) -> Comparison<'a> {
        Self { bench, unit, ours: Box::new(ours), others: Vec::new() }
    }

    /// A limit of the machine; `case` names the figure that comes of it.
    pub fn limit(self, case: impl Into<String>, measure: impl FnMut() -> Result<Reading> + 'a) -> Self {
        self.other(case.into(), true, Box::new(measure))
    }

    /// A peer; `case` names the figure that comes of it.
    pub fn peer(self, case: impl Into<String>, measure: impl FnMut() -> Result<Reading> + 'a) -> Self {
        self.other(case.into(), false, Box::new(measure))
    }

    fn other(mut self, case: String, is_limit: bool, measure: Measurement<'a>) -> Self {
        self.others.push(Other { case, is_limit, measure });
        self
    }

    /// Measures all in turn, `rounds` times, every second round in the opposite order; a figure for each of the others.
    pub fn measure(self, rounds: usize) -> Result<Vec<Measured>> {
        ensure!(!self.others.is_empty(), "nothing is measured beside ours");
        let (bench, unit) = (self.bench, self.unit);
        let mut measurements = vec![self.ours];
        let mut names = Vec::new();
        for other in self.others {
            measurements.push(other.measure);
            names.push((other.case, other.is_limit));
        }
        let mut medians = interleaved(&mut measurements, rounds)?.into_iter();
        let ours = medians.next().unwrap_or_default();
        let figures = names.into_iter().zip(medians).map(|((case, is_limit), reading)| {
            let (limit, peer) = if is_limit { (Some(reading), None) } else { (None, Some(reading)) };
            Measured { bench, case, unit, ours: ours.clone(), limit, peer, goal: None }
        });
        Ok(figures.collect())
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;

    #[test]
    fn ours_is_measured_once_a_round_and_stands_beside_each_of_the_others() {
        let order = RefCell::new(String::new());
        let note = |who: char, value: f64| {
            order.borrow_mut().push(who);
            Ok(value.into())
        };
        let comparison = Comparison::new("b", Unit::PerSecond("events"), || note('o', 10.0))
            .limit("to the limit", || note('l', 20.0))
            .peer("to one peer", || note('p', 5.0))
            .peer("to another", || note('q', 1.0));
        let figures = comparison.measure(2).expect("figures");
        assert_eq!(*order.borrow(), "olpq".to_owned() + "qplo");
        let ratios: Vec<_> = figures.iter().map(|figure| (figure.case.as_str(), figure.ratio())).collect();
        assert_eq!(
            ratios,
            [("to the limit", Some(0.5)), ("to one peer", Some(2.0)), ("to another", Some(10.0))]
        );
        assert!(figures[0].limit.is_some() && figures[0].peer.is_none() && figures[1].limit.is_none());
    }

    #[test]
    fn a_comparison_with_nothing_is_an_error() {
        let comparison = Comparison::new("b", Unit::Cost("ns"), || Ok(1.0.into()));
        assert!(comparison.measure(5).is_err());
    }
}
