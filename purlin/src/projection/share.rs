//! Events of a batch that are folded one after the other: all of them, or the share that one of several threads has.

use std::collections::{BTreeMap, HashSet};
use std::time::{Duration, Instant};

use super::Unfit;
use super::batch::{Batch, Left};
use super::loaded::{Address, Loaded};
use super::rows::{Changes, Common, RowSet};

/// Some events of a batch, and how far they are folded.
pub(super) struct Share {
    /// Their indexes, in order.
    events: Vec<usize>,
    next: usize,
    /// Keys of which an event was left.
    stopped: HashSet<String>,
    /// Events that have spoilt a row, and what was wrong with them.
    spoilers: BTreeMap<usize, String>,
    /// Those that were not folded, in order.
    pub(super) left: Vec<Left>,
    /// How long folding has taken.
    pub(super) took: Duration,
}

/// Why a share was folded no further.
pub(super) enum End {
    /// Nothing is left.
    Done,
    /// These rows must be read first.
    Missing(Vec<Address>),
    /// It wants a row that another share has.
    Strayed,
}

impl Share {
    pub(super) fn new(events: Vec<usize>) -> Self {
        let (stopped, spoilers) = (HashSet::new(), BTreeMap::new());
        Self { events, next: 0, stopped, spoilers, left: Vec::new(), took: Duration::ZERO }
    }

    /// Goes on. With `common`, what is not among `rows` is taken from there.
    pub(super) fn fold(
        &mut self,
        batch: &Batch<'_>,
        keys: &[String],
        rows: &mut Loaded,
        common: Option<&Common>,
    ) -> End {
        let begun = Instant::now();
        let end = self.go_on(batch, keys, rows, common);
        self.took += begun.elapsed();
        end
    }

    fn go_on(
        &mut self,
        batch: &Batch<'_>,
        keys: &[String],
        rows: &mut Loaded,
        common: Option<&Common>,
    ) -> End {
        while let Some(&index) = self.events.get(self.next) {
            if common.is_some_and(Common::is_in_vain) {
                return End::Strayed;
            }
            let key = &keys[index];
            if (batch.parked)(key) || self.stopped.contains(key) {
                self.left.push(Left { index, key: key.clone(), reason: None });
                self.next += 1;
                continue;
            }
            match self.apply(batch, index, rows, common) {
                (_, Changes { strayed: true, .. }) => {
                    // The work of the others is in vain.
                    if let Some(common) = common {
                        common.give_up();
                    }
                    return End::Strayed;
                }
                (_, changes) if !changes.missing.is_empty() => {
                    let mut missing = changes.missing;
                    self.next_missing(batch, keys, rows, common, &mut missing);
                    return End::Missing(missing);
                }
                (Ok(()), changes) => rows.merge(changes),
                (Err(error), changes) if error.retired && !changes.taken => {}
                (Err(error), changes) if changes.taken => {
                    // It has spoilt a row: all again, without it.
                    self.spoilers.insert(index, error.reason);
                    self.begin_again(rows);
                    continue;
                }
                (Err(error), _) => {
                    self.stopped.insert(key.clone());
                    self.left.push(Left { index, key: key.clone(), reason: Some(error.reason) });
                }
            }
            self.next += 1;
        }
        End::Done
    }

    /// Applies an event, unless it is known not to fit.
    fn apply(
        &self,
        batch: &Batch<'_>,
        index: usize,
        rows: &mut Loaded,
        common: Option<&Common>,
    ) -> (Result<(), Unfit>, Changes) {
        if let Some(reason) = batch.unfit.get(&index).or_else(|| self.spoilers.get(&index)) {
            return (Err(Unfit::new(reason.as_str())), Changes::default());
        }
        let mut rows = RowSet::new(rows, common);
        let end = batch.definition.apply(&batch.events[index], &mut rows);
        (end, rows.end())
    }

    /// The rows that later events will ask for, as far as can be seen now: they are read together with the first one's.
    fn next_missing(
        &self,
        batch: &Batch<'_>,
        keys: &[String],
        rows: &mut Loaded,
        common: Option<&Common>,
        missing: &mut Vec<Address>,
    ) {
        for &index in &self.events[self.next + 1..] {
            // Those that are left, or refused, ask for nothing: what they would be given others would want in vain.
            let key = &keys[index];
            let unfit = batch.unfit.contains_key(&index) || self.spoilers.contains_key(&index);
            if unfit || (batch.parked)(key) || self.stopped.contains(key) {
                continue;
            }
            let mut rows = RowSet::ahead(rows, common);
            let _ = batch.definition.apply(&batch.events[index], &mut rows);
            missing.extend(rows.end().missing);
        }
    }

    fn begin_again(&mut self, rows: &mut Loaded) {
        rows.restart();
        self.next = 0;
        self.stopped.clear();
        self.left.clear();
    }
}
