//! Why a command was not done, and the exit status that says so to a script.

use std::path::PathBuf;
use std::process::ExitCode;

use serde_json::Value;

/// Why a command was not done.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// The folder has no stores and nobody answers there.
    #[error(
        "there is no data in `{}`: name the folder of the process with --data, or start the process first",
        .0.display()
    )]
    NoData(PathBuf),
    /// A process holds the stores and cannot be asked.
    #[error(
        "a process uses the data in `{}`, but nobody answers on `{}`: it may be starting or stopping, so try again; \
         if it hangs, stop it, and this command opens the data itself",
        data.display(), socket.display()
    )]
    Silent {
        /// The data folder.
        data: PathBuf,
        /// Where the process should answer.
        socket: PathBuf,
    },
    /// The socket or the stores cannot be opened.
    #[error("cannot open `{}`", path.display())]
    Open {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The process broke off, or said something that makes no sense.
    #[error("no usable answer: {0}")]
    NoAnswer(String),
    /// There is no such thing.
    #[error("{0}")]
    NoSuchThing(String),
    /// Several services have one of this id.
    #[error("`{id}` is in several services: say which with --service ({})", services.join(", "))]
    Ambiguous {
        /// The id.
        id: String,
        /// The services.
        services: Vec<String>,
    },
    /// What was typed makes no sense.
    #[error("{0}")]
    Usage(String),
    /// It was refused.
    #[error("{0}")]
    Refused(String),
    /// It was refused half way; the answer says how far it came.
    #[error("{said}")]
    Halfway {
        /// Why.
        said: String,
        /// How far.
        progress: Value,
    },
}

impl Failure {
    /// What the answer of a status other than 2xx says: its problem's title and detail.
    pub(crate) fn of_problem(status: http::StatusCode, body: &Value) -> Self {
        let member = |name| body.get(name).and_then(Value::as_str);
        let said = match (member("title"), member("detail")) {
            (Some(title), Some(detail)) => format!("{title}: {detail}"),
            (Some(said), None) | (None, Some(said)) => said.to_owned(),
            (None, None) => format!("the answer was {status}"),
        };
        if let Some(progress) = body.get("progress") {
            return Self::Halfway { said, progress: progress.clone() };
        }
        if status == http::StatusCode::NOT_FOUND { Self::NoSuchThing(said) } else { Self::Refused(said) }
    }

    /// The message with all of its causes, on one line.
    pub(crate) fn told(&self) -> String {
        let mut told = self.to_string();
        let mut cause = std::error::Error::source(self);
        while let Some(error) = cause {
            told += &format!(": {error}");
            cause = error.source();
        }
        told
    }

    /// The exit status; see `purlin --help`.
    pub(crate) fn status(&self) -> ExitCode {
        match self {
            // As clap ends, which reads the arguments.
            Self::Usage(_) => ExitCode::from(2),
            Self::NoSuchThing(_) => ExitCode::from(3),
            _ => ExitCode::FAILURE,
        }
    }
}
