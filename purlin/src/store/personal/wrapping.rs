//! Which master key a store's new keys are wrapped in, as the store itself remembers it.
//!
//! A process that was given another one, or none, would make keys that those with the right one cannot open, or that lie
//! there in plain. So the first key that is made is committed with a record of what it is wrapped in, and each later one
//! stands on that record. A store without a master key may get one later; from then on it makes no keys without it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::message::Timestamp;
use crate::store::{Commit, CommitError, Engine, Query, ReadError, Revision, Row, Store};

use super::MasterKey;
use super::keys::{KEYS, SubjectRow};

/// The collection of the one record.
pub(super) const WRAPPING: &str = "purlin_wrapping";

/// Its key.
pub(super) const RECORD: &str = "keys";

/// Keys that are looked at together.
const PAGE: usize = 1000;

/// What new keys are wrapped in.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct WrappingRow {
    /// The master key's name; none: they lie there as they are.
    master: Option<String>,
    /// Since when.
    since: Timestamp,
}

impl Row for WrappingRow {
    const COLLECTION: &'static str = WRAPPING;
}

/// What a commit that makes keys stands on.
pub(super) enum Wrapping {
    /// The record of this revision says what is meant.
    Remembered(u64),
    /// It is to be said with this commit, in place of the record of this revision.
    New(WrappingRow, Revision),
}

impl Wrapping {
    /// What is to be done under this master key, or none.
    pub(super) async fn of(
        engine: &dyn Engine,
        given: Option<&MasterKey>,
        now: Timestamp,
    ) -> Result<Self, CommitError> {
        let unavailable = |error: ReadError| CommitError::Unavailable(error.into());
        let given = given.map(MasterKey::name);
        let record = remembered(engine).await.map_err(unavailable)?;
        let (master, revision) = match record {
            Some((row, revision)) => (row.master, Some(revision)),
            None => (Survey::of(engine).await.map_err(unavailable)?.foremost().map(str::to_owned), None),
        };
        check(master.as_deref(), given)?;
        Ok(match revision {
            Some(revision) if master.as_deref() == given => Self::Remembered(revision),
            _ => {
                let row = WrappingRow { master: given.map(str::to_owned), since: now };
                Self::New(row, revision.map_or(Revision::Absent, Revision::Exact))
            }
        })
    }

    /// The commit with it.
    pub(super) fn fence(&self, commit: Commit) -> Commit {
        match self {
            Self::Remembered(revision) => commit.require::<WrappingRow>(RECORD, Revision::Exact(*revision)),
            Self::New(row, expected) => commit.put_expecting(RECORD, row, *expected, None),
        }
    }

    /// Says what the commit made true, which has this revision; and by which revision it is known from now on.
    pub(super) fn learned(&self, committed: u64) -> u64 {
        match self {
            Self::Remembered(revision) => *revision,
            Self::New(row, _) => {
                match &row.master {
                    Some(master) => tracing::info!(
                        master,
                        "from now on the store makes its personal keys under this master key alone"
                    ),
                    None => tracing::debug!("the store makes its personal keys without a master key"),
                }
                committed
            }
        }
    }
}

/// What the store remembers, and the revision of that.
async fn remembered(engine: &dyn Engine) -> Result<Option<(WrappingRow, u64)>, ReadError> {
    match engine.get(WRAPPING.to_owned(), RECORD.to_owned()).await {
        Ok(Some(record)) => Ok(Some((record.decode()?, record.revision))),
        // No key was made since stores remember it.
        Ok(None) | Err(ReadError::Invalid(_)) => Ok(None),
        Err(error) => Err(error),
    }
}

/// A store that has no master key may get one, and nothing else.
fn check(expected: Option<&str>, given: Option<&str>) -> Result<(), WrongMasterKey> {
    match expected {
        Some(expected) if given != Some(expected) => {
            let given = given.map(str::to_owned);
            Err(WrongMasterKey { expected: expected.to_owned(), given })
        }
        _ => Ok(()),
    }
}

/// A store was given another master key than the one that its keys are wrapped in, or none.
///
/// Keys that it made now could be opened by nobody who has the right one, or lie in plain beside those that are wrapped:
/// it makes none. Nothing is lost; a process that has the right one goes on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WrongMasterKey {
    /// The name of the one that is meant.
    pub expected: String,
    /// The name of the one that was given, if one was.
    pub given: Option<String>,
}

impl std::fmt::Display for WrongMasterKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { expected, given } = self;
        write!(
            f,
            "the personal keys of this store are wrapped in the master key `{expected}`, and it was given "
        )?;
        match given {
            Some(given) => write!(f, "another one, `{given}`")?,
            None => f.write_str("none")?,
        }
        write!(f, ": give it `{expected}`; until then it makes no new keys")
    }
}

impl std::error::Error for WrongMasterKey {}

/// What the keys of a store's subjects are wrapped in.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct PersonalKeys {
    /// The name of the master key that new keys are wrapped in; none: the next that is given.
    pub master: Option<String>,
    /// How many keys are wrapped in none.
    pub plain: u64,
    /// How many keys are wrapped in which master key, by its name.
    pub wrapped: BTreeMap<String, u64>,
    /// How many subjects are forgotten.
    pub forgotten: u64,
    /// How many keys cannot be read.
    pub damaged: u64,
}

