//! One figure: what is measured against what, and what came out.

use std::collections::BTreeMap;
use std::fmt;

use anyhow::{Result, ensure};
use serde_json::json;

/// What a number counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// So many of these in a second: larger is better.
    PerSecond(&'static str),
    /// A cost in this unit (`ns`, `us CPU`, `bytes`): smaller is better.
    Cost(&'static str),
}

impl Unit {
    /// The unit as it stands in the table.
    pub fn name(self) -> String {
        match self {
            Self::PerSecond(what) => format!("{what}/s"),
            Self::Cost(unit) => unit.to_owned(),
        }
    }
}

/// What one measurement gave: the number that counts, and others worth seeing (`p99 ms`, `rows a commit`).
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Reading {
    /// The number that counts.
    pub value: f64,
    /// Others, by name.
    pub details: BTreeMap<&'static str, f64>,
}

impl Reading {
    /// The same with one more number.
    pub fn with(mut self, name: &'static str, value: f64) -> Self {
        self.details.insert(name, value);
        self
    }
}

impl From<f64> for Reading {
    fn from(value: f64) -> Self {
        Self { value, ..Self::default() }
    }
}

/// What a number should be.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Goal {
    /// No more than this.
    AtMost(f64),
    /// No less than this.
    AtLeast(f64),
}

impl Goal {
    /// Whether a value meets it.
    pub fn is_met(self, value: f64) -> bool {
        match self {
            Self::AtMost(most) => value <= most,
            Self::AtLeast(least) => value >= least,
        }
    }
}

impl fmt::Display for Goal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (sign, value) = match self {
            Self::AtMost(most) => ("<=", most),
            Self::AtLeast(least) => (">=", least),
        };
        write!(f, "{sign} {}", rounded(*value))
    }
}

/// How something is measured once.
pub(crate) type Measurement<'a> = Box<dyn FnMut() -> Result<Reading> + 'a>;

/// A figure that is to be measured.
pub struct Figure<'a> {
    bench: &'static str,
    case: String,
    unit: Unit,
    ours: Option<Measurement<'a>>,
    limit: Option<Measurement<'a>>,
    peer: Option<Measurement<'a>>,
}

impl<'a> Figure<'a> {
    /// A figure of a benchmark; `case` names what, against what, how many (`sqlite commit 128`).
    pub fn new(bench: &'static str, case: impl Into<String>, unit: Unit) -> Self {
        Self { bench, case: case.into(), unit, ours: None, limit: None, peer: None }
    }

    /// How ours is measured once.
    pub fn ours(mut self, measure: impl FnMut() -> Result<Reading> + 'a) -> Self {
        self.ours = Some(Box::new(measure));
        self
    }

    /// How the limit of the machine is measured once.
    pub fn limit(mut self, measure: impl FnMut() -> Result<Reading> + 'a) -> Self {
        self.limit = Some(Box::new(measure));
        self
    }

    /// How the peer is measured once.
    pub fn peer(mut self, measure: impl FnMut() -> Result<Reading> + 'a) -> Self {
        self.peer = Some(Box::new(measure));
        self
    }

    /// Measures all in turn, `rounds` times.
    pub fn measure(self, rounds: usize) -> Result<Measured> {
        ensure!(self.ours.is_some(), "{}: nothing of ours is measured", self.case);
        let (has_limit, has_peer) = (self.limit.is_some(), self.peer.is_some());
        let mut measurements: Vec<_> = [self.ours, self.limit, self.peer].into_iter().flatten().collect();
        let mut medians = interleaved(&mut measurements, rounds)?.into_iter();
        let ours = medians.next().unwrap_or_default();
        let limit = if has_limit { medians.next() } else { None };
        let peer = if has_peer { medians.next() } else { None };
        Ok(Measured { bench: self.bench, case: self.case, unit: self.unit, ours, limit, peer, goal: None })
    }
}

