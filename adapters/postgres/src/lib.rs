//! The PostgreSQL engine of [`purlin::store`]: a schema a service, group commit under one lock, no gaps.
//!
//! Callers queue commits. One writer a process takes all that wait, checks them one against the other, gives them
//! *dense* positions, and sends them as arrays in one transaction under the log's lock. PostgreSQL shows a commit before
//! it lets go of its locks, so that whoever holds the lock next, and every reader, sees positions appear in order.
//! Several processes may write one schema.
//!
//! As long as a process writes alone, a group takes one round trip. It is decided by what the one before left behind (the
//! ends of the log and of the streams used lately; of others, that the commits are right about them), and a function
//! looks under the lock whether that is so before it writes. When anything is not, or others write too, one round trip
//! asks, with the lock in hand, and a second one writes. The function is made anew in each session, in its temporary
//! schema: it needs no upgrade, and a role that may not have temporary objects goes without.
//!
//! A second group is sent before the first is answered, so that server and client work at the same time. It relies on what
//! the first will have left: if that does not happen, it writes nothing.
//!
//! Streams are found by a hash of their names. With SQL it is `SELECT * FROM orders._stream('order-1')`.
//!
//! A connection that is lost in the middle of a COMMIT leaves nothing to guess: each transaction writes the number of
//! its group under a unique key, and who wants to know what became of it writes under the same key, on a new connection,
//! that it did not happen. One of the two comes first, and stays. (Unless nothing is heard of a process for a day while others
//! commit: then its rows are removed. What it had on its way and cannot find out, it answers nobody.) A pool in front of the
//! server that has lost it, and says so in words, is taken for a lost connection too.
//!
//! What is archived goes to a table of its own, `_archive`, which may lie in another tablespace
//! ([`Options::archive_tablespace`]); `_event` is a view of it and of the rest, for whoever reads. With several servers
//! (`postgres://user@one,two/database`) the store is where commits are taken: when that one dies and another one takes
//! over, it goes on there by itself, and what was on its way is settled as after any lost connection. Nothing that was
//! answered is lost if the servers replicate synchronously. Otherwise restart the processes once a server has taken over that
//! lacks commits: views and subscribers do not notice, and would pass over as many events as were lost.
//!
//! A server may keep a connection and answer nothing on it: it is stopped, or a pool before it is. A statement that takes long looks
//! the same there. So when nothing has come for [`Options::patience`], another connection is made to the same server (and again
//! after twice the time, 30 s at the most); if nothing comes on that one within the URL's `connect_timeout` (5 s), the first
//! is given up as if it was lost. A server that still takes connections while its disk hangs, and a pool that
//! leads new connections elsewhere and keeps the old ones, are not noticed that way: what is under way waits. Whoever closes
//! the store waits for nothing longer than the patience.
//!
//! Of several servers the next is tried beside one that is slow to answer, after a fifth of `connect_timeout`. All but one must
//! refuse to write.
//!
//! A schema that is put back from a dump (`pg_dump`, `pg_restore`), or a database that is copied, begins a new incarnation of its
//! log when it is opened: positions that were given out before are refused, and relays and groups that followed it from
//! elsewhere stop until `purlin store accept` lets them go on; views, sagas and subscriptions in the store go on. So does a
//! database that is moved by a dump or by logical replication; `purlin store move` keeps the log's identity. A restart, a standby that takes over, a base
//! backup and `pg_upgrade` to PostgreSQL 15 or later leave it as it is (an earlier one gives the database another number, as a
//! copy has). What is set back as it lies on the disk (recovery to a point in time, a
//! snapshot) is not noticed, nor are rows that are loaded into tables that stayed: say so with `purlin store
//! new-incarnation`, or [`mark_restored`]. Stop the processes before anything is put back: who has a store open goes on as the
//! log that was.
//!
//! What it needs: a database whose encoding is UTF8, and sessions of its own, three a store, one more while it
//! archives, and for a moment as many again while statements take long (a pool in front of the server must not hand one
//! session to several clients). `shared_buffers` should have room for the index of streams, some 30 bytes an event, and for the events of the streams in use: with ten million streams and the 128 MB
//! that PostgreSQL has when it is installed, 128 callers commit a quarter less.
//!
//! # Encryption
//!
//! The URL says it with the parameters of PostgreSQL's own programs: `sslmode`, `sslrootcert`, `sslcert`, `sslkey`.
//!
//! | `sslmode` | encrypted | the server's certificate |
//! |---|---|---|
//! | `disable` | no | |
//! | `prefer` | if that can be | not checked |
//! | `require` | yes | not checked, unless `sslrootcert` is said: then as `verify-ca` |
//! | `verify-ca` | yes | from an issuer in `sslrootcert`, of whichever host |
//! | `verify-full` | yes | that, and of the host in the URL (as a subject's alternative name) |
//!
//! Without it, connections to this machine are plain and all others are `prefer`: only `verify-full` keeps out who sits
//! on the way. `sslrootcert` is a file of PEM certificates, or `system` for what the operating system trusts, which is
//! also meant when a check is asked for and nothing is said; as anybody can have a certificate that a system trusts,
//! `verify-ca` is then as strict as `verify-full`. A server's own certificate, signed by itself, may stand in the file,
//! and is trusted as long as it does. `sslcert` and `sslkey` are the files of a client's certificate. All are read when a
//! store is opened. Behind a socket of the file system nothing is encrypted, whatever is said.
//!
//! ```no_run
//! # async fn run() -> Result<(), purlin_postgres::OpenError> {
//! let store = purlin_postgres::open("postgres://postgres@127.0.0.1:5432/shop", "orders").await?;
//! println!("the log is at {}", store.head());
//! store.close().await;
//! # Ok(())
//! # }
//! ```

mod address;
mod ahead;
mod archive;
mod codec;
mod collection;
mod engine;
mod error;
mod followers;
mod home;
mod inspect;
mod link;
mod names;
mod options;
mod pulse;
mod reader;
mod schema;
mod shared;
mod tag;
mod target;
mod thread;
mod tls;
mod upgrade;
mod url;
mod writer;

use purlin::store::Store;

pub use engine::Postgres;
pub use error::OpenError;
pub use home::mark_restored;
pub use inspect::{InspectedStore, Inspection, inspect};
pub use options::Options;

/// Opens the store of the service `name` in the database at `url`, or makes it there.
///
/// A schema that a newer version wrote is refused, and so is one that is something else.
pub async fn open(url: impl Into<String>, name: impl Into<String>) -> Result<Store, OpenError> {
    Postgres::open(Options::new(url, name)).await.map(Store::new)
}
