//! What can be typed.

mod doctor;
mod projections;
mod store;
mod streams;

use std::path::PathBuf;

use clap::parser::ValueSource;
use clap::{Args, CommandFactory as _, FromArgMatches as _, Parser, Subcommand};

pub(crate) use doctor::Doctor;
pub(crate) use projections::{Parked, ParkedEvent, Projections, Rebuild, View};
pub(crate) use store::{Abandon, Accept, Backup, Export, Import, Move, NewIncarnation, Restore, Store};
pub(crate) use streams::{Archive, Audit, List, Show, Stats, Streams, Tail};

/// Look at, and act on, the services of a data folder or of a database: their logs, what is parked, what is stuck.
#[derive(Debug, Parser)]
#[command(name = "purlin", version, after_help = EXIT)]
pub(crate) struct Arguments {
    /// The data folder of the process; it may be running or stopped. It goes before PURLIN_STORE.
    #[arg(long, global = true, value_name = "DIR", default_value = "./data", env = "PURLIN_DATA")]
    pub(crate) data: PathBuf,
    /// The stores instead of those of a data folder: `sqlite:DIR`, `sqlite:FILE.db` (with `?archive=FILE` if its archive
    /// was carried elsewhere, which the store remembers), or `postgres://user@host/database` (with `?service=NAME` only
    /// that one).
    #[arg(long, global = true, value_name = "URL", env = "PURLIN_STORE", hide_env_values = true)]
    pub(crate) store: Option<String>,
    /// Where the archive of the one store is that `--store sqlite:FILE.db` names, if it was carried elsewhere; the same as
    /// `?archive=FILE` there.
    #[arg(long, global = true, value_name = "FILE", requires = "store")]
    pub(crate) archive: Option<PathBuf>,
    /// Print JSON instead of tables.
    #[arg(long, global = true)]
    pub(crate) json: bool,
    #[command(subcommand)]
    pub(crate) subject: Subject,
}

impl Arguments {
    /// What was typed, and what the environment says. A mistake ends the program, with status 2.
    pub(crate) fn read() -> Self {
        let matches = Self::command().get_matches();
        let mut read = Self::from_arg_matches(&matches).unwrap_or_else(|error| error.exit());
        let is_typed = |name| matches.value_source(name) == Some(ValueSource::CommandLine);
        // Whoever types a folder means that one, whatever the environment says of stores.
        if is_typed("data") && !is_typed("store") {
            read.store = None;
        }
        read
    }
}

const EXIT: &str = "\
Exit status: 0 done; 1 refused or not possible at the moment; 2 wrong arguments; 3 there is no such thing.";

/// What it is about.
#[derive(Debug, Subcommand)]
pub(crate) enum Subject {
    /// Parked messages: those that keep failing, and those of the same key that wait behind them.
    #[command(subcommand, after_help = DEAD_LETTERS)]
    DeadLetters(DeadLetters),
    /// Sagas: what runs, what is stuck, and why.
    #[command(subcommand, after_help = SAGAS)]
    Sagas(Sagas),
    /// The log: its streams, their events, what comes, and its numbers.
    #[command(subcommand, after_help = streams::EXAMPLES)]
    Streams(Streams),
    /// Read models: how far they are, what is missing in them, and building them anew.
    #[command(subcommand, after_help = projections::EXAMPLES)]
    Projections(Projections),
    /// The stores: copies of them, and moving them.
    #[command(subcommand, after_help = store::EXAMPLES)]
    Store(Store),
    /// Circuit breakers of a running process: how they stand, and holding them.
    #[command(subcommand, after_help = BREAKERS)]
    Breakers(Breakers),
    /// How a running process calls others: the policies in force, and reading them again.
    #[command(subcommand, after_help = CALLS)]
    Calls(Calls),
    /// Check an installation, and say what to do about what is wrong.
    #[command(after_help = doctor::EXAMPLES)]
    Doctor(Doctor),
}

const DEAD_LETTERS: &str = "\
Examples:
  purlin dead-letters list                       what is parked, in all services
  purlin dead-letters list --service inventory
  purlin dead-letters show ID                    the message, its attempts, and the last error
  purlin dead-letters replay ID                  try the messages of its key again, in order
  purlin dead-letters drop ID                    give it up, and go on with those behind it";

