//! Shelves kept in mind, as the log says they are.
//!
//! What is in mind is true as of a position, and what came behind it is read before anybody relies on it. So it
//! does not matter who changed a shelf, nor whether he lived to tell.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use purlin::aggregate::{Aggregate as _, LoadError, Repository};
use purlin::message::Uuid;
use purlin::store::{LogFilter, Position, Recorded, Store};

use super::super::shelf::Shelf;

/// How many shelves are kept in mind.
const MOST: usize = 10_000;

/// How many events a shelf is kept in mind for; loading it anew then takes a snapshot.
const KEPT: u64 = 1000;

/// How many events are read at once.
const READ: usize = 1000;

/// How many shelves are loaded side by side.
const AT_ONCE: usize = 16;

/// A shelf at a version; cheap to clone, until it is changed.
#[derive(Debug, Clone)]
pub(super) struct Page {
    pub(super) shelf: Arc<Shelf>,
    pub(super) version: u64,
    loaded_at: u64,
}

/// The shelves of a store.
pub(super) struct Pages {
    store: Store,
    shelves: Repository<Shelf>,
    known: Mutex<Known>,
    /// Who has it reads on; those who wait for it find that done.
    reading: tokio::sync::Mutex<()>,
}

/// What is in mind.
struct Known {
    /// No event up to here is missing from any page.
    through: Position,
    pages: HashMap<Uuid, Page>,
}

impl Pages {
    pub(super) fn new(store: &Store) -> Self {
        let known = Known { through: store.head(), pages: HashMap::new() };
        let (store, shelves, known) = (store.clone(), Repository::new(store), Mutex::new(known));
        Self { store, shelves, known, reading: tokio::sync::Mutex::default() }
    }

    /// Reads what has happened to the shelves in mind.
    pub(super) async fn follow(&self) -> Result<(), LoadError> {
        let (head, filter) = (self.store.head(), LogFilter::category(Shelf::KIND));
        if self.known().through >= head {
            return Ok(());
        }
        let _reading = self.reading.lock().await;
        loop {
            let after = self.known().through;
            if after >= head {
                return Ok(());
            }
            let read = self.store.read_log(after, &filter, READ).await?;
            let mut known = self.known();
            let unseen = known.through;
            for event in read.events.iter().filter(|event| event.position > unseen) {
                known.hear(event);
            }
            known.through = known.through.max(read.through);
        }
    }

    /// These shelves as they are; one that is not there has version 0.
    pub(super) async fn find(&self, product_ids: &[Uuid]) -> Result<HashMap<Uuid, Page>, LoadError> {
        self.follow().await?;
        let (mut found, missing, through) = {
            let known = self.known();
            let page = |id: &Uuid| known.pages.get(id).map(|page| (*id, page.clone()));
            let found: HashMap<Uuid, Page> = product_ids.iter().filter_map(page).collect();
            let missing: Vec<Uuid> =
                product_ids.iter().copied().filter(|id| !found.contains_key(id)).collect();
            (found, missing, known.through)
        };
        if missing.is_empty() {
            return Ok(found);
        }
        let load = async |id: Uuid| {
            let root = self.shelves.load(id).await?;
            let (shelf, version) = (Arc::new(root.state().clone()), root.version());
            Ok::<_, LoadError>((id, Page { shelf, version, loaded_at: version }))
        };
        let loaded: Vec<(Uuid, Page)> =
            stream::iter(missing).map(load).buffer_unordered(AT_ONCE).try_collect().await?;
        let mut known = self.known();
        // Has somebody read on meanwhile, what he read may be missing from these.
        if known.through == through {
            known.take_in(loaded.iter().cloned());
        }
        found.extend(loaded);
        Ok(found)
    }

    /// After so many events of ours were committed, up to a position: these shelves are so now.
    pub(super) fn committed(&self, pages: HashMap<Uuid, Page>, events: usize, position: Position) {
        let mut known = self.known();
        if known.through.0 + events as u64 == position.0 {
            known.through = position;
            known.take_in(pages);
            return;
        }
        // Somebody else's events came between, or were read together with ours: those in mind are read on.
        for (id, page) in pages {
            if let Some(old) = known.pages.get_mut(&id).filter(|old| old.version < page.version) {
                *old = page;
            }
        }
    }

    /// Forgets everything: what is in mind contradicts the store.
    pub(super) fn forget(&self) {
        self.known().pages.clear();
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    fn take_in(&mut self, pages: impl IntoIterator<Item = (Uuid, Page)>) {
        for (id, page) in pages {
            if page.version == 0 || page.version - page.loaded_at >= KEPT {
                self.pages.remove(&id);
                continue;
            }
            if self.pages.len() >= MOST && !self.pages.contains_key(&id) {
                self.pages.clear();
            }
            self.pages.insert(id, page);
        }
    }

    /// Folds in an event of a shelf, unless the page has it already. A page that it does not follow is forgotten.
    fn hear(&mut self, event: &Recorded) {
        let Ok(id) = event.stream.key().parse::<Uuid>() else { return };
        let Some(page) = self.pages.get_mut(&id) else { return };
        if event.version <= page.version {
            return;
        }
        match event.envelope.decode() {
            Ok(heard) if event.version == page.version + 1 => page.apply(&heard),
            _ => _ = self.pages.remove(&id),
        }
    }
}

impl Page {
    /// The shelf after one more event.
    pub(super) fn apply(&mut self, event: &<Shelf as purlin::aggregate::Aggregate>::Event) {
        Arc::make_mut(&mut self.shelf).apply(event);
        self.version += 1;
    }
}
