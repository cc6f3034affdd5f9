//! A commit on its way into the store: every personal value sealed, every key that it stands on fenced.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;

use crate::store::field::members;
use crate::store::{Commit, CommitError, Committed, Conflict, Limits, Write, WriteKind};

use super::Subject;
use super::cipher::{Place, SecretKey};
use super::engine::Personalized;
use super::keys::{KEYS, Known, Standing, SubjectRow};
use super::marker::{self, Body};
use super::scan::{self, Refused};
use super::wrapping::{RECORD, WRAPPING, Wrapping};

/// How often a commit is sealed anew because a subject's record changed: it is made, and it is forgotten, and that is
/// all that can become of it.
const ATTEMPTS: usize = 8;

/// Whether a commit has to do with personal data.
pub(super) fn concerns(commit: &Commit) -> bool {
    !commit.forgotten.is_empty() || texts(commit).any(|(_, text)| marker::may_be_in(text))
}

/// The texts of a commit, with where they are to stand.
pub(super) fn texts(commit: &Commit) -> impl Iterator<Item = (Place<'_>, &Bytes)> {
    let events = commit
        .appends
        .iter()
        .flat_map(|append| append.events.iter().map(|event| (Place::Stream(&append.stream), &event.data)));
    let records = commit.writes.iter().filter_map(|write| match &write.kind {
        WriteKind::Put { value, .. } => Some((Place::Record(write.key.as_str()), value)),
        WriteKind::Delete => None,
    });
    events.chain(records)
}

/// What a commit needs to know of the subjects that it writes about or forgets.
#[derive(Default)]
struct Subjects {
    known: BTreeMap<String, Known>,
    /// Those that get a key with this commit.
    made: BTreeMap<String, (Arc<SecretKey>, SubjectRow)>,
    /// What these stand on.
    wrapping: Option<Wrapping>,
    /// Those that are forgotten by this commit.
    forgotten: BTreeSet<String>,
}

impl Personalized {
    /// Applies a commit with everything in it sealed; again, when a subject's record was changed meanwhile.
    pub(super) async fn commit_sealed(&self, commit: Commit) -> Result<Committed, CommitError> {
        check_fields(&commit)?;
        let mut attempt = 1;
        loop {
            let subjects = self.subjects_of(&commit).await?;
            let sealed = subjects.fence(subjects.seal(commit.clone())?, self.keys.now());
            match self.engine.commit(sealed).await {
                Ok(committed) => {
                    if let Some(wrapping) = &subjects.wrapping {
                        self.keys.agree(wrapping, committed.revision);
                    }
                    subjects.learned(&committed, |subject, known| self.keys.learn(subject, known));
                    return Ok(committed);
                }
                Err(CommitError::Conflict(conflict)) if attempt < ATTEMPTS => {
                    if !subjects.are_changed(&conflict) {
                        return Err(CommitError::Conflict(conflict));
                    }
                    // A conflict names one of them, and others may have changed with it.
                    subjects.known.keys().for_each(|subject| self.keys.doubt(subject));
                    self.keys.disagree();
                    attempt += 1;
                }
                Err(error) => return Err(error),
            }
        }
    }

