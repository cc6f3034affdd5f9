//! A batch of events folded into the rows that they are about.

use std::collections::BTreeMap;

use crate::store::{ReadError, Recorded, Store};

use super::cores::Cores;
use super::fold::Definition;
use super::loaded::{Address, Loaded};
use super::rows::Wanted;
use super::share::{End, Share};

/// How many rows are read at a time at the most, and at the least; between them, as many as are expected to have so many
/// bytes.
const READS: usize = 1024;
const READS_LEAST: usize = 16;
const READS_BYTES: usize = 4 << 20;
/// As long as nothing is known of their size.
const READS_FIRST: usize = 64;

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
    for wanted in wanted.chunk_by(|(one, _), (another, _)| one == another) {
        let mut rest = wanted;
        while let Some(&(kind, _)) = rest.first() {
            let most = match loaded.mean_bytes() {
                Some(bytes) => (READS_BYTES / bytes.max(1)).clamp(READS_LEAST, READS),
                None => READS_FIRST,
            };
            let (chunk, behind) = rest.split_at(most.min(rest.len()));
            let keys = chunk.iter().map(|(_, key)| key.clone()).collect();
            let records = store.get_records(&loaded.collection(kind).name, keys).await.map_err(gone)?;
            for (address, record) in chunk.iter().zip(records) {
                loaded.insert(address.clone(), record);
            }
            rest = behind;
        }
    }
    Ok(())
}

