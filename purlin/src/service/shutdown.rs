//! When to stop.

use std::io;

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// Tells every task of a process to finish what it has in hand and stop; cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Shutdown {
    token: CancellationToken,
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

    /// Begins on the first SIGINT or SIGTERM; ends when it has begun, for whatever reason.
    pub async fn on_signals(&self) -> io::Result<()> {
        let (mut interrupt, mut terminate) =
            (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
        let name = tokio::select! {
            _ = interrupt.recv() => "SIGINT",
            _ = terminate.recv() => "SIGTERM",
            () = self.token.cancelled() => return Ok(()),
        };
        tracing::info!(signal = name, "stopping: work in hand is finished, new work refused");
        self.begin();
        Ok(())
    }
}
