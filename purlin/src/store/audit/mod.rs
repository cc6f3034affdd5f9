//! Whether a log is whole: a check that anybody can run on his own database.
//!
//! [`Audit::run`] reads the whole log once, while others may write, and holds each event against what a store promises:
//! positions dense from 1, versions dense in each stream, times that never go back, ids that are there once, kinds and
//! ids that are well-formed. Of some streams it also reads what [`Store::read_stream`](super::Store::read_stream) gives,
//! and compares. [`Audit::follow`] tails the log while others write, reads again what is behind its cursor, and tells
//! whether anything came, changed or went there. `purlin doctor --log` does the first, `purlin streams audit` the second.
//!
//! ```
//! # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
//! use purlin::message::Envelope;
//! use purlin::store::audit::Audit;
//! use purlin::store::{Commit, Expected, Store, StreamId};
//!
//! let store = Store::memory();
//! let order = StreamId::new("order", 1).unwrap();
//! let created = Commit::new().append(order, Expected::Any, [Envelope::raw("order.created", "{}")]);
//! store.commit(created).await.unwrap();
//! let report = Audit::default().run(&store, |progress| println!("{progress}")).await.unwrap();
//! assert!(report.is_clean(), "{report}");
//! assert_eq!((report.events, report.streams), (1, 1));
//! # });
//! ```

mod behind;
mod damage;
mod follow;
mod ids;
mod pages;
mod report;
mod run;
mod sample;
mod scan;
mod versions;

pub use damage::{Damage, Finding};
pub use follow::Followed;
pub use report::{Progress, Report};

/// How a log is audited. The defaults need about 300 MB for a log of any length.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Audit {
    /// How many events are read at once.
    pub page: usize,
    /// How many streams are followed at once, at up to 60 bytes each. A log with more is read more than once: each time
    /// another part of its streams is followed.
    pub streams: usize,
    /// Among how many events, one behind the other, no two may have the same id; at up to 100 bytes each.
    pub ids: usize,
    /// How many streams, drawn at random, are also read by themselves. Of each at most the first
    /// [`Audit::SAMPLED`] events are compared, at 16 bytes each.
    pub samples: usize,
    /// How many findings are told; any more are only counted.
    pub findings: usize,
    /// How many events behind its cursor a follower knows one by one, at 8 bytes each, and reads again and again.
    pub behind: usize,
}

impl Audit {
    /// How many events of a sampled stream are compared.
    pub const SAMPLED: usize = 10_000;
}

impl Default for Audit {
    fn default() -> Self {
        Self { page: 1000, streams: 4_000_000, ids: 100_000, samples: 100, findings: 100, behind: 20_000 }
    }
}
