//! The subjects' keys: a record each, and a bounded memory of those that were asked for.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use tokio::sync::OnceCell;
use tokio::time::Instant;

use crate::message::Timestamp;
use crate::store::{CommitError, Engine, Field, ReadError, Record, Revision, Row};
use crate::telemetry::Rarely;

use super::MasterKey;
use super::cipher::{NoRandomness, SecretKey, random};
use super::wrapping::{WRAPPING, Wrapping, WrappingRow};

/// The collection of the subjects' keys. What is deleted from it must be gone from the disk.
pub const KEYS: &str = "purlin_subjects";

/// Refuses to remove, or to replace, all keys at once: whatever is personal would be lost, or a key that is forgotten
/// would stay on the disk.
pub(in crate::store) fn check_removal(collection: &str) -> Result<(), CommitError> {
    match collection {
        KEYS => Err(CommitError::Invalid(format!(
            "`{KEYS}` has the keys of personal data: it is neither removed nor replaced; forget subjects instead"
        ))),
        WRAPPING => Err(CommitError::Invalid(format!(
            "`{WRAPPING}` says what the keys of personal data are wrapped in: it is neither removed nor replaced"
        ))),
        _ => Ok(()),
    }
}

/// How long a key is used without a look whether it is still there: another process may have destroyed it.
const FRESH: Duration = Duration::from_secs(1);

/// So many subjects are remembered at least, and at most twice as many.
const REMEMBERED: usize = 8192;

/// The record of a subject: its key, or that it is forgotten.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct SubjectRow {
    pub(super) forgotten: bool,
    /// Since when it has been so.
    pub(super) since: Timestamp,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    key: Option<String>,
    /// The name of the master key that the key is wrapped in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) master: Option<String>,
}

impl Row for SubjectRow {
    const COLLECTION: &'static str = KEYS;
    const FIELDS: &'static [Field] = &[Field::boolean("forgotten")];
}

impl SubjectRow {
    /// What stays of a subject, so that nothing is written about it any more. It is nearly as long as a key's record,
    /// and no longer, so that an engine can write it where that was and need not move others.
    pub(super) fn tombstone(since: Timestamp) -> Self {
        Self { forgotten: true, since, key: Some("-".repeat(32)), master: None }
    }
}

/// What is known of a subject.
#[derive(Clone)]
pub(super) struct Known {
    pub(super) standing: Standing,
    /// The revision of its record.
    pub(super) revision: Option<u64>,
}

#[derive(Clone)]
pub(super) enum Standing {
    /// Nothing was written about it.
    New,
    Held(Arc<SecretKey>),
    /// Its key is wrapped in a master key that this store does not have.
    Locked(Arc<str>),
    Forgotten,
}

impl Known {
    pub(super) fn new(standing: Standing, revision: impl Into<Option<u64>>) -> Self {
        Self { standing, revision: revision.into() }
    }

    /// What a commit that stands on this expects of the record.
    pub(super) fn expected(&self) -> Revision {
        self.revision.map_or(Revision::Absent, Revision::Exact)
    }
}

pub(super) struct Keys {
    engine: Arc<dyn Engine>,
    master: Option<MasterKey>,
    defined: OnceCell<()>,
    /// The revision of the record that says that keys are made under this master key, once that was seen.
    agreed: Mutex<Option<u64>>,
    remembered: Mutex<Remembered>,
    warning: Rarely,
}

/// Two generations: what is asked for moves to the young one, and when that is full the old one is forgotten.
#[derive(Default)]
struct Remembered {
    young: HashMap<Box<str>, (Known, Instant)>,
    old: HashMap<Box<str>, (Known, Instant)>,
}

impl Keys {
    pub(super) fn new(engine: Arc<dyn Engine>, master: Option<MasterKey>) -> Self {
        let (defined, agreed, remembered) = (OnceCell::new(), Mutex::default(), Mutex::default());
        Self { engine, master, defined, agreed, remembered, warning: Rarely::every(Duration::from_secs(10)) }
    }

    /// Makes the collections.
    pub(super) async fn define(&self) -> Result<(), CommitError> {
        let define = || async {
            self.engine.define(SubjectRow::collection()).await?;
            self.engine.define(WrappingRow::collection()).await
        };
        self.defined.get_or_try_init(define).await.map(drop)
    }

    /// What a commit that makes keys stands on; refused when the store makes none under what it was given.
    pub(super) async fn wrapping(&self) -> Result<Wrapping, CommitError> {
        let agreed = *self.agreed();
        match agreed {
            Some(revision) => Ok(Wrapping::Remembered(revision)),
            None => Wrapping::of(&*self.engine, self.master.as_ref(), self.now()).await,
        }
    }

    /// What a commit that made keys made true.
    pub(super) fn agree(&self, wrapping: &Wrapping, committed: u64) {
        *self.agreed() = Some(wrapping.learned(committed));
    }

    /// Somebody else changed what keys are wrapped in.
    pub(super) fn disagree(&self) {
        *self.agreed() = None;
    }

