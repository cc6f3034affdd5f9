//! What befalls the callee, or its caller, under twice the load it can bear, and how all others fare meanwhile and afterwards.

use std::time::Duration;

use anyhow::Result;
use tokio::time::Instant;

use super::plan::{CALLEE_SERVICE_MS, CAPACITY, FLAKY_EACH, SLOW_SERVICE_MS};
use super::record::Span;
use super::world::World;

/// What befalls the callee, or its caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trouble {
    /// Nothing: it is asked for twice what it can do.
    Crowded,
    /// Some of its calls fail.
    Flaky,
    /// Its work takes five times as long.
    Slow,
    /// It is held where it is (SIGSTOP).
    Stopped,
    /// It is killed, and started anew later.
    Killed,
    /// Nothing: its caller, the middle service, is held where it is (SIGSTOP), and blames it for that or does not.
    Napped,
}

/// When what happened.
#[derive(Debug, Clone, Copy)]
pub(super) struct Course {
    /// Under the same load, before.
    pub(super) before: Span,
    /// The trouble itself.
    pub(super) during: Span,
    /// From the callee's return on.
    pub(super) after: Span,
}

impl Course {
    /// All of it.
    pub(super) fn whole(&self) -> Span {
        Span { from: self.before.from, to: self.after.to }
    }
}

impl Trouble {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::Crowded, Self::Flaky, Self::Slow, Self::Stopped, Self::Killed, Self::Napped];

    /// As figures call it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Crowded => "crowded",
            Self::Flaky => "flaky",
            Self::Slow => "slow",
            Self::Stopped => "stopped",
            Self::Killed => "killed",
            Self::Napped => "napped",
        }
    }

    /// Lets it happen; `unit` is what a second of the plan takes.
    pub(super) async fn befall(self, world: &mut World, unit: Duration) -> Result<Course> {
        world.ask(CAPACITY / 2.0, unit).await;
        world.ask(CAPACITY * 2.0, unit).await;
        let before = world.ask(CAPACITY * 2.0, 2 * unit).await;
        let begun = Instant::now();
        self.begin(world).await?;
        world.ask(CAPACITY * 2.0, 5 * unit).await;
        let returned = Instant::now();
        self.end(world).await?;
        let after = match self {
            Self::Stopped | Self::Killed | Self::Napped => 8,
            Self::Crowded | Self::Flaky | Self::Slow => 3,
        };
        world.ask(CAPACITY * 2.0, after * unit).await;
        let during = Span { from: begun, to: returned };
        let after = Span { from: returned, to: Instant::now() };
        // What is under way has to end before it can be counted.
        world.ask(CAPACITY / 2.0, Duration::from_millis(1500)).await;
        Ok(Course { before, during, after })
    }

    async fn begin(self, world: &mut World) -> Result<()> {
        match self {
            Self::Crowded => Ok(()),
            Self::Flaky => world.callee()?.tell(&format!("fail {FLAKY_EACH}")).await,
            Self::Slow => world.callee()?.tell(&format!("service {SLOW_SERVICE_MS}")).await,
            Self::Stopped => world.callee()?.stop(),
            Self::Killed => world.kill_callee().await,
            Self::Napped => world.middle.stop(),
        }
    }

    async fn end(self, world: &mut World) -> Result<()> {
        match self {
            Self::Crowded => Ok(()),
            Self::Flaky => world.callee()?.tell("fail 0").await,
            Self::Slow => world.callee()?.tell(&format!("service {CALLEE_SERVICE_MS}")).await,
            Self::Stopped => world.callee()?.go_on(),
            Self::Killed => world.revive_callee().await,
            Self::Napped => world.middle.go_on(),
        }
    }
}
