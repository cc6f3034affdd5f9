//! `purlin projections`.

use clap::{Args, Subcommand};

use super::{One, Paging};

pub(super) const EXAMPLES: &str = "\
Examples:
  purlin projections list                        how far each is, and how far behind
  purlin projections rebuild orders_view --wait  beside the live rows, which are read meanwhile
  purlin projections pause orders_view           it stands still until it is resumed
  purlin projections parked orders_view          the events that it could not fold, and why
  purlin projections retry orders_view 4711      fold the parked event at 4711 again, and those behind it
  purlin projections drop orders_view 4711       leave it out, and go on with those behind it";

/// What to do with projections.
#[derive(Debug, Subcommand)]
pub(crate) enum Projections {
    /// List them.
    List {
        #[command(flatten)]
        page: Paging,
    },
    /// Show one.
    Show(View),
    /// Have the rows of one built anew beside its live ones, and take their place; at its next start, when the process
    /// is stopped.
    Rebuild(Rebuild),
    /// Call off a rebuild that was asked for.
    Cancel(View),
    /// Have one stand still until it is resumed, in later lives of the process too.
    Pause(View),
    /// Let a paused one go on.
    Resume(View),
    /// List the events that one could not fold, and those of the same key that wait behind them.
    Parked(Parked),
    /// Have the parked events of one's key folded again, in order.
    Retry(ParkedEvent),
    /// Leave a parked event out of the rows for good.
    Drop(ParkedEvent),
}

/// Which one.
#[derive(Debug, Args)]
pub(crate) struct View {
    /// Its name, as the list gives it.
    pub(crate) name: String,
    /// The service it belongs to; needed only when several have one of this name.
    #[arg(long, value_name = "NAME")]
    pub(crate) service: Option<String>,
}

/// Which one, and whether to wait for it.
#[derive(Debug, Args)]
pub(crate) struct Rebuild {
    #[command(flatten)]
    pub(crate) view: View,
    /// Wait until it is built; so it does on a terminal, where it shows how far it is, unless with --json.
    #[arg(long)]
    pub(crate) wait: bool,
    /// Do not wait, on a terminal either.
    #[arg(long, conflicts_with = "wait")]
    pub(crate) no_wait: bool,
}

/// Whose parked events.
#[derive(Debug, Args)]
pub(crate) struct Parked {
    #[command(flatten)]
    pub(crate) view: View,
    /// How many at most.
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub(crate) limit: u32,
}

/// Which parked event.
#[derive(Debug, Args)]
pub(crate) struct ParkedEvent {
    #[command(flatten)]
    pub(crate) view: View,
    /// Its position in the log, as the list of those that are parked gives it.
    pub(crate) position: u64,
}

impl View {
    /// The same as any other thing with an id.
    pub(crate) fn one(&self) -> One {
        One { id: self.name.clone(), service: self.service.clone() }
    }
}