    fn agreed(&self) -> MutexGuard<'_, Option<u64>> {
        self.agreed.lock().expect("nothing panics under the lock of a number")
    }

    /// What is known of a subject, as of a moment ago.
    pub(super) async fn of(&self, subject: &str) -> Result<Known, ReadError> {
        if let Some(known) = self.remembered().fresh(subject) {
            return Ok(known);
        }
        let asked = Instant::now();
        let record = match self.engine.get(KEYS.to_owned(), subject.to_owned()).await {
            // Nothing was ever sealed here.
            Err(ReadError::Invalid(_)) => None,
            read => read?,
        };
        let Some(record) = record else {
            // It is not remembered: the subject may have its first value by the time that somebody wants to read it.
            return Ok(Known::new(Standing::New, None));
        };
        let known = Known::new(self.standing(subject, &record), record.revision);
        self.remembered().learn(subject, known.clone(), asked);
        Ok(known)
    }

    /// What a record says. One that cannot be read is as good as one that is locked: it stops nobody who reads the log.
    fn standing(&self, subject: &str, record: &Record) -> Standing {
        let Ok(row) = record.decode::<SubjectRow>() else { return self.locked(subject, "none: damaged") };
        let SubjectRow { forgotten: false, key: Some(key), master, .. } = row else {
            return Standing::Forgotten;
        };
        let bytes = match (&master, &self.master) {
            (None, _) => STANDARD.decode(key).ok().and_then(|key| key.try_into().ok()),
            (Some(name), Some(master)) if master.name() == name => master.unwrap(subject, &key),
            (Some(_), _) => None,
        };
        match bytes {
            Some(bytes) => Standing::Held(Arc::new(SecretKey::new(&bytes))),
            None => self.locked(subject, master.as_deref().unwrap_or("none: damaged")),
        }
    }

    #[cold]
    fn locked(&self, subject: &str, master: &str) -> Standing {
        if self.warning.is_time() {
            tracing::warn!(
                subject,
                master,
                "personal data stay sealed: their key is wrapped in a master key that is not here"
            );
        }
        Standing::Locked(master.into())
    }

    /// A new key, and its record.
    pub(super) fn make(&self, subject: &str) -> Result<(Arc<SecretKey>, SubjectRow), NoRandomness> {
        let bytes: [u8; 32] = random()?;
        let (key, master) = match &self.master {
            None => (STANDARD.encode(bytes), None),
            Some(master) => (master.wrap(subject, &bytes)?, Some(master.name().to_owned())),
        };
        let row = SubjectRow { forgotten: false, since: self.now(), key: Some(key), master };
        Ok((Arc::new(SecretKey::new(&bytes)), row))
    }

    pub(super) fn now(&self) -> Timestamp {
        self.engine.clock().now()
    }

    /// Remembers what a commit made true.
    pub(super) fn learn(&self, subject: &str, known: Known) {
        self.remembered().learn(subject, known, Instant::now());
    }

    /// Somebody else changed the subject's record.
    pub(super) fn doubt(&self, subject: &str) {
        let mut remembered = self.remembered();
        remembered.young.remove(subject);
        remembered.old.remove(subject);
    }

    fn remembered(&self) -> MutexGuard<'_, Remembered> {
        self.remembered.lock().expect("nothing panics under the lock of what is remembered")
    }
}

impl Remembered {
    fn fresh(&mut self, subject: &str) -> Option<Known> {
        let found = self.young.get(subject).cloned().or_else(|| {
            let found = self.old.remove(subject)?;
            self.insert(subject, found.clone());
            Some(found)
        });
        let (known, at) = found?;
        // What is forgotten stays so.
        let fresh = matches!(known.standing, Standing::Forgotten) || at.elapsed() < FRESH;
        fresh.then_some(known)
    }

    /// What was asked for before somebody learned something newer comes too late.
    fn learn(&mut self, subject: &str, known: Known, asked: Instant) {
        let newer = |(entry, at): &(Known, Instant)| {
            matches!(entry.standing, Standing::Forgotten) || (entry.revision, *at) > (known.revision, asked)
        };
        if !self.young.get(subject).or_else(|| self.old.get(subject)).is_some_and(newer) {
            self.insert(subject, (known, asked));
        }
    }

    fn insert(&mut self, subject: &str, entry: (Known, Instant)) {
        if self.young.len() >= REMEMBERED && !self.young.contains_key(subject) {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(subject.into(), entry);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_that_comes_late_replaces_nothing_newer() {
        let mut remembered = Remembered::default();
        let held = |revision: u64| Known::new(Standing::Held(Arc::new(SecretKey::new(&[1; 32]))), revision);
        let revision = |remembered: &mut Remembered| remembered.fresh("ada").and_then(|known| known.revision);
        let (before, now) = (Instant::now(), Instant::now());
        remembered.learn("ada", held(7), now);
        remembered.learn("ada", held(5), now);
        assert_eq!(revision(&mut remembered), Some(7));
        remembered.learn("ada", held(9), before);
        assert_eq!(revision(&mut remembered), Some(9), "whenever it was asked for");
        remembered.learn("ada", Known::new(Standing::Forgotten, 11), now);
        remembered.learn("ada", held(12), now);
        assert_eq!(revision(&mut remembered), Some(11), "what is forgotten stays so");
    }
}
