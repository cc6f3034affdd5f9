//! Random commits, one after the other, have the same outcome as on the engine in memory.

use crate::message::Timestamp;
use crate::store::{Commit, CommitError, Conflict, Expected, Page, Query, Record, Revision, Scalar, Store};

use super::{Harness, Note, event, stream, whole_log};
use crate::testing::Dice;

const ROUNDS: u64 = 8;
const COMMITS: usize = 150;

pub(super) async fn run<H: Harness>(harness: &H) {
    for seed in 0..ROUNDS {
        let (ours, model) = (harness.open(&format!("model{seed}")).await, Store::memory());
        compare(&ours, &model, seed).await;
        ours.close().await;
    }
}

async fn compare(ours: &Store, model: &Store, seed: u64) {
    let mut dice = Dice::new(seed);
    for store in [ours, model] {
        store.define::<Note>().await.expect("defined");
    }
    for n in 0..COMMITS {
        let plan = Plan::roll(&mut dice);
        let (got, wanted) = (plan.commit_to(ours).await, plan.commit_to(model).await);
        assert_eq!(got, wanted, "seed {seed}, commit {n}: {plan:?}");
    }
    for query in queries() {
        let keys = |page: Page| (page.records.into_iter().map(|r| r.key).collect::<Vec<_>>(), page.next);
        let (got, wanted) = (ours.list::<Note>(query.clone()).await, model.list::<Note>(query.clone()).await);
        assert_eq!(keys(got.expect("readable")), keys(wanted.expect("readable")), "seed {seed}, {query:?}");
    }
    for (until, limit) in [(0, 10), (500, 2), (500, 10), (1000, 10)] {
        let keys = |records: Vec<Record>| records.into_iter().map(|r| (r.key, r.due)).collect::<Vec<_>>();
        let (got, wanted) =
            (ours.due::<Note>(at(until), limit).await, model.due::<Note>(at(until), limit).await);
        assert_eq!(
            keys(got.expect("readable")),
            keys(wanted.expect("readable")),
            "seed {seed}, due by {until}"
        );
    }
    let contents = |log: Vec<crate::store::Recorded>| -> Vec<_> {
        log.into_iter()
            .map(|event| (event.position, event.stream, event.version, event.envelope.data))
            .collect()
    };
    assert_eq!(contents(whole_log(ours).await), contents(whole_log(model).await), "seed {seed}");
    for key in 0..KEYS {
        let (got, wanted) =
            (ours.get::<Note>(&key.to_string()).await, model.get::<Note>(&key.to_string()).await);
        assert_eq!(got.expect("readable"), wanted.expect("readable"), "seed {seed}, record {key}");
    }
}

const KEYS: u64 = 5;

/// When a note of this number is due.
fn at(number: i64) -> Timestamp {
    Timestamp::UNIX_EPOCH + std::time::Duration::from_millis(number.unsigned_abs())
}

/// Questions that some of the records answer.
fn queries() -> Vec<Query> {
    let of = |query: Query| [query.clone(), query.clone().descending(), query.limit(1)];
    let bases = [
        Query::all(),
        Query::all().and("text", "model"),
        Query::all().and("done", true),
        Query::all().and("tags", "all"),
        Query::all().and("tags", "all").and("done", false),
        Query::all().and("number", Scalar::Null),
        Query::all().after(Some("2".into())),
        Query::all().prefix("3"),
    ];
    bases.into_iter().flat_map(of).collect()
}

/// What a commit is to do, independent of a store's revisions.
#[derive(Debug)]
struct Plan {
    appends: Vec<(u64, Option<u64>, u64)>,
    writes: Vec<(u64, Guess, Option<i64>)>,
    requires: Option<(u64, Guess)>,
}

/// What is expected of a record.
#[derive(Debug, Clone, Copy)]
enum Guess {
    Any,
    Absent,
    /// The revision that it has, or a wrong one when it is absent.
    Right,
    Wrong,
}

impl Plan {
    fn roll(dice: &mut Dice) -> Self {
        let appends = (0..dice.below(3)).map(|_| {
            let expected = if dice.below(2) == 0 { None } else { Some(dice.below(6)) };
            (dice.below(KEYS), expected, 1 + dice.below(3))
        });
        let appends = appends.collect();
        let writes = (0..dice.below(3)).map(|_| {
            let put = if dice.below(4) == 0 { None } else { Some(dice.below(1000).cast_signed()) };
            (dice.below(KEYS), guess(dice), put)
        });
        let writes = writes.collect();
        let requires = (dice.below(3) == 0).then(|| (dice.below(KEYS), guess(dice)));
        Self { appends, writes, requires }
    }

    /// Commits it, and says what came of it in words that are the same for every engine.
    async fn commit_to(&self, store: &Store) -> String {
        let mut commit = Commit::new();
        for (key, expected, count) in &self.appends {
            let expected = expected.map_or(Expected::Any, Expected::Version);
            commit = commit.append(stream(key), expected, (0..*count).map(event));
        }
        for (key, guess, put) in &self.writes {
            let expected = revision(store, *key, *guess).await;
            commit = match put {
                Some(number) => {
                    let due = (number % 3 > 0).then(|| at(*number));
                    commit.put_expecting(key.to_string(), &Note::new("model", *number), expected, due)
                }
                None => commit.delete::<Note>(key.to_string(), expected),
            };
        }
        if let Some((key, guess)) = self.requires {
            commit = commit.require::<Note>(key.to_string(), revision(store, key, guess).await);
        }
        match store.commit(commit).await {
            Ok(committed) => format!("{:?} {:?}", committed.position, committed.appended),
            Err(CommitError::Conflict(Conflict::Record { key, actual, .. })) => {
                format!("record {key}, there: {}", actual.is_some())
            }
            Err(CommitError::Conflict(conflict)) => conflict.to_string(),
            Err(error) => panic!("{self:?} gave {error:?}"),
        }
    }
}

async fn revision(store: &Store, key: u64, guess: Guess) -> Revision {
    let actual = store.get_record("notes", &key.to_string()).await.expect("readable");
    match (guess, actual) {
        (Guess::Any, _) => Revision::Any,
        (Guess::Absent, _) => Revision::Absent,
        (Guess::Right, Some(record)) => Revision::Exact(record.revision),
        (Guess::Right, None) => Revision::Exact(1),
        (Guess::Wrong, actual) => Revision::Exact(actual.map_or(2, |record| record.revision - 1)),
    }
}

fn guess(dice: &mut Dice) -> Guess {
    [Guess::Any, Guess::Absent, Guess::Right, Guess::Wrong][usize::try_from(dice.below(4)).expect("small")]
}
