//! Views that are folded on several cores: the rows are those of one thread.

use std::collections::{BTreeMap, HashSet};
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex};
use std::thread::ThreadId;
use std::time::{Duration, Instant};

use proptest::prelude::*;
use purlin::message::{Envelope, Event};
use purlin::projection::{Fold, Projection, RowSet, Unfit, View, Wanted, read};
use purlin::store::{Collection, Commit, Expected, Query, Recorded, Row, Store, StreamId};
use serde::{Deserialize, Serialize};
use tokio_util::sync::CancellationToken;

/// What happens to an account.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Account {
    /// Changes its row.
    Booked(i64),
    /// Changes its row and that of its bank.
    Counted(i64),
    /// Reads the row of another account.
    Compared {
        with: u8,
    },
    /// Writes its row without reading it.
    Opened(i64),
    Closed,
    /// Does not fit.
    Odd,
}

impl Event for Account {}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
struct Balance {
    sum: i64,
    /// Tells orders apart that have the same sum.
    trail: u64,
}

impl Balance {
    fn book(&mut self, amount: i64) {
        self.sum += amount;
        self.trail = self.trail.wrapping_mul(31).wrapping_add(amount.unsigned_abs());
    }
}

impl Row for Balance {
    const COLLECTION: &'static str = "cores_balances";
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
struct Bank {
    total: Balance,
}

impl Row for Bank {
    const COLLECTION: &'static str = "cores_banks";
}

/// Who folded.
type Threads = Arc<Mutex<HashSet<ThreadId>>>;

/// Is long about it, so that more than one thread pays.
fn labour(threads: &Threads) {
    threads.lock().unwrap().insert(std::thread::current().id());
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_micros(12) {
        std::hint::spin_loop();
    }
}

fn bank_of(key: &str) -> String {
    format!("bank-{}", key.parse::<u8>().unwrap() % 5)
}

/// Balances and banks; names the banks that it will need, or does not.
struct Books {
    names: bool,
    threads: Threads,
}

impl Fold for Books {
    const NAME: &'static str = "cores_books";
    const CATEGORIES: &'static [&'static str] = &["account"];

    fn collections() -> Vec<Collection> {
        vec![Balance::collection(), Bank::collection()]
    }

    fn wants(&self, event: &Recorded, wanted: &mut Wanted<'_>) {
        if self.names && &*event.envelope.kind == "account.counted" {
            wanted.row::<Bank>(bank_of(event.stream.key()));
        }
    }

    fn apply(&self, event: &Recorded, rows: &mut RowSet<'_>) -> Result<(), Unfit> {
        labour(&self.threads);
        let key = event.stream.key();
        match read(event)? {
            Account::Booked(amount) => rows.change::<Balance>(key, |row| row.book(amount)),
            Account::Counted(amount) => {
                rows.change::<Balance>(key, |row| row.book(amount))?;
                rows.change::<Bank>(&bank_of(key), |row| row.total.book(amount))
            }
            Account::Compared { with } => {
                let other = rows.get::<Balance>(&with.to_string())?.cloned().unwrap_or_default();
                rows.change::<Balance>(key, |row| row.book(other.sum))
            }
            Account::Opened(amount) => rows.put(key, Balance { sum: amount, trail: 0 }),
            Account::Closed => rows.delete::<Balance>(key),
            Account::Odd => {
                rows.change::<Balance>(key, |row| row.sum = -1)?;
                Err(Unfit::new("too odd"))
            }
        }
    }
}

/// Balances alone, by a fold that takes its row before it panics.
struct Sums(Threads);

impl Projection for Sums {
    const NAME: &'static str = "cores_sums";
    const CATEGORY: &'static str = "account";
    type Event = Account;
    type Row = Balance;

    fn apply(&self, row: Option<Balance>, event: &Account, _: &Recorded) -> Option<Balance> {
        labour(&self.0);
        let mut row = row.unwrap_or_default();
        match event {
            Account::Booked(amount) | Account::Counted(amount) | Account::Opened(amount) => row.book(*amount),
            Account::Compared { with } => row.book(i64::from(*with)),
            Account::Closed => return None,
            Account::Odd => panic!("too odd"),
        }
        Some(row)
    }
}

async fn append(store: &Store, events: &[(u8, Account)]) {
    for some in events.chunks(100) {
        let mut commit = Commit::new();
        for (key, event) in some {
            let stream = StreamId::new("account", key).unwrap();
            commit = commit.append(stream, Expected::Any, [Envelope::new("account", event).unwrap()]);
        }
        store.commit(commit).await.unwrap();
    }
}

/// Runs a view until it has seen the whole log.
async fn catch_up<F: Fold>(view: &View<F>, store: &Store) {
    tokio::select! {
        end = view.run(CancellationToken::new()) => panic!("the view ended: {end:?}"),
        seen = view.wait_for(store.head(), Duration::from_secs(600)) => seen.unwrap(),
    }
}

type Found = (BTreeMap<String, Balance>, BTreeMap<String, Bank>, Vec<(String, u64, Option<String>)>);

