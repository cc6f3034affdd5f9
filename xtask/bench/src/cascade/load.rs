//! Clients who ask at fixed times, whether or not they were answered before: an open loop.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt as _, Empty};
use hyper_util::client::legacy::Client as Hyper;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::record::{Asked, Record};

/// Asks for one path again and again; ends when dropped.
pub(super) struct Load {
    shared: Arc<Shared>,
    _asking: JoinSet<()>,
}

struct Shared {
    client: Hyper<HttpConnector, Empty<Bytes>>,
    uri: String,
    patience: Duration,
    /// How many times a second, in thousandths.
    rate: AtomicU64,
    /// Whether clients ask again, at once and up to three times, what was not answered well.
    insists: AtomicBool,
    asked: Mutex<Vec<Asked>>,
}

/// How often clients who insist ask altogether.
const INSISTENCE: usize = 4;

impl Load {
    /// Clients of the gateway at `address`, who wait so long for each answer. They do not ask yet.
    pub(super) fn new(address: &str, path: &str, patience: Duration) -> Self {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        let shared = Arc::new(Shared {
            client: Hyper::builder(TokioExecutor::new()).retry_canceled_requests(false).build(connector),
            uri: format!("http://{address}{path}"),
            patience,
            rate: AtomicU64::new(0),
            insists: AtomicBool::new(false),
            asked: Mutex::default(),
        });
        let mut asking = JoinSet::new();
        asking.spawn(Arc::clone(&shared).ask_on());
        Self { shared, _asking: asking }
    }

    /// From now on they ask so often a second.
    pub(super) fn rate(&self, rate: f64) {
        self.shared.rate.store((rate * 1000.0) as u64, Ordering::Relaxed);
    }

    /// Whether they ask again what was not answered well.
    pub(super) fn insist(&self, insists: bool) {
        self.shared.insists.store(insists, Ordering::Relaxed);
    }

    /// What was asked so far and is over.
    pub(super) fn record(&self) -> Record {
        Record::new(self.shared.asked().clone(), self.shared.patience)
    }

    /// So many at once, each asking again as soon as he is answered: for `time`, how many good answers a second.
    pub(super) async fn saturate(&self, clients: usize, time: Duration) -> f64 {
        let begun = Instant::now();
        let mut asking = JoinSet::new();
        for _ in 0..clients {
            let shared = Arc::clone(&self.shared);
            asking.spawn(async move {
                let mut good = 0_u64;
                while begun.elapsed() < time {
                    good += u64::from(shared.ask().await == 200);
                }
                good
            });
        }
        let good: u64 = asking.join_all().await.into_iter().sum();
        good as f64 / begun.elapsed().as_secs_f64()
    }
}

impl Shared {
    async fn ask_on(self: Arc<Self>) {
        let mut under_way = JoinSet::new();
        let mut due = Instant::now();
        loop {
            let rate = self.rate.load(Ordering::Relaxed);
            if rate == 0 {
                tokio::time::sleep(Duration::from_millis(1)).await;
                due = Instant::now();
                continue;
            }
            due += Duration::from_secs_f64(1000.0 / rate as f64);
            tokio::time::sleep_until(due).await;
            while under_way.try_join_next().is_some() {}
            under_way.spawn(Arc::clone(&self).ask_once(due));
        }
    }

    /// What was to be asked at `due`, until it is answered well or given up.
    async fn ask_once(self: Arc<Self>, due: Instant) {
        let tries = if self.insists.load(Ordering::Relaxed) { INSISTENCE } else { 1 };
        let mut status = 0;
        for _ in 0..tries {
            status = self.ask().await;
            if status == 200 {
                break;
            }
        }
        self.asked().push(Asked { due, over: Instant::now(), status });
    }

    /// The status of the answer; 0 if there was none in time.
    async fn ask(&self) -> u16 {
        let answer = async {
            let request = Request::get(&self.uri).body(Empty::new()).expect("a URI of our own");
            let response = self.client.request(request).await.ok()?;
            let status = response.status().as_u16();
            response.into_body().collect().await.ok()?;
            Some(status)
        };
        tokio::time::timeout(self.patience, answer).await.ok().flatten().unwrap_or(0)
    }

    fn asked(&self) -> std::sync::MutexGuard<'_, Vec<Asked>> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