const SAGAS: &str = "\
Examples:
  purlin sagas list --state stuck                those that need somebody
  purlin sagas show ID                           each step, its attempts, and its error
  purlin sagas retry ID                          try again what a stuck saga gave up";

const BREAKERS: &str = "\
Examples:
  purlin breakers list
  purlin breakers open payments --reason 'it loses answers'
                                                 refuse calls to payments, until `reset`
  purlin breakers close payments                 let calls through however they end, until `reset`
  purlin breakers reset payments                 let the breaker decide again";

/// What to do with breakers.
#[derive(Debug, Subcommand)]
pub(crate) enum Breakers {
    /// List them.
    List,
    /// Hold one open: calls are refused.
    Open(Held),
    /// Hold one closed: calls go through.
    Close(Held),
    /// Let one decide again, beginning closed.
    Reset(Held),
}

const CALLS: &str = "\
Examples:
  purlin calls show                              every value of every policy, and where it comes from
  purlin calls show payments
  purlin calls reload                            read the policies again";

/// What to do with the policies of calls.
#[derive(Debug, Subcommand)]
pub(crate) enum Calls {
    /// Show them.
    Show {
        /// Only the one for this callee.
        callee: Option<String>,
    },
    /// Read them again, from the file of the process.
    ///
    /// What a process lets be read with them is too: the shop how many requests each role answers at once (`[places.*]`).
    /// Either all of it makes sense, or everything stays as it was. Everything else in a file needs a restart.
    Reload,
}

/// Which breaker, and why.
#[derive(Debug, Args)]
pub(crate) struct Held {
    /// Who is called, as the list gives it.
    pub(crate) name: String,
    /// Why; it is shown with the breaker, and logged.
    #[arg(long, value_name = "TEXT")]
    pub(crate) reason: Option<String>,
}

/// What to do with dead letters.
#[derive(Debug, Subcommand)]
pub(crate) enum DeadLetters {
    /// List them.
    List {
        #[command(flatten)]
        page: Paging,
        /// Only those of this consumer group.
        #[arg(long, value_name = "NAME")]
        group: Option<String>,
    },
    /// Show one with its content.
    Show(One),
    /// Have the messages of one's key tried again, now and in order.
    Replay(One),
    /// Give one up for good.
    Drop(One),
}

const STATES: [&str; 6] = ["running", "compensating", "completed", "failed", "stuck", "blocked"];

/// What to do with sagas.
#[derive(Debug, Subcommand)]
pub(crate) enum Sagas {
    /// List them.
    List {
        #[command(flatten)]
        page: Paging,
        /// Only those in this state: running, compensating, completed, failed, stuck or blocked.
        #[arg(long, value_name = "STATE", value_parser = STATES, hide_possible_values = true)]
        state: Option<String>,
        /// Only those of this kind.
        #[arg(long, value_name = "NAME")]
        kind: Option<String>,
    },
    /// Show one with its steps.
    Show(One),
    /// Have a stuck one try again, now.
    Retry(One),
}

/// Which part of a list.
#[derive(Debug, Args)]
pub(crate) struct Paging {
    /// Only those of this service.
    #[arg(long, value_name = "NAME")]
    pub(crate) service: Option<String>,
    /// How many at most.
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub(crate) limit: u32,
}

/// Which one.
#[derive(Debug, Args)]
pub(crate) struct One {
    /// Its id, as the list gives it.
    pub(crate) id: String,
    /// The service it belongs to; needed only when several have one of this id.
    #[arg(long, value_name = "NAME")]
    pub(crate) service: Option<String>,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_definition_of_the_arguments_has_no_contradiction() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn options_for_all_commands_may_stand_behind_the_command() {
        let arguments = Arguments::try_parse_from(["purlin", "sagas", "list", "--json", "--data", "d"]);
        let arguments = arguments.expect("arguments");
        assert!(arguments.json);
        assert_eq!(arguments.data, PathBuf::from("d"));
    }
}