/// Measures all in turn, `rounds` times, every second round in the opposite order, so that none always comes first;
/// the medians of each.
pub(crate) fn interleaved(measurements: &mut [Measurement<'_>], rounds: usize) -> Result<Vec<Reading>> {
    ensure!(rounds > 0, "no round is no measurement");
    let mut readings = vec![Vec::new(); measurements.len()];
    for round in 0..rounds {
        let mut order: Vec<usize> = (0..measurements.len()).collect();
        if round % 2 == 1 {
            order.reverse();
        }
        for which in order {
            readings[which].push(measurements[which]()?);
        }
    }
    Ok(readings.iter().map(|readings| median_reading(readings)).collect())
}

/// A figure that was measured: the medians of the rounds.
#[derive(Debug, Clone, PartialEq)]
pub struct Measured {
    /// Of which benchmark.
    pub bench: &'static str,
    /// What, against what, how many.
    pub case: String,
    /// What the numbers count.
    pub unit: Unit,
    /// Ours.
    pub ours: Reading,
    /// The machine's limit.
    pub limit: Option<Reading>,
    /// The peer.
    pub peer: Option<Reading>,
    /// What ours should be, where that was said beforehand.
    pub goal: Option<Goal>,
}

impl Measured {
    /// A figure of ours alone, measured by other means than in rounds.
    pub fn alone(bench: &'static str, case: impl Into<String>, unit: Unit, ours: impl Into<Reading>) -> Self {
        Self { bench, case: case.into(), unit, ours: ours.into(), limit: None, peer: None, goal: None }
    }

    /// The same with what it should be.
    pub fn should(mut self, goal: Goal) -> Self {
        self.goal = Some(goal);
        self
    }

    /// Ours over the limit, or over the peer where there is no limit.
    pub fn ratio(&self) -> Option<f64> {
        let other = self.limit.as_ref().or(self.peer.as_ref())?;
        Some(self.ours.value / other.value).filter(|ratio| ratio.is_finite())
    }

    /// The line of JSON; what is not known is null, and details stand in an object behind.
    pub fn json(&self) -> String {
        let number = |reading: &Reading| rounded(reading.value);
        let mut line = format!(
            r#"{{"bench":{},"case":{},"ours":{},"limit":{},"peer":{},"ratio":{},"unit":{}"#,
            json!(self.bench),
            json!(self.case),
            json!(number(&self.ours)),
            json!(self.limit.as_ref().map(number)),
            json!(self.peer.as_ref().map(number)),
            json!(self.ratio().map(rounded)),
            json!(self.unit.name()),
        );
        let sides =
            [("ours", Some(&self.ours)), ("limit", self.limit.as_ref()), ("peer", self.peer.as_ref())];
        if let Some(goal) = self.goal {
            line += &format!(r#","goal":{},"met":{}"#, json!(goal.to_string()), goal.is_met(self.ours.value));
        }
        for (side, reading) in sides {
            for (name, value) in reading.into_iter().flat_map(|reading| &reading.details) {
                line += &format!(",{}:{}", json!(format!("{side} {name}")), json!(rounded(*value)));
            }
        }
        line + "}"
    }
}

/// Four digits are more than any of these measurements is worth; whole numbers above that.
fn rounded(value: f64) -> serde_json::Value {
    if !value.is_finite() {
        serde_json::Value::Null
    } else if value.abs() >= 1000.0 {
        // The numbers are rates and costs, far below 2^53.
        json!(value.round() as i64)
    } else {
        let digits = 3 - (value.abs().max(1e-6).log10().floor() as i32).min(3);
        let scale = 10_f64.powi(digits);
        json!((value * scale).round() / scale)
    }
}

/// The medians of each number.
fn median_reading(readings: &[Reading]) -> Reading {
    let names = readings.first().into_iter().flat_map(|first| first.details.keys());
    let details = names.map(|name| {
        let values = readings.iter().filter_map(|reading| reading.details.get(name).copied());
        (*name, median(values.collect()))
    });
    let details = details.collect();
    Reading { value: median(readings.iter().map(|reading| reading.value).collect()), details }
}

/// The middle of the values; of an even number, the mean of the two in the middle.
fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => f64::NAN,
        n if n % 2 == 1 => values[middle],
        _ => f64::midpoint(values[middle - 1], values[middle]),
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;

    #[test]
    fn the_rounds_take_turns_and_change_who_begins() {
        let order = RefCell::new(String::new());
        let note = |who: char| {
            order.borrow_mut().push(who);
            Ok(1.0.into())
        };
        let figure = Figure::new("b", "c", Unit::Cost("ns"));
        figure.ours(|| note('o')).limit(|| note('l')).peer(|| note('p')).measure(3).expect("a figure");
        assert_eq!(*order.borrow(), "olpplo".to_owned() + "olp");
    }

    #[test]
    fn one_wild_round_moves_neither_the_number_nor_its_details() {
        let mut values = [100.0, 9_000.0, 110.0, 90.0, 100.0].into_iter();
        let ours = || {
            let value = values.next().expect("five rounds");
            Ok(Reading::from(value).with("p99 ms", value * 2.0))
        };
        let measured =
            Figure::new("b", "c", Unit::PerSecond("events")).ours(ours).measure(5).expect("a figure");
        assert_eq!((measured.ours.value, measured.ours.details["p99 ms"]), (100.0, 200.0));
    }

    #[test]
    fn the_line_of_json_has_the_agreed_members_first() {
        let figure = Figure::new("append", "sqlite commit 1", Unit::PerSecond("events"));
        let figure = figure.ours(|| Ok(Reading::from(0.123_456).with("p50 ms", 2.0))).peer(|| Ok(2.0.into()));
        let line = figure.measure(2).expect("a figure").json();
        let expected = r#"{"bench":"append","case":"sqlite commit 1","ours":0.1235,"limit":null,"peer":2.0,"ratio":0.06173,"unit":"events/s","ours p50 ms":2.0}"#;
        assert_eq!(line, expected);
        assert!(serde_json::from_str::<serde_json::Value>(&line).is_ok());
    }

    #[test]
    fn a_goal_and_whether_it_is_met_stand_behind_the_unit() {
        let figure = Measured::alone("b", "c", Unit::Cost("ms"), 3.0).should(Goal::AtMost(2.5));
        assert!(figure.json().ends_with(r#""unit":"ms","goal":"<= 2.5","met":false}"#), "{}", figure.json());
        assert!(Goal::AtLeast(0.9).is_met(0.9) && !Goal::AtLeast(0.9).is_met(f64::NAN));
        let never = Measured::alone("b", "c", Unit::Cost("s"), f64::INFINITY);
        assert!(never.json().contains(r#""ours":null"#), "{}", never.json());
    }

    #[test]
    fn a_figure_without_anything_of_ours_is_an_error() {
        assert!(Figure::new("b", "c", Unit::Cost("ns")).limit(|| Ok(1.0.into())).measure(1).is_err());
    }
}
