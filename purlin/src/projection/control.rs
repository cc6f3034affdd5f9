//! What an operator wants of a view, and what it says of itself: one record, which every commit of the view requires.

use serde::{Deserialize, Serialize};

use crate::store::{Commit, Position, ReadError, Revision, Row, Store};

use super::Misfit;
use super::checkpoint::Checkpoint;

/// A view as it was last run, and as it is wanted.
///
/// Who writes rows of the view requires the record at the revision that he has seen. Whoever replaces it has therefore
/// stopped all of them when his commit returns.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Control {
    /// The version of the program that ran it last.
    pub(super) version: u32,
    pub(super) categories: Vec<String>,
    pub(super) collections: Vec<String>,
    pub(super) paused: bool,
    /// The rows are to be built anew although the version is the same.
    pub(super) rebuild: bool,
    pub(super) inline: Inline,
    /// The event that it stands before.
    pub(super) stopped: Option<Misfit>,
    /// The number of the last room that was given to a build: none is given twice, and the collections of a build are named
    /// after it, so that one who has been away for long cannot meet those of another under the same name.
    pub(super) rooms: u32,
    /// Raised to make a running view look at its records again.
    pub(super) wishes: u64,
}

/// Who folds the events of a view.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Inline {
    /// The view, behind the commits.
    #[default]
    Off,
    /// The view; who commits events waits, because it is about to be him.
    Closing,
    /// The commits themselves. The checkpoint's record is then written by each of them, and the position that the
    /// store notes with it is how far the rows are.
    On,
}

impl Row for Control {
    const COLLECTION: &'static str = "purlin_views";
}

/// A control record as it was read.
#[derive(Debug, Clone)]
pub(super) struct Seen {
    name: String,
    pub(super) row: Control,
    pub(super) revision: Revision,
}

impl Seen {
    pub(super) async fn read(store: &Store, name: &str) -> Result<Self, ReadError> {
        let record = store.get_record(Control::COLLECTION, name).await?;
        let (row, revision) = match record {
            Some(record) => (record.decode()?, Revision::Exact(record.revision)),
            None => (Control::default(), Revision::Absent),
        };
        Ok(Self { name: name.to_owned(), row, revision })
    }

    /// Lets the commit happen only if nobody has changed the record since.
    pub(super) fn require(&self, commit: Commit) -> Commit {
        commit.require::<Control>(self.name.as_str(), self.revision)
    }

    /// Puts a record in place of the one that was read.
    pub(super) fn replace(&self, commit: Commit, row: &Control) -> Commit {
        commit.put_expecting(self.name.as_str(), row, self.revision, None)
    }

    /// After [`Seen::replace`] was applied.
    pub(super) fn replaced(&mut self, row: Control, revision: u64) {
        (self.row, self.revision) = (row, Revision::Exact(revision));
    }

    /// Whether somebody has changed the record since.
    pub(super) async fn changed(&self, store: &Store) -> Result<bool, ReadError> {
        let record = store.get_record(Control::COLLECTION, &self.name).await?;
        Ok(!self.revision.admits(record.map(|record| record.revision)))
    }

    /// The commit by which an inline view follows the log again, from where the last commit has brought its rows.
    pub(super) async fn demote(&self, store: &Store, row: Control) -> Result<Commit, ReadError> {
        let row = Control { inline: Inline::Off, ..row };
        let commit = self.replace(Commit::new(), &row);
        if self.row.inline != Inline::On {
            return Ok(commit);
        }
        let Some(record) = store.get_record(Checkpoint::COLLECTION, &self.name).await? else {
            return Ok(commit);
        };
        let checkpoint = Checkpoint { position: record.position, ..record.decode()? };
        let expected = Revision::Exact(record.revision);
        Ok(commit.put_expecting(self.name.as_str(), &checkpoint, expected, None))
    }

    /// How far the live rows are.
    pub(super) async fn position(&self, store: &Store) -> Result<Option<Position>, ReadError> {
        let Some(record) = store.get_record(Checkpoint::COLLECTION, &self.name).await? else {
            return Ok(None);
        };
        let position = match self.row.inline {
            Inline::On => record.position,
            Inline::Off | Inline::Closing => record.decode::<Checkpoint>()?.position,
        };
        Ok(Some(position))
    }
}
