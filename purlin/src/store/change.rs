//! What a commit does to collections themselves.

use std::collections::HashSet;

use super::handle::check_name;
use super::{Collection, Commit, CommitError, personal};

/// A change of a store's collections, made by the commit that it is part of: with all else in it, or not at all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// Makes a collection, or gives it exactly these fields (indexing what is there).
    Define(Collection),
    /// Gives the records of a collection the name of another one; what that one had is gone. A collection that is not there
    /// cannot take a name.
    Swap {
        /// The name that the records have.
        from: String,
        /// The name that they get.
        to: String,
    },
    /// Removes a collection and its records; it need not be there.
    Drop(String),
}

impl Change {
    /// The names of the collections that are other ones behind it.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        let (one, other) = match self {
            Self::Define(collection) => (&*collection.name, None),
            Self::Swap { from, to } => (from.as_str(), Some(to.as_str())),
            Self::Drop(name) => (name.as_str(), None),
        };
        std::iter::once(one).chain(other)
    }

    fn check(&self) -> Result<(), CommitError> {
        self.names().try_for_each(check_name)?;
        match self {
            Self::Define(collection) => collection.fields.iter().try_for_each(|field| check_name(field.name)),
            Self::Swap { from, to } if from == to => {
                Err(CommitError::Invalid(format!("the collection `{from}` cannot take its own place")))
            }
            Self::Swap { .. } | Self::Drop(_) => self.names().try_for_each(personal::check_removal),
        }
    }
}

/// Refuses changes that cannot be made at one instant.
pub(super) fn check(commit: &Commit) -> Result<(), CommitError> {
    let mut changed = HashSet::new();
    // With personal data of its own it would write there what it changes.
    let keys =
        commit.changes.iter().flat_map(Change::names).find_map(|name| personal::check_removal(name).err());
    if let Some(refused) = keys
        && commit.changes.len() + commit.writes.len() + commit.appends.len() + commit.forgotten.len() > 1
    {
        return Err(refused);
    }
    for change in &commit.changes {
        change.check()?;
        if let Some(twice) = change.names().find(|name| !changed.insert(*name)) {
            let why = format!("the collection `{twice}` cannot be changed twice at one instant");
            return Err(CommitError::Invalid(why));
        }
    }
    let required = commit.requirements.iter().map(|requirement| &requirement.collection);
    let used = commit.writes.iter().map(|write| &write.collection).chain(required);
    match used.into_iter().find(|name| changed.contains(&***name)) {
        None => Ok(()),
        Some(name) => Err(CommitError::Invalid(format!(
            "a commit that changes the collection `{name}` cannot have to do with its records"
        ))),
    }
}
