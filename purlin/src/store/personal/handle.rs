//! What a store does about personal data.

use std::sync::Arc;

use crate::store::handle::Above;
use crate::store::{Commit, CommitError, Committed, Query, ReadError, Row, Store};

use super::engine::Personalized;
use super::keys::SubjectRow;
use super::scan;
use super::sealing::texts;
use super::{MasterKey, Subject};

impl Store {
    /// Forgets a subject: destroys its key, so that whatever was written about it reads as
    /// [forgotten](super::PersonalState::Forgotten), in the log, in snapshots and in every row, and nothing can be written about
    /// it any more ([`CommitError::Forgotten`]). It is done in one commit with what `commit` says, an event of its own
    /// for projections that must know, say. Forgetting once more changes nothing.
    pub async fn forget(&self, subject: &Subject, commit: Commit) -> Result<Committed, CommitError> {
        self.commit(commit.forget(subject)).await
    }

    /// The subjects that are forgotten, in the order of their names, and behind which the next page begins. Who has
    /// restored a backup forgets again those that were forgotten since it was made.
    pub async fn forgotten(
        &self,
        after: Option<String>,
    ) -> Result<(Vec<Subject>, Option<String>), ReadError> {
        let query = Query::all().and("forgotten", true).after(after).limit(1000);
        let page = match self.list::<SubjectRow>(query).await {
            // Nothing was ever sealed here.
            Err(ReadError::Invalid(_)) => return Ok((Vec::new(), None)),
            page => page?,
        };
        let subjects = page.records.iter().map(|record| {
            Subject::new(&record.key).map_err(|error| ReadError::Unreadable {
                what: format!("the record `{}` of `{}`", record.key, SubjectRow::COLLECTION),
                source: error.into(),
            })
        });
        Ok((subjects.collect::<Result<_, _>>()?, page.next))
    }

    /// The same store, which neither seals nor opens: it gives and takes personal data as they are at rest. For copies
    /// that must not be readable elsewhere: the relay's to the bus, an export, another engine's store. It takes no
    /// values that only are to be sealed; and of a store whose commits write the rows of a view it can be read alone.
    pub fn sealed(&self) -> Self {
        let limits = if self.is_sealed() { self.limits } else { self.limits.at_rest() };
        let mut sealed = self.over(Arc::clone(&self.bare), self.above.without());
        sealed.limits = limits;
        sealed
    }

    /// The same store, whose subjects' keys are wrapped in a master key from now on. Keys that were made without one
    /// stay as they are. The store remembers it with the next key that it makes, and from then on makes none under another
    /// one, or none: [`Store::check_master_key`] tells a program before it begins. To be said before a tenant's part is
    /// taken of it, and before a view writes its rows with the commits: such a handle refuses to commit.
    pub fn with_master_key(self, master: MasterKey) -> Self {
        let engine = Personalized::new(Arc::clone(&self.bare), Some(master));
        self.over(Arc::new(engine), self.above.without())
    }

    /// Whether this handle neither seals nor opens.
    pub(in crate::store) fn is_sealed(&self) -> bool {
        Arc::ptr_eq(&self.engine, &self.bare)
    }

    /// Refuses what this handle cannot do.
    pub(in crate::store) fn check_personal(&self, commit: &Commit) -> Result<(), CommitError> {
        let invalid = |what: &str| Err(CommitError::Invalid(what.to_owned()));
        if self.above == Above::PassedBy {
            return invalid(
                "this handle passes by the views whose rows are written with the commits of the store that it was made \
                 of: commit through that one, and give a master key before a view is made inline",
            );
        }
        if !self.is_sealed() {
            return Ok(());
        }
        if !commit.forgotten.is_empty() {
            return invalid("a store that only copies what is sealed forgets nobody");
        }
        if texts(commit).any(|(_, text)| scan::has_any(text)) {
            return invalid(
                "a store that only copies what is sealed seals no personal value: commit to the store itself",
            );
        }
        Ok(())
    }
}

impl Commit {
    /// Forgets a subject with this commit, as [`Store::forget`] does.
    pub fn forget(mut self, subject: &Subject) -> Self {
        self.forgotten.push(subject.clone());
        self
    }
}