    async fn subjects_of(&self, commit: &Commit) -> Result<Subjects, CommitError> {
        let mut subjects = Subjects::default();
        subjects.forgotten.extend(commit.forgotten.iter().map(ToString::to_string));
        let mut names = subjects.forgotten.clone();
        let mut moved = BTreeSet::new();
        for (place, text) in texts(commit).filter(|(_, text)| marker::may_be_in(text)) {
            let place = place.name();
            scan::each_in_memory(text, |body| {
                if body.plain.is_some() {
                    names.insert(body.of.into_owned());
                } else if body.sealed.is_some() && body.at.as_deref() != Some(&*place) {
                    moved.insert(body.of.into_owned());
                }
            });
        }
        if !names.is_empty() {
            self.keys.define().await?;
        }
        for name in names {
            let known = self.keys.of(&name).await.map_err(|error| CommitError::Unavailable(error.into()))?;
            match &known.standing {
                Standing::New if !subjects.forgotten.contains(&name) => {
                    if subjects.wrapping.is_none() {
                        subjects.wrapping = Some(self.keys.wrapping().await?);
                    }
                    subjects.made.insert(name.clone(), self.keys.make(&name)?);
                }
                Standing::Locked(master) if !subjects.forgotten.contains(&name) => {
                    // With the right master key it may be had.
                    self.keys.wrapping().await?;
                    return Err(CommitError::Invalid(format!(
                        "the key of the subject `{name}` is wrapped in the master key {master}, which this store has \
                         not been given"
                    )));
                }
                _ => {}
            }
            subjects.known.insert(name, known);
        }
        moved.retain(|name| !subjects.known.contains_key(name));
        for name in moved {
            let known = self.keys.of(&name).await.map_err(|error| CommitError::Unavailable(error.into()))?;
            subjects.known.insert(name, known);
        }
        Ok(subjects)
    }
}

impl Subjects {
    /// The commit with every personal value sealed.
    fn seal(&self, mut commit: Commit) -> Result<Commit, CommitError> {
        let limits = Limits::default();
        for append in &mut commit.appends {
            for event in append.events.iter_mut().filter(|event| marker::may_be_in(&event.data)) {
                let whose = || format!("an event `{}` for `{}`", event.kind, append.stream);
                event.data = self.seal_text(Place::Stream(&append.stream), &event.data, whose)?;
                if event.public {
                    limits.check_public(event.data.len(), whose)?;
                }
            }
        }
        for write in &mut commit.writes {
            let WriteKind::Put { value, .. } = &mut write.kind else { continue };
            if marker::may_be_in(value) {
                let whose = || format!("the record `{}` of `{}`", write.key, write.collection);
                *value = self.seal_text(Place::Record(&write.key), value, whose)?;
            }
        }
        Ok(commit)
    }

    fn seal_text(
        &self,
        place: Place<'_>,
        text: &[u8],
        whose: impl Fn() -> String,
    ) -> Result<Bytes, CommitError> {
        let sealed = scan::to_rest(text, |body| self.seal_value(place, body, &whose));
        sealed.map(Bytes::from).map_err(|refused| match refused {
            Refused::Value(error) => error,
            Refused::NotAlone => CommitError::Invalid(format!(
                "{} has a personal value that shares its object with other members: it cannot be flattened",
                whose()
            )),
        })
    }