/// The rows that a view makes of a log in two lives, and what it parks.
async fn folded<F: Fold>(threads: usize, events: &[(u8, Account)], fold: impl Fn() -> F) -> Found {
    let store = Store::memory();
    let begin = || View::new(fold(), &store).threads(NonZeroUsize::new(threads).unwrap());
    // In the second life rows are read that are there.
    let (first, second) = events.split_at(events.len() / 2);
    for some in [first, second] {
        append(&store, some).await;
        catch_up(&begin(), &store).await;
    }
    let view = begin();
    let all = || Query::all().limit(1000);
    let balances = view.rows::<Balance>(all()).await.unwrap().items.into_iter().collect();
    let banks = match store.get_record(Bank::COLLECTION, "none").await {
        Ok(_) => view.rows::<Bank>(all()).await.unwrap().items.into_iter().collect(),
        Err(_) => BTreeMap::new(),
    };
    let parked = view.parked(None, 10_000).await.unwrap().items.into_iter();
    (balances, banks, parked.map(|item| (item.key, item.position.0, item.reason)).collect())
}

fn events(most: usize) -> impl Strategy<Value = Vec<(u8, Account)>> {
    let event = prop_oneof![
        400 => (1..9_i64).prop_map(Account::Booked),
        30 => (1..9_i64).prop_map(Account::Opened),
        30 => Just(Account::Closed),
        1 => Just(Account::Odd),
    ];
    // In most logs few events, or none, are about what others are about.
    let across = prop_oneof![
        (1..9_i64).prop_map(Account::Counted),
        (0..40_u8).prop_map(|with| Account::Compared { with })
    ];
    let own = proptest::collection::vec((0..40_u8, event), 600..most);
    let across = proptest::collection::vec((any::<prop::sample::Index>(), 0..40_u8, across), 0..6);
    let counted = any::<bool>();
    (own, across, counted).prop_map(|(mut events, across, counted)| {
        for (at, key, event) in across {
            let at = at.index(events.len());
            events.insert(at, (key, event));
        }
        if counted {
            for (_, event) in events.iter_mut().step_by(3) {
                if let Account::Booked(amount) = *event {
                    *event = Account::Counted(amount);
                }
            }
        }
        events
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn the_rows_are_those_that_one_thread_folds(events in events(1500), names in any::<bool>()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let books = || Books { names, threads: Threads::default() };
        let sums = || Sums(Threads::default());
        let (one, several) = runtime.block_on(async {
            (folded(1, &events, books).await, folded(4, &events, books).await)
        });
        prop_assert_eq!(several, one);
        let (one, several) = runtime.block_on(async {
            (folded(1, &events, sums).await, folded(4, &events, sums).await)
        });
        prop_assert_eq!(several, one);
    }
}

fn booked(events: u64, event: impl Fn(i64) -> Account) -> Vec<(u8, Account)> {
    (0..events).map(|n| ((n % 40) as u8, event((n % 7) as i64))).collect()
}

#[tokio::test]
async fn keys_that_share_no_row_are_folded_by_several_threads() {
    let threads = Threads::default();
    let books = || Books { names: false, threads: Arc::clone(&threads) };
    folded(4, &booked(4000, Account::Booked), books).await;
    assert!(threads.lock().unwrap().len() > 1, "all was folded by one thread");
}

#[tokio::test]
async fn keys_that_share_rows_are_folded_by_several_threads_if_the_rows_are_named() {
    let threads = Threads::default();
    let books = || Books { names: true, threads: Arc::clone(&threads) };
    folded(4, &booked(4000, Account::Counted), books).await;
    assert!(threads.lock().unwrap().len() > 1, "all was folded by one thread");
}

#[tokio::test]
async fn one_thread_is_enough_when_no_more_are_wanted() {
    let threads = Threads::default();
    let books = || Books { names: false, threads: Arc::clone(&threads) };
    folded(1, &booked(4000, Account::Booked), books).await;
    assert_eq!(threads.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn a_rebuild_on_several_threads_makes_the_same_rows() {
    let store = Store::memory();
    let threads = Threads::default();
    let books = || Books { names: true, threads: Arc::clone(&threads) };
    append(&store, &booked(3000, Account::Counted)).await;
    let view = View::new(books(), &store).threads(NonZeroUsize::new(1).unwrap());
    catch_up(&view, &store).await;
    let before = view.rows::<Bank>(Query::all()).await.unwrap();
    view.rebuild().await.unwrap();
    let several = View::new(books(), &store).threads(NonZeroUsize::new(4).unwrap());
    let rebuilt = async {
        let mut watch = store.watch();
        loop {
            watch.borrow_and_update();
            if several.status().await.unwrap().rebuild.is_none() {
                break;
            }
            watch.changed().await.unwrap();
        }
    };
    threads.lock().unwrap().clear();
    tokio::select! {
        end = several.run(CancellationToken::new()) => panic!("the view ended: {end:?}"),
        () = rebuilt => {}
    }
    assert!(threads.lock().unwrap().len() > 1, "all was folded by one thread");
    assert_eq!(several.rows::<Bank>(Query::all()).await.unwrap(), before);
}
