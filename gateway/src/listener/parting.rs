//! A caller who has closed his side of a connection of HTTP/1: he waits for his answer, or he is gone.
//!
//! The two look alike until something is written to him: only then does who is gone say so. To be taken for gone at once
//! costs the answer of everybody who says all that he has to say and closes his side (`nc -N`); to be waited for to the end
//! keeps a place of a service for everybody who has given up. So he is waited for a moment, and again each time that he
//! takes some of what is written to him.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep_until};

/// How long he is waited for. Most answers come sooner, and a service that hangs has the places of those who gave up for
/// so much longer.
const MOMENT: Duration = Duration::from_secs(1);

/// How many requests of a connection are not answered yet.
#[derive(Debug, Clone, Default)]
pub(super) struct InHand(Arc<AtomicUsize>);

/// A request is in hand until this is dropped.
#[derive(Debug)]
pub(super) struct Asked(InHand);

impl InHand {
    /// A request begins.
    pub(super) fn begin(&self) -> Asked {
        self.0.fetch_add(1, Ordering::Relaxed);
        Asked(self.clone())
    }

    fn is_any(&self) -> bool {
        self.0.load(Ordering::Relaxed) > 0
    }
}

impl Drop for Asked {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Whether a caller who says nothing more is gone.
#[derive(Debug, Default)]
pub(super) struct Parting {
    in_hand: InHand,
    /// Runs from when he closed his side.
    until: Option<Pin<Box<Sleep>>>,
}

impl Parting {
    /// Of a connection with these requests.
    pub(super) fn of(in_hand: InHand) -> Self {
        Self { in_hand, until: None }
    }

    /// He has closed his side: whether he is to be taken for gone, which is at once if he waits for nothing.
    pub(super) fn poll_gone(&mut self, context: &mut Context<'_>) -> Poll<()> {
        if !self.in_hand.is_any() {
            return Poll::Ready(());
        }
        self.until
            .get_or_insert_with(|| Box::pin(sleep_until(Instant::now() + MOMENT)))
            .as_mut()
            .poll(context)
    }

    /// He took something.
    pub(super) fn took(&mut self) {
        if let Some(until) = &mut self.until {
            until.as_mut().reset(Instant::now() + MOMENT);
        }
    }
}