/// Another life of the view may have given the collection another name, or removed it; its records say so by now.
fn gone(error: ReadError) -> ReadError {
    match error {
        ReadError::Invalid(why) => {
            ReadError::Unavailable(format!("{why}: does another program of its view run?").into())
        }
        error => error,
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroUsize;
    use std::sync::{Arc, Mutex};
    use std::time::Duration;

    use futures_util::FutureExt;
    use futures_util::future::try_join_all;
    use serde::{Deserialize, Serialize};

    use super::*;
    use crate::message::Envelope;
    use crate::projection::{Fold, RowSet, Unfit};
    use crate::store::memory::Memory;
    use crate::store::{
        BoxFuture, Collection, Commit, Engine, Expected, Layer, LogFilter, Position, Record, Row, StreamId,
    };

    #[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
    struct Tally {
        events: u64,
    }

    impl Row for Tally {
        const COLLECTION: &'static str = "tallies";
    }

    /// An event, which counts in the row of its stream, and what it wants besides.
    #[derive(Debug, Clone, Default, Serialize, Deserialize)]
    struct Done {
        reads: Vec<String>,
        /// Only if it is the first that counts in its row.
        reads_if_new: Option<String>,
        writes_if_new: Option<String>,
    }

    struct Tallies;

    impl Fold for Tallies {
        const NAME: &'static str = "tallies";
        const CATEGORIES: &'static [&'static str] = &["thing"];

        fn collections() -> Vec<Collection> {
            vec![Tally::collection()]
        }

        fn key(&self, event: &Recorded) -> String {
            event.stream.key().to_owned()
        }

        fn apply(&self, event: &Recorded, rows: &mut RowSet<'_>) -> Result<(), Unfit> {
            let done: Done = serde_json::from_slice(&event.envelope.data)
                .map_err(|error| Unfit::new(error.to_string()))?;
            for row in &done.reads {
                rows.get::<Tally>(row)?;
            }
            if rows.get::<Tally>(event.stream.key())?.is_none() {
                if let Some(row) = done.writes_if_new {
                    rows.put(row, Tally::default())?;
                }
                if let Some(row) = &done.reads_if_new {
                    rows.get::<Tally>(row)?;
                }
            }
            rows.change::<Tally>(event.stream.key(), |row| row.events += 1)
        }
    }

    /// What becomes of the next read of a record.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    enum Next {
        Read,
        Fails,
        Hangs,
    }

    struct Reluctant {
        engine: Arc<Memory>,
        next: Arc<Mutex<Next>>,
    }

    impl Layer for Reluctant {
        fn inner(&self) -> &dyn Engine {
            &*self.engine
        }

        fn get(&self, collection: String, key: String) -> BoxFuture<'_, Result<Option<Record>, ReadError>> {
            match std::mem::replace(&mut *self.next.lock().unwrap(), Next::Read) {
                Next::Read => self.engine.get(collection, key),
                Next::Fails => Box::pin(async { Err(ReadError::Unavailable("told to fail".into())) }),
                Next::Hangs => Box::pin(std::future::pending()),
            }
        }

        fn get_many(
            &self,
            collection: String,
            keys: Vec<String>,
        ) -> BoxFuture<'_, Result<Vec<Option<Record>>, ReadError>> {
            Box::pin(try_join_all(keys.into_iter().map(move |key| Layer::get(self, collection.clone(), key))))
        }
    }

    /// A store with these events, and its next read.
    async fn store(events: &[(String, Done)]) -> (Store, Arc<Mutex<Next>>, Vec<Recorded>) {
        let next = Arc::new(Mutex::new(Next::Read));
        let store = Store::new(Reluctant { engine: Arc::default(), next: Arc::clone(&next) });
        store.define::<Tally>().await.unwrap();
        let mut commit = Commit::new();
        for (key, done) in events {
            let event = Envelope::raw("thing.done", serde_json::to_string(done).unwrap());
            commit = commit.append(StreamId::new("thing", key).unwrap(), Expected::Any, [event]);
        }
        store.commit(commit).await.unwrap();
        let log = store.read_log(Position::START, &LogFilter::all(), 10_000).await.unwrap();
        assert_eq!(log.events.len(), events.len());
        (store, next, log.events)
    }

    /// Four threads, for a fold that is dear.
    fn cores() -> Cores {
        let cores = Cores::default();
        cores.limit(NonZeroUsize::new(4).unwrap());
        cores.note(Duration::from_secs(1), 1000);
        cores
    }

    /// These rows are known not to be there.
    fn loaded(keys: impl IntoIterator<Item = String>) -> Loaded {
        let mut loaded = Loaded::new([(Tally::COLLECTION.to_owned(), Tally::collection())], false);
        for key in keys {
            loaded.insert((0, key), None);
        }
        loaded
    }

    fn some(prefix: &str, count: u64) -> impl Iterator<Item = String> {
        (0..count).map(move |n| format!("{prefix}{n}"))
    }

    fn reads(rows: impl IntoIterator<Item = String>) -> Done {
        Done { reads: rows.into_iter().collect(), ..Done::default() }
    }

    fn batch<'a>(
        definition: &'a Definition,
        store: &'a Store,
        events: &'a [Recorded],
        parked: &'a (dyn Fn(&str) -> bool + Sync),
    ) -> Batch<'a> {
        Batch { definition, store, events, parked, unfit: BTreeMap::new(), cores: None }
    }

    /// Whether a batch is folded by several threads to its end.
    async fn by_several(cores: &Cores, mut batch: Batch<'_>, loaded: &mut Loaded) -> bool {
        let keys = batch.keys();
        cores.fold(&batch, &keys, loaded).await.unwrap().is_some()
    }

    #[tokio::test]
    async fn a_batch_whose_rows_could_not_all_be_read_is_folded_from_its_beginning() {
        // Rows of the first keys are known; those of the others must be read between two rounds.
        let keys = || some("known", 20).chain(some("read", 20));
        let events: Vec<_> = (0..5).flat_map(|_| keys()).map(|key| (key, Done::default())).collect();
        let definition = Definition::of(Tallies);
        let none = |_: &str| false;
        for broken in [Next::Fails, Next::Hangs] {
            let (store, next, events) = store(&events).await;
            let (cores, mut loaded) = (cores(), loaded(some("known", 20)));
            let with_cores = || Batch { cores: Some(&cores), ..batch(&definition, &store, &events, &none) };
            *next.lock().unwrap() = broken;
            let first = with_cores().fold(&mut loaded).now_or_never();
            match broken {
                Next::Hangs => assert!(first.is_none(), "it waits, and is dropped"),
                _ => assert!(matches!(first, Some(Err(ReadError::Unavailable(_)))), "{first:?}"),
            }
            assert_eq!(*next.lock().unwrap(), Next::Read, "it did come to a read");
            let left = with_cores().fold(&mut loaded).await.unwrap().left;
            assert!(left.is_empty(), "{left:?}");
            store.commit(loaded.commit(false)).await.unwrap();
            for key in keys() {
                let row = store.get::<Tally>(&key).await.unwrap();
                assert_eq!(row, Some(Tally { events: 5 }), "{key}, {broken:?}");
            }
        }
    }

    #[tokio::test]
    async fn events_that_are_left_take_no_rows_from_others() {
        let mut events = Vec::new();
        for _ in 0..10 {
            // Each must wait for a row that is to be read before it asks for its own.
            events.extend(some("a", 20).map(|key| (key.clone(), reads([format!("more-{key}")]))));
        }
        events.extend((0..5).map(|_| ("parked".to_owned(), reads(some("a", 20)))));
        let (store, _, events) = store(&events).await;
        let definition = Definition::of(Tallies);
        let parked = |key: &str| key == "parked";
        let batch = batch(&definition, &store, &events, &parked);
        assert!(by_several(&cores(), batch, &mut loaded(some("a", 20))).await);
    }

    #[tokio::test]
    async fn what_is_only_seen_ahead_is_kept_from_nobody() {
        let mut events = vec![
            ("one".to_owned(), reads(["more-one".to_owned()])),
            // Before the first was folded it looks as if these wanted rows of others.
            ("one".to_owned(), Done { reads_if_new: Some("two".into()), ..Done::default() }),
            ("one".to_owned(), Done { writes_if_new: Some("three".into()), ..Done::default() }),
        ];
        for key in ["two", "three"] {
            events.extend((0..3).map(|_| (key.to_owned(), reads([format!("more-{key}")]))));
        }
        for _ in 0..4 {
            events.extend(some("else", 8).map(|key| (key, Done::default())));
        }
        let (store, _, events) = store(&events).await;
        let definition = Definition::of(Tallies);
        let none = |_: &str| false;
        let batch = batch(&definition, &store, &events, &none);
        assert!(by_several(&cores(), batch, &mut loaded(["one".to_owned()])).await);
    }

    #[tokio::test]
    async fn a_view_whose_batches_one_key_has_almost_to_itself_is_folded_by_one_thread_for_a_while() {
        let even: Vec<_> = (0..10).flat_map(|_| some("a", 20)).map(|key| (key, Done::default())).collect();
        let mut odd = even.clone();
        odd.extend((0..2000).map(|_| ("hot".to_owned(), Done::default())));
        let ((even_store, _, even), (odd_store, _, odd)) = (store(&even).await, store(&odd).await);
        let definition = Definition::of(Tallies);
        let none = |_: &str| false;
        let cores = cores();
        let odd = batch(&definition, &odd_store, &odd, &none);
        assert!(!by_several(&cores, odd, &mut loaded([])).await);
        let mut rests = 0;
        while !by_several(&cores, batch(&definition, &even_store, &even, &none), &mut loaded([])).await {
            rests += 1;
        }
        assert_eq!(rests, 8);
    }
}
