//! A batch of events folded into the rows that they are about.

use std::collections::{BTreeMap, HashSet};

use futures_util::future::try_join_all;

use crate::store::{ReadError, Recorded, Store};

use super::fold::Definition;
use super::loaded::{Address, Loaded};
use super::rows::{RowSet, Wanted};

/// How many rows are read at a time.
const READS: usize = 64;

/// What became of the events of a batch; the rows are in memory.
#[derive(Debug, Default)]
pub(super) struct Folded {
    /// Events that were not folded, in order.
    pub(super) left: Vec<Left>,
}

/// An event that was not folded.
#[derive(Debug)]
pub(super) struct Left {
    /// Its index in the batch.
    pub(super) index: usize,
    pub(super) key: String,
    /// What is wrong with it; none: it waits behind an earlier one of its key.
    pub(super) reason: Option<String>,
}

/// Folds events into rows; those of the keys that `parked` knows are left, as are those that do not fit and what
/// comes behind them. `unfit` are events that are known not to fit.
pub(super) async fn fold(
    definition: &Definition,
    store: &Store,
    loaded: &mut Loaded,
    events: &[Recorded],
    parked: impl Fn(&str) -> bool + Sync,
    mut unfit: BTreeMap<usize, String>,
) -> Result<Folded, ReadError> {
    let keys: Vec<String> = (0..events.len())
        .map(|index| match definition.key(&events[index]) {
            Ok(key) => key,
            Err(error) => {
                unfit.insert(index, error.reason);
                events[index].stream.to_string()
            }
        })
        .collect();
    let wanted = wanted(definition, loaded, events);
    load(store, loaded, wanted).await?;
    let (mut folded, mut stopped, mut index) = (Folded::default(), HashSet::new(), 0);
    while index < events.len() {
        let key = &keys[index];
        if parked(key) || stopped.contains(key) {
            folded.left.push(Left { index, key: key.clone(), reason: None });
            index += 1;
            continue;
        }
        let changes = match unfit.get(&index) {
            Some(reason) => Err(reason.clone()),
            None => {
                let mut rows = RowSet::new(loaded);
                let end = definition.apply(&events[index], &mut rows);
                let changes = rows.end();
                match end {
                    _ if !changes.missing.is_empty() => {
                        let mut missing = changes.missing;
                        missing.extend(ahead(definition, loaded, &events[index + 1..]));
                        load(store, loaded, missing).await?;
                        continue;
                    }
                    Ok(()) => Ok(changes),
                    Err(error) if error.retired && !changes.taken => {
                        index += 1;
                        continue;
                    }
                    Err(error) if changes.taken => {
                        // It has spoilt a row: all again, without it.
                        unfit.insert(index, error.reason);
                        loaded.restart();
                        (folded, index) = (Folded::default(), 0);
                        stopped.clear();
                        continue;
                    }
                    Err(error) => Err(error.reason),
                }
            }
        };
        match changes {
            Ok(changes) => loaded.merge(changes),
            Err(reason) => {
                stopped.insert(key.clone());
                folded.left.push(Left { index, key: key.clone(), reason: Some(reason) });
            }
        }
        index += 1;
    }
    Ok(folded)
}

/// The rows that the events say they want.
fn wanted(definition: &Definition, loaded: &Loaded, events: &[Recorded]) -> Vec<Address> {
    let mut wanted = Wanted { loaded, rows: Vec::new() };
    for event in events {
        definition.wants(event, &mut wanted);
    }
    wanted.rows
}

/// The rows that later events will ask for, as far as can be seen now: they are read together with the first one's.
fn ahead(definition: &Definition, loaded: &mut Loaded, events: &[Recorded]) -> Vec<Address> {
    let mut missing = Vec::new();
    for event in events {
        let mut rows = RowSet::ahead(loaded);
        let _ = definition.apply(event, &mut rows);
        missing.extend(rows.end().missing);
    }
    missing
}

async fn load(store: &Store, loaded: &mut Loaded, mut wanted: Vec<Address>) -> Result<(), ReadError> {
    wanted.sort_unstable();
    wanted.dedup();
    for chunk in wanted.chunks(READS) {
        let mut reads = Vec::with_capacity(chunk.len());
        for (kind, key) in chunk {
            reads.push(store.get_record(&loaded.collection(*kind).name, key));
        }
        let records = try_join_all(reads).await?;
        for (address, record) in chunk.iter().zip(records) {
            loaded.insert(address.clone(), record);
        }
    }
    Ok(())
}
