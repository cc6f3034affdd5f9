//! When to stop.

use std::io;
use std::sync::{Arc, OnceLock};

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// Tells every task of a process to finish what it has in hand and stop; cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Shutdown {
    token: CancellationToken,
    cause: Arc<OnceLock<String>>,
}

/// SIGINT and SIGTERM, heard from when this is made on: one that comes before somebody asks is not missed, and does
/// not end the process.
#[derive(Debug)]
pub struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    /// Hears them from now on. A process does this first of all.
    pub fn listen() -> io::Result<Self> {
        Ok(Self { interrupt: signal(SignalKind::interrupt())?, terminate: signal(SignalKind::terminate())? })
    }

    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.interrupt.recv() => "SIGINT",
            _ = self.terminate.recv() => "SIGTERM",
        }
    }
}

impl Shutdown {
    /// A process that is to go on.
    pub fn new() -> Self {
        Self::default()
    }

    /// Tells everybody to stop. Once begun it cannot be taken back.
    pub fn begin(&self) {
        self.token.cancel();
    }

    /// Tells everybody to stop because of a failure, which is the cause if nothing else was.
    pub fn begin_because(&self, failure: impl Into<String>) {
        if !self.has_begun() {
            let _ = self.cause.set(failure.into());
        }
        self.begin();
    }

    /// The failure that it began with, if it was one.
    pub fn cause(&self) -> Option<&str> {
        self.cause.get().map(String::as_str)
    }

    /// Whether it has begun.
    pub fn has_begun(&self) -> bool {
        self.token.is_cancelled()
    }

    /// Waits until it begins.
    pub async fn begun(&self) {
        self.token.cancelled().await;
    }

    /// The token that rooms take which do not know of services.
    pub fn token(&self) -> CancellationToken {
        self.token.clone()
    }

    /// Begins on the first SIGINT or SIGTERM; ends when it has begun, for whatever reason. Says whether a signal was
    /// the reason, or somebody else began it.
    pub async fn on_signals(&self, signals: &mut Signals) -> bool {
        let name = tokio::select! {
            biased;
            () = self.token.cancelled() => return false,
            name = signals.next() => name,
        };
        tracing::info!(signal = name, "stopping: work in hand is finished, new work refused");
        self.begin();
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_stop_that_no_signal_asked_for_is_told_from_one_that_did() {
        let (shutdown, mut signals) = (Shutdown::new(), Signals::listen().unwrap());
        shutdown.begin();
        assert!(!shutdown.on_signals(&mut signals).await);
    }

    #[test]
    fn the_first_failure_is_the_cause_unless_it_was_to_stop_anyway() {
        let (failed, told) = (Shutdown::new(), Shutdown::new());
        failed.begin_because("the first");
        failed.begin_because("another");
        assert_eq!(failed.cause(), Some("the first"));
        told.begin();
        told.begin_because("too late");
        assert_eq!(told.cause(), None);
    }
}
