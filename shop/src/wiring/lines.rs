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
    use std::path::Path;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    use purlin::message::{Uuid, new_id};
    use purlin::resilience::{Breakers, Calls};
    use purlin::service::{ServeConfig, serve};
    use purlin::telemetry::Metrics;
    use tokio::sync::Semaphore;
    use tokio::task::JoinSet;
    use tokio::time::Instant;
    use tokio_util::sync::CancellationToken;
    use tonic::{Request, Response, Status};

    use crate::config::reread_calls;
    use crate::contracts::clients::Products;
    use crate::contracts::line::{Line, door};
    use crate::contracts::rpc::products::products_server::{self, ProductsServer};
    use crate::contracts::rpc::products::{FindProducts, FoundProducts};

    /// Products that answer as a test wants.
    #[derive(Clone)]
    struct Answering {
        /// Every so manieth answer takes long.
        slow: usize,
        /// How many can be answered at once, and how long each then takes.
        places: Arc<Semaphore>,
        takes: Duration,
        asked: Arc<AtomicUsize>,
        inside: Arc<AtomicUsize>,
        most: Arc<AtomicUsize>,
    }

    const LONG: Duration = Duration::from_millis(500);

    #[tonic::async_trait]
    impl products_server::Products for Answering {
        async fn find(&self, _: Request<FindProducts>) -> Result<Response<FoundProducts>, Status> {
            let number = self.asked.fetch_add(1, Ordering::Relaxed) + 1;
            self.most.fetch_max(self.inside.fetch_add(1, Ordering::Relaxed) + 1, Ordering::Relaxed);
            let place = self.places.acquire().await;
            let takes = if number.is_multiple_of(self.slow) { LONG } else { self.takes };
            tokio::time::sleep(takes).await;
            drop(place);
            self.inside.fetch_sub(1, Ordering::Relaxed);
            Ok(Response::new(FoundProducts { products: Vec::new() }))
        }
    }

    /// Such products over a real connection, called as the shop calls them.
    struct World {
        products: Products,
        calls: Calls,
        metrics: Metrics,
        answering: Answering,
        _serving: JoinSet<()>,
    }

    impl World {
        async fn start(slow: usize, at_once: usize, takes: Duration) -> Self {
            let answering = Answering {
                slow,
                places: Arc::new(Semaphore::new(at_once)),
                takes,
                asked: Arc::default(),
                inside: Arc::default(),
                most: Arc::default(),
            };
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            let url = format!("http://{}", listener.local_addr().unwrap());
            let router = door(ProductsServer::new(answering.clone()));
            let mut serving = JoinSet::new();
            serving.spawn(serve(listener, router, ServeConfig::default(), CancellationToken::new()));
            let (breakers, metrics) = (Breakers::new(), Metrics::new());
            let policies = reread_calls(Path::new("shop.toml"), &BTreeMap::new()).unwrap();
            let calls = Calls::observed(policies, &breakers, &metrics);
            let products = Products(Line::new(&url, calls.caller("products")).unwrap());
            Self { products, calls, metrics, answering, _serving: serving }
        }

        async fn ask(&self) -> Duration {
            let (begun, ids): (_, [Uuid; 1]) = (Instant::now(), [new_id()]);
            self.products.find(&ids).await.unwrap();
            begun.elapsed()
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_read_that_takes_longer_than_most_is_asked_a_second_time() {
        let world = World::start(40, 100, Duration::from_millis(2)).await;
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

    #[tokio::test(flavor = "multi_thread")]
    async fn no_more_reads_are_asked_for_at_once_than_are_answered_quickly() {
        let world = Arc::new(World::start(usize::MAX, 8, Duration::from_millis(20)).await);
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
        // It has had time to find out.
        tokio::time::sleep(Duration::from_secs(2)).await;
        world.answering.most.store(0, Ordering::Relaxed);
        let limit = world.calls.status()[0].concurrency.limit;
        let answered: usize = asking.join_all().await.into_iter().sum();
        let most = world.answering.most.load(Ordering::Relaxed);
        assert!(limit < 50 && most < 50, "{limit} places, {most} at once, of 100 who want to ask");
        // 1200 are as many as can be.
        assert!(answered > 400, "{answered}");
    }
}
