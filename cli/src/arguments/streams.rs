//! `purlin streams`.

use clap::{Args, Subcommand};

pub(super) const EXAMPLES: &str = "\
Examples:
  purlin streams list --category order           the streams of a kind, in the order in which they began
  purlin streams show order-4711                 its events
  purlin streams show order-4711 --back --limit 3
  purlin streams tail --service orders           what comes, until ctrl-c
  purlin streams tail --service orders --kind order.paid --from 0 --json
  purlin streams stats                           events, bytes, kinds, and how many come a second
  purlin streams audit --service orders          is there a gap, is anything out of order
  purlin streams audit --service orders --follow while others write, until ctrl-c
  purlin streams archive --service orders --category order --idle-for 90d --ended-by order.shipped --dry-run
  purlin streams archive --service orders --category order --idle-for 90d --ended-by order.shipped";

const AUDITED: &str = "\
Exit status: 0 all was read and nothing is wrong; 1 something is, the log cannot be read, or it was ended at once.";

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
    /// Check that the log has no gap and nothing out of order, while others write.
    ///
    /// Positions must be without a gap, versions without one in each stream, times in order, ids there once; and nothing may
    /// come, change or go behind what was read, which is read again now and then, and all of it at the end. What is wrong
    /// is told when it is seen. It ends where the log ended when it was begun; with --follow or --seconds it goes on with
    /// what comes. With these a first ctrl-c (or SIGTERM) ends it in order, and a second one at once, as the first does without
    /// them; all with a summary. What was ended at once was not all read, so that its status is never 0.
    ///
    /// A store in SQLite is read from its file, beside the process that has it open, or without one; none is kept from it.
    /// Whether a stream reads the same by itself, `purlin doctor --log` tells.
    #[command(after_help = AUDITED)]
    Audit(Audit),
    /// Move what is seldom read out of the way; every read finds it as before.
    ///
    /// Of each stream that is chosen, all events but the last one move to the store's archive; with SQLite that is a file of
    /// its own, `orders.db.archive` beside `orders.db`. The store may be in use meanwhile. What
    /// was stopped, by ctrl-c or by a crash, goes on when it is asked for again. A store whose archive is away goes on too,
    /// and refuses reads of what is in it.
    Archive(Archive),
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

/// Which log, from where, and for how long.
#[derive(Debug, Args)]
pub(crate) struct Audit {
    /// The service whose log it is; needed when there are several.
    #[arg(long, value_name = "NAME")]
    pub(crate) service: Option<String>,
    /// Begin behind this position of the log.
    #[arg(long, value_name = "POSITION", default_value_t = 0, conflicts_with = "now")]
    pub(crate) from: u64,
    /// Begin with what comes from now on.
    #[arg(long)]
    pub(crate) now: bool,
    /// Go on with what comes, until ctrl-c.
    #[arg(long)]
    pub(crate) follow: bool,
    /// Go on with what comes for so many seconds.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) seconds: Option<u64>,
}

/// Whose numbers.
#[derive(Debug, Args)]
pub(crate) struct Stats {
    /// Only those of this service.
    #[arg(long, value_name = "NAME")]
    pub(crate) service: Option<String>,
}

/// Which streams are archived.
#[derive(Debug, Args)]
pub(crate) struct Archive {
    /// The service whose streams they are; needed when there are several.
    #[arg(long, value_name = "NAME")]
    pub(crate) service: Option<String>,
    /// Those of this category: what stands before the first dash of a stream's name.
    #[arg(long, value_name = "NAME")]
    pub(crate) category: String,
    /// Only those of this tenant.
    #[arg(long, value_name = "NAME")]
    pub(crate) tenant: Option<String>,
    /// Only those to which nothing was appended for so long: a number and `s`, `m`, `h` or `d` (90d).
    #[arg(long, value_name = "TIME", value_parser = seconds)]
    pub(crate) idle_for: u64,
    /// Only those whose last event is of this kind; may be said several times, for any of them.
    #[arg(long, value_name = "KIND", value_parser = kind)]
    pub(crate) ended_by: Vec<String>,
    /// Only those that began behind this position of the log.
    #[arg(long, value_name = "POSITION")]
    pub(crate) after: Option<u64>,
    /// Move nothing: count the streams that would be chosen, and their events, archived ones included.
    #[arg(long)]
    pub(crate) dry_run: bool,
}

/// A time as `90d`, in seconds.
fn seconds(typed: &str) -> Result<u64, String> {
    let units = [('s', 1), ('m', 60), ('h', 3600), ('d', 24 * 3600)];
    let unit = typed.chars().last().and_then(|last| units.iter().find(|(unit, _)| *unit == last));
    let read =
        unit.and_then(|(_, seconds)| typed[..typed.len() - 1].parse::<u64>().ok()?.checked_mul(*seconds));
    read.ok_or_else(|| "a time is a number and s, m, h or d, as in 90d".to_owned())
}

/// A kind of event; a comma would part it on its way.
fn kind(typed: &str) -> Result<String, String> {
    match typed.is_empty() || typed.contains(',') {
        true => Err("a kind is not empty and has no comma; say several with several --ended-by".to_owned()),
        false => Ok(typed.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_a_number_and_a_unit() {
        assert_eq!(["0s", "90m", "2h", "90d"].map(seconds), [Ok(0), Ok(5400), Ok(7200), Ok(7_776_000)]);
        for none in ["", "d", "90", "-1d", "1.5h", "9w", "99999999999999999d", "9\u{e9}"] {
            assert!(seconds(none).is_err(), "{none}");
        }
    }
}
