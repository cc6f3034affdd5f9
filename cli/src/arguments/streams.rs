//! `purlin streams`.

use clap::{Args, Subcommand};

pub(super) const EXAMPLES: &str = "\
Examples:
  purlin streams list --category order           the streams of a kind, in the order in which they began
  purlin streams show order-4711                 its events
  purlin streams show order-4711 --back --limit 3
  purlin streams tail --service orders           what comes, until ctrl-c
  purlin streams tail --service orders --kind order.paid --from 0 --json
  purlin streams stats                           events, bytes, kinds, and how many come a second";

/// What to look at.
#[derive(Debug, Subcommand)]
pub(crate) enum Streams {
    /// List the streams in the order in which they began.
    List(List),
    /// Show the events of one.
    Show(Show),
    /// Follow the log.
    Tail(Tail),
    /// Count what is in the log; all of it is read.
    Stats(Stats),
}

/// Which streams.
#[derive(Debug, Args)]
pub(crate) struct List {
    #[command(flatten)]
    pub(crate) page: super::Paging,
    /// Only those of this category: what stands before the first dash of a stream's name.
    #[arg(long, value_name = "NAME")]
    pub(crate) category: Option<String>,
    /// Only those of this tenant.
    #[arg(long, value_name = "NAME")]
    pub(crate) tenant: Option<String>,
    /// Only those that began behind this position of the log.
    #[arg(long, value_name = "POSITION")]
    pub(crate) after: Option<u64>,
}

/// Which events of a stream.
#[derive(Debug, Args)]
pub(crate) struct Show {
    /// Its name: `category-key`.
    pub(crate) stream: String,
    /// The service it belongs to; needed only when several have one of this name.
    #[arg(long, value_name = "NAME")]
    pub(crate) service: Option<String>,
    /// From this version on.
    #[arg(long, value_name = "VERSION", default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) from: u64,
    /// The newest first.
    #[arg(long)]
    pub(crate) back: bool,
    /// How many at most.
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub(crate) limit: u32,
}

/// What of the log.
#[derive(Debug, Args)]
pub(crate) struct Tail {
    /// The service whose log it is; needed when there are several.
    #[arg(long, value_name = "NAME")]
    pub(crate) service: Option<String>,
    /// Only events of streams of this category.
    #[arg(long, value_name = "NAME")]
    pub(crate) category: Option<String>,
    /// Only events of this kind.
    #[arg(long, value_name = "KIND")]
    pub(crate) kind: Option<String>,
    /// Only events that have this tag.
    #[arg(long, value_name = "TAG")]
    pub(crate) tag: Option<String>,
    /// Begin behind this position of the log (0: with its first event).
    #[arg(long, value_name = "POSITION", conflicts_with = "now")]
    pub(crate) from: Option<u64>,
    /// Begin with what comes from now on; so it does unless `--from` is said.
    #[arg(long)]
    pub(crate) now: bool,
    /// End after so many events.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) limit: Option<u64>,
}

/// Whose numbers.
#[derive(Debug, Args)]
pub(crate) struct Stats {
    /// Only those of this service.
    #[arg(long, value_name = "NAME")]
    pub(crate) service: Option<String>,
}
