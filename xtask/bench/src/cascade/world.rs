//! All processes of a run, and the clients in front of them.

use std::time::Duration;

use anyhow::{Context, Result};
use tokio::time::Instant;

use super::child::{Child, Sight};
use super::load::Load;
use super::plan::{NEEDS, OTHER, OTHER_RATE, OWN, PATIENCE};
use super::record::Span;
use super::role::Care;

/// A gateway in front of two services, one of which needs a third: the callee.
pub(super) struct World {
    pub(super) needs: Load,
    pub(super) own: Load,
    pub(super) other: Load,
    pub(super) gateway: Child,
    pub(super) middle: Child,
    /// None while it is dead.
    callee: Option<Child>,
    /// Of those that are dead.
    callees_sights: Vec<Sight>,
    callee_address: String,
    care: Care,
    _other: Child,
}

impl World {
    /// Starts all processes; so careful are the services, and so the gateway. Clients who need the callee wait so long
    /// for an answer; none of them asks yet.
    pub(super) async fn start(care: Care, gateway: Care, patience: Duration) -> Result<Self> {
        let callee = Child::start(&["callee", "0", care.as_str()]).await?;
        let middle = Child::start(&["middle", &callee.address, care.as_str()]).await?;
        let other = Child::start(&["other"]).await?;
        let gateway = Child::start(&["gateway", &middle.address, &other.address, gateway.as_str()]).await?;
        Ok(Self {
            needs: Load::new(&gateway.address, NEEDS, patience),
            own: Load::new(&gateway.address, OWN, PATIENCE),
            other: Load::new(&gateway.address, OTHER, PATIENCE),
            gateway,
            middle,
            callee_address: callee.address.clone(),
            callee: Some(callee),
            callees_sights: Vec::new(),
            care,
            _other: other,
        })
    }

    /// For so long, the callee is needed `rate` times a second, and the others are asked as always.
    pub(super) async fn ask(&self, rate: f64, time: Duration) -> Span {
        self.needs.rate(rate);
        self.own.rate(OTHER_RATE);
        self.other.rate(OTHER_RATE);
        let from = Instant::now();
        tokio::time::sleep(time).await;
        Span { from, to: Instant::now() }
    }

    /// The callee, as long as it lives.
    pub(super) fn callee(&mut self) -> Result<&mut Child> {
        self.callee.as_mut().context("the callee is dead")
    }

    /// Kills the callee.
    pub(super) async fn kill_callee(&mut self) -> Result<()> {
        let callee = self.callee.take().context("the callee is dead")?;
        self.callees_sights.extend(callee.kill().await?);
        Ok(())
    }

    /// Starts the callee anew where it was.
    pub(super) async fn revive_callee(&mut self) -> Result<()> {
        let (_, port) = self.callee_address.rsplit_once(':').context("a port")?;
        self.callee = Some(Child::start(&["callee", port, self.care.as_str()]).await?);
        Ok(())
    }

    /// All that was seen of the callee, in all its lives.
    pub(super) fn callee_sights(&self) -> Vec<Sight> {
        let now = self.callee.iter().flat_map(Child::sights);
        self.callees_sights.iter().cloned().chain(now).collect()
    }
}