/// What was counted, and since when there have been keys of each kind.
#[derive(Default)]
struct Survey {
    keys: PersonalKeys,
    first: BTreeMap<String, Timestamp>,
}

impl Survey {
    async fn of(engine: &dyn Engine) -> Result<Self, ReadError> {
        let mut survey = Self::default();
        let mut after = None;
        loop {
            let query = Query::all().after(after.take()).limit(PAGE);
            let limit = query.effective_limit();
            // One more than is wanted says that there are more.
            let records = match engine.list(KEYS.to_owned(), query).await {
                // Nothing was ever sealed here.
                Err(ReadError::Invalid(_)) => return Ok(survey),
                records => records?,
            };
            for record in records.iter().take(limit) {
                match record.decode() {
                    Ok(row) => survey.add(row),
                    Err(_) => survey.keys.damaged += 1,
                }
            }
            if records.len() <= limit {
                return Ok(survey);
            }
            after = records.get(limit - 1).map(|record| record.key.clone());
        }
    }

    fn add(&mut self, row: SubjectRow) {
        match (row.forgotten, row.master) {
            (true, _) => self.keys.forgotten += 1,
            (false, None) => self.keys.plain += 1,
            (false, Some(master)) => {
                let first = self.first.entry(master.clone()).or_insert(row.since);
                *first = row.since.min(*first);
                *self.keys.wrapped.entry(master).or_default() += 1;
            }
        }
    }

    /// The master key that most keys are wrapped in, and of several the oldest: what a store means that has not remembered
    /// it. A few keys under another one are those of a process that was started with a wrong one.
    fn foremost(&self) -> Option<&str> {
        let rank = |name: &str, count: u64| (count, std::cmp::Reverse(self.first.get(name).copied()));
        let most = self.keys.wrapped.iter().max_by_key(|(name, count)| rank(name, **count));
        most.map(|(name, _)| name.as_str())
    }
}

impl Store {
    /// Refuses a master key, or none, under which this store would make no keys: a program asks before it begins, so that
    /// who started it learns at once what is wrong. The refusal is [`CommitError::MasterKey`], as that of a commit.
    pub async fn check_master_key(&self, given: Option<&MasterKey>) -> Result<(), CommitError> {
        Wrapping::of(&*self.bare, given, self.now()).await.map(drop)
    }

    /// Gives up the master key of this name, which is lost: new keys are made under the next one that the store is given,
    /// or none. What is sealed under a key that is wrapped in the lost one stays sealed for ever, and nothing more is
    /// written about whom it is about. Refused when the store does not mean that master key.
    pub async fn abandon_master_key(&self, name: &str) -> Result<(), CommitError> {
        let unavailable = |error: ReadError| CommitError::Unavailable(error.into());
        let known = remembered(&*self.bare).await.map_err(unavailable)?;
        let (master, expected) = match known {
            Some((row, revision)) => (row.master, Revision::Exact(revision)),
            None => {
                let survey = Survey::of(&*self.bare).await.map_err(unavailable)?;
                (survey.foremost().map(str::to_owned), Revision::Absent)
            }
        };
        if master.as_deref() != Some(name) {
            return Err(CommitError::Invalid(match master {
                Some(master) => format!("this store makes its personal keys under the master key `{master}`"),
                None => "this store makes its personal keys under no master key".to_owned(),
            }));
        }
        self.define::<WrappingRow>().await?;
        let row = WrappingRow { master: None, since: self.now() };
        self.commit(Commit::new().put_expecting(RECORD, &row, expected, None)).await.map(drop)
    }

    /// What the keys of its subjects are wrapped in; each of them is looked at.
    pub async fn personal_keys(&self) -> Result<PersonalKeys, ReadError> {
        let survey = Survey::of(&*self.bare).await?;
        let master = match remembered(&*self.bare).await? {
            Some((row, _)) => row.master,
            None => survey.foremost().map(str::to_owned),
        };
        Ok(PersonalKeys { master, ..survey.keys })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_remembered_is_what_most_keys_are_wrapped_in_and_of_several_the_oldest() {
        let foremost = |keys: &[(Option<&str>, i64)]| {
            let mut survey = Survey::default();
            for (master, since) in keys {
                let since = Timestamp::from_second(*since).expect("a time");
                let mut row = SubjectRow::tombstone(since);
                (row.forgotten, row.master) = (false, master.map(str::to_owned));
                survey.add(row);
            }
            survey.foremost().map(str::to_owned)
        };
        assert_eq!(foremost(&[(None, 1), (None, 2)]), None);
        assert_eq!(foremost(&[(None, 1), (None, 2), (Some("a"), 3)]).as_deref(), Some("a"));
        assert_eq!(foremost(&[(Some("b"), 1), (Some("a"), 2), (Some("a"), 3)]).as_deref(), Some("a"));
        assert_eq!(foremost(&[(Some("b"), 1), (Some("a"), 2)]).as_deref(), Some("b"));
        assert_eq!(foremost(&[(Some("b"), 2), (Some("a"), 1)]).as_deref(), Some("a"));
    }
}
