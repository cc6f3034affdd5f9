//! Personal data: sealed under a key of whom they are about, and gone when the key is.
//!
//! A field that is [`Personal`] belongs to a [`Subject`]. The store keeps one random key for each subject, made in the
//! same commit as its first value; it seals such fields wherever it writes them (events, snapshots, rows) and opens them
//! wherever it reads them. [`Store::forget`](super::Store::forget) destroys the key: whatever there is of the subject, in
//! an old event, a copy on the bus, a view that is built anew, reads as forgotten from then on, and nothing has to be
//! rewritten for it. Data without such fields pay for one search of their bytes.
//!
//! ```
//! # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
//! use purlin::message::{Envelope, Event};
//! use purlin::store::personal::{Personal, Subject};
//! use purlin::store::{Commit, Expected, Store, StreamId};
//! use serde::{Deserialize, Serialize};
//!
//! #[derive(Serialize, Deserialize)]
//! #[serde(rename_all = "kebab-case")]
//! enum UserEvent { Registered { name: Personal<String> }, Forgotten }
//! impl Event for UserEvent {}
//!
//! let (store, ada) = (Store::memory(), Subject::new("user-1").unwrap());
//! let stream = StreamId::new("user", 1).unwrap();
//! let event = |event| [Envelope::new("user", &event).unwrap()];
//! let registered = UserEvent::Registered { name: Personal::new(&ada, "Ada".into()) };
//! let name = async || {
//!     let event = store.read_stream(&stream, 1, 1).await.unwrap().remove(0).envelope;
//!     let UserEvent::Registered { name } = event.decode().unwrap() else { panic!() };
//!     name.into_value()
//! };
//! store.commit(Commit::new().append(stream.clone(), Expected::NoStream, event(registered))).await.unwrap();
//! assert_eq!(name().await.as_deref(), Some("Ada"));
//! let gone = Commit::new().append(stream.clone(), Expected::Version(1), event(UserEvent::Forgotten));
//! store.forget(&ada, gone).await.unwrap();
//! assert_eq!(name().await, None);
//! # });
//! ```
//!
//! Limits. Only what is in a value can be personal: no field of an index (index a keyed hash), no name of a stream, no
//! key of a record, no tag. A personal value cannot be within another, nor
//! be flattened into its object. What is derived from a value (a search index) has to be removed by who derived it:
//! the commit that forgets can say so with an event. Sealed, a value is about a third longer.
//!
//! **Backups.** The keys lie in the same store, so that a key and what it seals are one commit. A backup that was made
//! before somebody was forgotten still has his key: keep backups no longer than a person may be remembered, and after
//! restoring one forget again whom [`Store::forgotten`](super::Store::forgotten) lists elsewhere. With a
//! [`MasterKey`] the keys are wrapped, and a store or a backup is worth nothing without it. A store remembers under which
//! one it makes its keys, and makes none under another one or none ([`WrongMasterKey`]); one without may get one later.
//! SQLite overwrites a key that is destroyed, in the file and in its log; PostgreSQL keeps the dead row until it is
//! vacuumed, and its archived log for as long as that is kept.

mod cipher;
mod engine;
mod handle;
mod keys;
mod marker;
mod opening;
mod scan;
mod sealing;
mod subject;
mod tenants;
mod value;
mod wrapping;

pub use cipher::{MasterKey, MasterKeyError};
pub use keys::KEYS;
pub use subject::{Subject, SubjectError};
pub use value::{Personal, PersonalState};
pub use wrapping::{PersonalKeys, WrongMasterKey};

pub(super) use engine::Personalized;
pub(super) use keys::check_removal;
pub(crate) use scan::has_any;
pub(super) use tenants::{may_be_in, rename_events, rename_in_commit, rename_records};