    fn seal_value(
        &self,
        place: Place<'_>,
        body: Body<'_>,
        whose: impl Fn() -> String,
    ) -> Result<Body<'static>, CommitError> {
        let subject = body.of.into_owned();
        let of = |subject: String| Body { of: subject.into(), ..Body::default() };
        let Some(plain) = body.plain else {
            let Some(sealed) = body.sealed else { return Ok(Body { forgotten: true, ..of(subject) }) };
            let sealed = match body.at.as_deref() {
                Some(at) if at == place.name() => sealed.into_owned(),
                at => match self.seal_again(&subject, at, place, &sealed, whose)? {
                    Some(sealed) => sealed,
                    None => return Ok(Body { forgotten: true, ..of(subject) }),
                },
            };
            return Ok(Body { sealed: Some(sealed.into()), ..of(subject) });
        };
        if scan::has_any(plain.as_bytes()) {
            let what = "has a personal value within a personal value";
            return Err(CommitError::Invalid(format!(
                "{} {what}: only one of them can be personal",
                whose()
            )));
        }
        match self.key(&subject) {
            Some(key) => {
                let sealed = key.seal(&subject, place, &plain)?;
                Ok(Body { sealed: Some(sealed.into()), ..of(subject) })
            }
            // It was read before its subject was forgotten.
            None if body.stored => Ok(Body { forgotten: true, ..of(subject) }),
            None => Err(CommitError::Forgotten(
                Subject::new(&subject).map_err(|error| CommitError::Invalid(error.to_string()))?,
            )),
        }
    }

    /// A value that could not be opened when it was read, for another place than that: there it could never be opened.
    /// None when its subject is forgotten.
    fn seal_again(
        &self,
        subject: &str,
        at: Option<&str>,
        place: Place<'_>,
        sealed: &str,
        whose: impl Fn() -> String,
    ) -> Result<Option<String>, CommitError> {
        let standing = self.known.get(subject).map(|known| &known.standing);
        if self.forgotten.contains(subject) || matches!(standing, Some(Standing::Forgotten)) {
            return Ok(None);
        }
        let opened =
            self.key(subject).zip(at).and_then(|(key, at)| Some((key, key.open_of(subject, at, sealed)?)));
        if let Some((key, plain)) = opened {
            return Ok(Some(key.seal(subject, place, &plain)?));
        }
        let why = match standing {
            Some(Standing::Locked(master)) => {
                format!("its key is wrapped in the master key {master}, which this store has not been given")
            }
            _ => "another store sealed it".to_owned(),
        };
        Err(CommitError::Invalid(format!(
            "{} has a personal value about `{subject}` that could not be opened ({why}): sealed, it can be read only \
             where it was written, and nobody could read it here; leave it out",
            whose()
        )))
    }

    /// The key of a subject that is not forgotten, nor will be by this commit.
    fn key(&self, subject: &str) -> Option<&SecretKey> {
        if self.forgotten.contains(subject) {
            return None;
        }
        match &self.known.get(subject)?.standing {
            Standing::Held(key) => Some(key),
            Standing::New => self.made.get(subject).map(|(key, _)| &**key),
            Standing::Locked(_) | Standing::Forgotten => None,
        }
    }

    /// The commit with the keys that it makes, destroys, and stands on.
    fn fence(&self, mut commit: Commit, now: crate::message::Timestamp) -> Commit {
        commit.forgotten.clear();
        if let Some(wrapping) = &self.wrapping {
            commit = wrapping.fence(commit);
        }
        for (subject, known) in &self.known {
            let expected = known.expected();
            let already = matches!(known.standing, Standing::Forgotten);
            commit = if self.forgotten.contains(subject) && !already {
                commit.put_expecting(subject, &SubjectRow::tombstone(now), expected, None)
            } else if let Some((_, row)) = self.made.get(subject) {
                commit.put_expecting(subject, row, expected, None)
            } else {
                commit.require::<SubjectRow>(subject, expected)
            };
        }
        commit
    }

    /// Whether the record of one of them, or of what they are wrapped in, was not as expected.
    fn are_changed(&self, conflict: &Conflict) -> bool {
        if self.wrapping.is_some() && conflict.is_record(WRAPPING, RECORD) {
            return true;
        }
        matches!(
            conflict,
            Conflict::Record { collection, key, .. } if collection == KEYS && self.known.contains_key(key)
        )
    }

    /// Tells what is true now that the commit has happened.
    fn learned(self, committed: &Committed, learn: impl Fn(&str, Known)) {
        let already = |subject: &String| {
            self.known.get(subject).is_some_and(|known| matches!(known.standing, Standing::Forgotten))
        };
        for subject in self.forgotten.iter().filter(|subject| !already(subject)) {
            learn(subject, Known::new(Standing::Forgotten, committed.revision));
        }
        for (subject, (key, _)) in self.made {
            learn(&subject, Known::new(Standing::Held(key), committed.revision));
        }
    }
}

/// What an index holds is readable: no field of it can be personal.
fn check_fields(commit: &Commit) -> Result<(), CommitError> {
    for Write { collection, kind, key, .. } in &commit.writes {
        let WriteKind::Put { value, of, .. } = kind else { continue };
        if of.is_empty() || !marker::may_be_in(value) {
            continue;
        }
        for (field, member) in of.iter().zip(members(of, value)) {
            if member.is_some_and(|member| scan::has_any(member.get().as_bytes())) {
                return Err(CommitError::Invalid(format!(
                    "the field `{}` of the collection `{collection}` is indexed, and cannot be personal as in the \
                     record `{key}`: index a keyed hash of it instead",
                    field.name
                )));
            }
        }
    }
    Ok(())
}
