//! The lines between services: who calls whom, and who repeats a call that failed. How long each is waited for, and when
//! it is left alone, the configuration says (`[calls.*]`).

use purlin::resilience::Caller;

use super::addresses::Addresses;
use super::process::Process;
use crate::config::{Role, breakers_of};
use crate::contracts::line::Line;

/// Makes lines.
pub struct Lines<'a> {
    process: &'a Process,
    addresses: &'a Addresses,
}

/// Who repeats a call that failed: one of them, never both.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Repeats {
    /// The line itself, a few times within the deadline.
    Line,
    /// The saga whose step it is, until the checkout's deadline.
    Saga,
}

impl<'a> Lines<'a> {
    /// Lines to wherever the roles are.
    pub fn new(process: &'a Process, addresses: &'a Addresses) -> Self {
        Self { process, addresses }
    }

    /// A line to a role.
    pub fn to(&self, role: Role, repeats: Repeats) -> anyhow::Result<Line> {
        let caller = self.process.calls.caller(role.name());
        let caller = match repeats {
            Repeats::Line => caller,
            Repeats::Saga => caller.without_repeats(),
        };
        Ok(Line::new(&self.addresses.url(role), caller)?)
    }

    /// A line to a role that is asked for its keys.
    pub fn keys(&self, role: Role) -> anyhow::Result<Line> {
        let caller = self.process.calls.caller(format!("keys-{}", role.name()));
        Ok(Line::new(&self.addresses.url(role), caller)?)
    }

    /// A line to another process that is asked for its breakers; `one_of` several of its role.
    pub fn breakers(&self, role: Role, endpoint: &str, one_of: bool) -> anyhow::Result<Line> {
        let caller = self.process.calls.caller(breakers_of(role, one_of.then_some(endpoint)));
        Ok(Line::new(&format!("http://{endpoint}"), caller)?)
    }

    /// How the keys of tokens are asked for.
    pub fn token_keys(&self) -> Caller {
        self.process.calls.caller(purlin_gateway::calls::TOKEN_KEYS)
    }

    /// How the payments reach the card network.
    pub fn card_network(&self) -> Caller {
        self.process.calls.caller("card-network")
    }

    /// How the assistant reaches its model.
    pub fn model(&self) -> Caller {
        self.process.calls.caller("model")
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::convert::Infallible;
    use std::path::Path;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    use purlin::resilience::{Breakers, Calls};
    use purlin::telemetry::Metrics;
    use tokio::sync::Semaphore;
    use tokio::task::JoinSet;
    use tokio::time::Instant;

    use super::*;
    use crate::config::call_policies;

    /// Products that answer as a test wants.
    struct Answering {
        /// Every so manieth answer takes long.
        slow: usize,
        /// How many can be answered at once, and how long each then takes.
        places: Semaphore,
        takes: Duration,
        asked: AtomicUsize,
        inside: AtomicUsize,
        most: AtomicUsize,
    }

    const LONG: Duration = Duration::from_millis(500);

    /// One of those who wait for an answer, until he has it or gives up.
    struct Inside<'a>(&'a AtomicUsize);

    impl Drop for Inside<'_> {
        fn drop(&mut self) {
            self.0.fetch_sub(1, Ordering::Relaxed);
        }
    }

    impl Answering {
        async fn answer(&self) -> Result<(), Infallible> {
            let number = self.asked.fetch_add(1, Ordering::Relaxed) + 1;
            self.most.fetch_max(self.inside.fetch_add(1, Ordering::Relaxed) + 1, Ordering::Relaxed);
            let _inside = Inside(&self.inside);
            let _place = self.places.acquire().await;
            let takes = if number.is_multiple_of(self.slow) { LONG } else { self.takes };
            tokio::time::sleep(takes).await;
            Ok(())
        }
    }

    /// Such products, called as the shop calls them.
    struct World {
        products: Caller,
        calls: Calls,
        metrics: Metrics,
        answering: Answering,
    }

    impl World {
        fn new(slow: usize, at_once: usize, takes: Duration) -> Self {
            let [asked, inside, most] = [(); 3].map(|()| AtomicUsize::new(0));
            let answering = Answering { slow, places: Semaphore::new(at_once), takes, asked, inside, most };
            let (breakers, metrics) = (Breakers::new(), Metrics::new());
            let policies = call_policies(None, Path::new("no file"), &BTreeMap::new()).unwrap();
            let calls = Calls::observed(policies, &breakers, &metrics);
            Self { products: calls.caller("products"), calls, metrics, answering }
        }

        async fn ask(&self) -> Duration {
            let begun = Instant::now();
            self.products.call(|| self.answering.answer()).await.unwrap();
            begun.elapsed()
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_read_that_takes_longer_than_most_is_asked_a_second_time() {
        let world = World::new(40, 100, Duration::from_millis(2));
        let mut late = 0;
        for _ in 0..400 {
            late += usize::from(world.ask().await >= LONG);
        }
        let asked = world.answering.asked.load(Ordering::Relaxed);
        let slow = asked / 40;
        // The first ones come before it is known what is usual; a second attempt may be slow as well.
        assert!(slow >= 10 && late <= slow / 2, "{late} of {slow} slow answers were waited for");
        assert!((401..=440).contains(&asked), "and that costs few questions more: {asked}");
        let numbers = world.metrics.render();
        assert!(numbers.contains("purlin_call_hedges_total{callee=\"products\"}"), "{numbers}");
    }

    #[tokio::test(start_paused = true)]
    async fn no_more_reads_are_asked_for_at_once_than_are_answered_quickly() {
        let world = Arc::new(World::new(usize::MAX, 8, Duration::from_millis(20)));
        let (mut asking, until) = (JoinSet::new(), Instant::now() + Duration::from_secs(3));
        for _ in 0..100 {
            let world = Arc::clone(&world);
            asking.spawn(async move {
                let mut answered = 0;
                while Instant::now() < until {
                    world.ask().await;
                    answered += 1;
                }
                answered
            });
        }
        // By then it has found out.
        tokio::time::sleep_until(until - Duration::from_secs(1)).await;
        world.answering.most.store(0, Ordering::Relaxed);
        let limit = world.calls.status()[0].concurrency.limit;
        let answered: usize = asking.join_all().await.into_iter().sum();
        let most = world.answering.most.load(Ordering::Relaxed);
        assert!(limit < 50 && most < 50, "{limit} places, {most} at once, of 100 who want to ask");
        // 1200 are as many as can be.
        assert!(answered > 1000, "{answered}");
    }
}
