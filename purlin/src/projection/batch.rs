//! A batch of events folded into the rows that they are about.

use std::collections::BTreeMap;

use futures_util::future::try_join_all;

use crate::store::{ReadError, Recorded, Store};

use super::cores::Cores;
use super::fold::Definition;
use super::loaded::{Address, Loaded};
use super::rows::Wanted;
use super::share::{End, Share};

/// How many rows are read at a time.
const READS: usize = 64;

/// Events that are to be folded, and how.
pub(super) struct Batch<'a> {
    pub(super) definition: &'a Definition,
    pub(super) store: &'a Store,
    pub(super) events: &'a [Recorded],
    /// The keys whose events are left.
    pub(super) parked: &'a (dyn Fn(&str) -> bool + Sync),
    /// Events that are known not to fit, by their index.
    pub(super) unfit: BTreeMap<usize, String>,
    /// Where more than one thread may fold; none: one event after the other.
    pub(super) cores: Option<&'a Cores>,
}

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

impl Batch<'_> {
    /// Folds the events into rows; those of parked keys are left, as are those that do not fit and what comes behind them.
    pub(super) async fn fold(mut self, loaded: &mut Loaded) -> Result<Folded, ReadError> {
        loaded.recover();
        let keys = self.keys();
        let wanted = self.wanted(loaded);
        load(self.store, loaded, wanted).await?;
        if let Some(cores) = self.cores
            && let Some(left) = cores.fold(&self, &keys, loaded).await?
        {
            return Ok(Folded { left });
        }
        let mut share = Share::new((0..self.events.len()).collect());
        while let End::Missing(rows) = share.fold(&self, &keys, loaded, None) {
            load(self.store, loaded, rows).await?;
        }
        if let Some(cores) = self.cores {
            cores.note(share.took, self.events.len());
        }
        Ok(Folded { left: share.left })
    }

    /// What each event is folded in order by.
    fn keys(&mut self) -> Vec<String> {
        let mut keys = Vec::with_capacity(self.events.len());
        for (index, event) in self.events.iter().enumerate() {
            keys.push(self.definition.key(event).unwrap_or_else(|error| {
                self.unfit.insert(index, error.reason);
                event.stream.to_string()
            }));
        }
        keys
    }

    /// The rows that the events say they want and that are not here.
    fn wanted(&self, loaded: &Loaded) -> Vec<Address> {
        let mut wanted = Wanted { loaded, rows: Vec::new(), here_too: false };
        for event in self.events {
            self.definition.wants(event, &mut wanted);
        }
        wanted.rows
    }
}

/// Reads rows.
pub(super) async fn load(
    store: &Store,
    loaded: &mut Loaded,
    mut wanted: Vec<Address>,
) -> Result<(), ReadError> {
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
