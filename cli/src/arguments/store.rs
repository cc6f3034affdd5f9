//! `purlin store`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

pub(super) const EXAMPLES: &str = "\
A place is `sqlite:FILE.db` (`?archive=FILE` behind it if its archive was carried elsewhere) or `postgres://user@host/database?service=NAME`.

Examples:
  purlin store backup orders.backup --service orders      while the process runs
  purlin store restore orders.backup data/orders.db       begins a new incarnation of the log
  purlin store accept                                     who refuses a log that was restored
  purlin store accept --service orders --after 4711       what it means to go on behind that position
  purlin store accept --service orders --after 4711 --yes
  purlin store new-incarnation --store postgres://postgres@db/shop --service orders --yes
  purlin store abandon-master-key 5TnqVbq7 --service users  what is lost with that master key
  purlin store export --service orders --to orders.jsonl  the process is stopped
  purlin store import --into sqlite:new/orders.db --from orders.jsonl
  purlin store export --service orders --to - | gzip > orders.jsonl.gz
  purlin store move --from sqlite:data/orders.db --to 'postgres://postgres@db/shop?service=orders'";

/// What to do with a store.
#[derive(Debug, Subcommand)]
pub(crate) enum Store {
    /// Copy an embedded store to a file, as of one instant, while it is used.
    ///
    /// A store of which streams were archived has a copy of two files: FILE and FILE.archive, which belong together.
    Backup(Backup),
    /// Make a store of a backup, and check it.
    ///
    /// If BACKUP.archive belongs to the backup, FILE.archive is made of it.
    Restore(Restore),
    /// Let the relays and groups that refuse a restored log go on with it.
    ///
    /// A log that was restored begins a new incarnation: up to where the backup ends it says what it said before, and
    /// behind that it may say anything. So who followed it stops, until a person says from where to go on. Without --after
    /// those who refuse are listed, and without --yes it is told what would be done.
    ///
    /// What a relay has published up to the position, or a group handled, counts as done; what is behind it is published
    /// or handled, even if it was before. Nobody is set forward: who had not come so far goes on from where he was. If the
    /// position is before the end of the backup, some things happen again; if it is behind it, some of what the log says
    /// now may never be published or handled. Read models are restored with their store, and have nothing to accept.
    ///
    /// The relay of a service whose store was lost, and that has begun another log, is let go on with that in the same way:
    /// what the new log says behind the position is published.
    Accept(Accept),
    /// Say that a store in PostgreSQL was put back by means that it does not notice, so that its log begins a new incarnation.
    ///
    /// A schema that was restored from a dump, and a copy of a database, are noticed when the store is opened. What is set back
    /// as it lies on the disk is not: a server that was recovered to a point in time, the snapshot of a disk or of a machine.
    /// Whoever has followed the log since then would take other events for those that he knows, and its old positions for
    /// good ones; so say it before the first process is started. Nobody may have the store open: it is looked for six seconds, in
    /// which a process whose connection was lost makes it again. A file of SQLite that was copied back becomes a store of its own
    /// by `purlin store restore`.
    NewIncarnation(NewIncarnation),
    /// Give up the master key that personal keys are wrapped in, because it is lost for good.
    ///
    /// A store makes no new keys under another master key than its own, and a process that is started with another one may
    /// refuse to start. Once its own is given up, the store takes the next one that it is given. What is sealed under the
    /// lost one stays sealed for ever. Without --yes it is told what would be lost.
    AbandonMasterKey(Abandon),
    /// Write a store, which nobody uses meanwhile, as JSON Lines.
    Export(Export),
    /// Bring an export into a new store, with the same positions, ids and times.
    ///
    /// The new store goes on as the same log, so that whoever followed the old one follows it. One that was cut off
    /// goes on where it stopped when the same export is imported again; until then the store is refused.
    Import(Import),
    /// Move a store, which nobody uses meanwhile, to another engine, and compare both afterwards.
    ///
    /// The log keeps its identity and its positions. One that was cut off goes on when it is said again. The old store
    /// stays as it is: put it away, because both are the same log now.
    Move(Move),
}

/// Which store, and where to.
#[derive(Debug, Args)]
pub(crate) struct Backup {
    /// The file of the copy; it must not be there yet.
    #[arg(value_name = "FILE")]
    pub(crate) to: PathBuf,
    /// Which service's store; needed when there are several.
    #[arg(long, value_name = "NAME")]
    pub(crate) service: Option<String>,
}

/// Which store was put back.
#[derive(Debug, Args)]
pub(crate) struct NewIncarnation {
    /// Which service's store.
    #[arg(long, value_name = "NAME")]
    pub(crate) service: Option<String>,
    /// Do it.
    #[arg(long)]
    pub(crate) yes: bool,
}

/// Which master key, of which store.
#[derive(Debug, Args)]
pub(crate) struct Abandon {
    /// The name of the lost master key, as `purlin doctor` shows it.
    #[arg(value_name = "NAME", allow_hyphen_values = true)]
    pub(crate) master: String,
    /// Which service's store; needed when there are several.
    #[arg(long, value_name = "NAME")]
    pub(crate) service: Option<String>,
    /// Do it.
    #[arg(long)]
    pub(crate) yes: bool,
}

/// Which backup, and where to.
#[derive(Debug, Args)]
pub(crate) struct Restore {
    /// The backup; it is only read.
    #[arg(value_name = "BACKUP")]
    pub(crate) from: PathBuf,
    /// The file of the store, as `data/orders.db`; it must not be there yet.
    #[arg(value_name = "FILE")]
    pub(crate) to: PathBuf,
}

/// Who is to go on, and from where.
#[derive(Debug, Args)]
pub(crate) struct Accept {
    /// Only those who follow the log of this service.
    #[arg(long, value_name = "NAME")]
    pub(crate) service: Option<String>,
    /// Only the relay or group of this name.
    #[arg(long, value_name = "NAME")]
    pub(crate) follower: Option<String>,
    /// Behind which position of the log they go on; `store restore` and `store backup` say how many events a backup has,
    /// which is its last position.
    #[arg(long, value_name = "POSITION")]
    pub(crate) after: Option<u64>,
    /// Do it.
    #[arg(long, requires = "after")]
    pub(crate) yes: bool,
}

/// Which store, and where to.
#[derive(Debug, Args)]
pub(crate) struct Export {
    /// Which service's store; needed when there are several.
    #[arg(long, value_name = "NAME")]
    pub(crate) service: Option<String>,
    /// The file, which must not be there yet; `-` is the standard output.
    #[arg(long, value_name = "FILE")]
    pub(crate) to: PathBuf,
}

/// Which export, and where to.
#[derive(Debug, Args)]
pub(crate) struct Import {
    /// The place of the new store.
    #[arg(long, value_name = "PLACE")]
    pub(crate) into: String,
    /// The file; `-` is the standard input.
    #[arg(long, value_name = "FILE")]
    pub(crate) from: PathBuf,
}

/// From where to where.
#[derive(Debug, Args)]
pub(crate) struct Move {
    /// The place of the store.
    #[arg(long, value_name = "PLACE")]
    pub(crate) from: String,
    /// The place of the new store.
    #[arg(long, value_name = "PLACE")]
    pub(crate) to: String,
}
