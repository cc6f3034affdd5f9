//! One request to one service.

use std::collections::BTreeMap;
use std::time::Duration;

use http::uri::{PathAndQuery, Scheme};
use http::{HeaderMap, Method, Request, Response, Uri};
use hyper::body::Incoming;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::{HttpConnector, capture_connection};
use hyper_util::rt::TokioTimer;
use purlin::http::REQUEST_TIMEOUT;
use purlin::telemetry::metrics::{Counter, Family, Metrics};
use tokio::time::Instant;

use crate::config::{self, Limits};
use crate::core::Refusal;
use crate::kept::Kept;
use crate::tasks::Tasks;
use crate::unread::Unread;

use super::body::{BodyFault, Loan, Outgoing};
use super::pool::{Endpoint, InHand, Pool};
use super::room::{Place, Room};
use super::wire::{Connector, was_idle, watched};

/// All services that requests can go to.
#[derive(Debug)]
pub(crate) struct Upstreams {
    client: Client<Connector, Outgoing>,
    pools: BTreeMap<String, Pool>,
    body_limit: u64,
    unreached: Family<Counter, 1>,
}

/// A request as a service gets it, without its body.
#[derive(Debug)]
pub(crate) struct Call<'a> {
    /// Who answers it.
    pub(crate) pool: &'a str,
    /// The method.
    pub(crate) method: Method,
    /// The path and the query.
    pub(crate) target: PathAndQuery,
    /// The headers, rewritten.
    pub(crate) headers: HeaderMap,
    /// The room that its route has, if that is less than the pool's.
    pub(crate) room: Option<&'a Room>,
    /// Until when the head of the answer must be there.
    pub(crate) deadline: Instant,
}

/// The body of a service's answer, which has its places until it was sent.
pub(crate) type Carried = Kept<Incoming, (InHand, Place, Option<Place>)>;

/// Why one try at one endpoint got no answer.
struct Failed {
    error: hyper_util::client::legacy::Error,
    /// Whether the service closed the connection while the request was on its way, as it does with idle ones.
    idle: bool,
}

/// Idle connections that are kept for each endpoint.
const IDLE_CONNECTIONS: usize = 128;
/// Shorter than a service waits for the next request (10 s), so that it rarely closes a connection that we just take.
const IDLE_TIMEOUT: Duration = Duration::from_secs(5);

impl Upstreams {
    /// The services of a checked configuration.
    pub(crate) fn new(
        pools: &BTreeMap<String, config::Pool>,
        limits: &Limits,
        tasks: &Tasks,
        metrics: &Metrics,
    ) -> Self {
        let mut connector = HttpConnector::new();
        connector.set_connect_timeout(Some(Duration::from_millis(limits.connect_timeout_ms)));
        connector.set_nodelay(true);
        let client = Client::builder(tasks.clone())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE_TIMEOUT)
            .pool_max_idle_per_host(IDLE_CONNECTIONS)
            .build(watched(connector));
        let pause = Duration::from_millis(limits.endpoint_pause_ms);
        let taken = metrics.gauge("gateway_under_way", "Requests that services have in hand", ["pool"]);
        let pool = |name: &str, pool: &config::Pool| {
            let room = Room::new(limits.requests_per_pool, taken.with([name]));
            Pool::new(pool.endpoints.iter().filter_map(|endpoint| endpoint.parse().ok()), pause, room)
        };
        Self {
            client,
            pools: pools.iter().map(|(name, config)| (name.clone(), pool(name, config))).collect(),
            body_limit: limits.body_bytes,
            unreached: metrics.counter(
                "gateway_unreached",
                "Connections to an endpoint that could not be made",
                ["endpoint"],
            ),
        }
    }

    /// Sends a request; the answer's body follows as it comes. What is left of the request's body after a refusal is
    /// given back.
    pub(crate) async fn send(
        &self,
        call: &Call<'_>,
        unread: &mut Unread,
    ) -> Result<Response<Carried>, Refusal> {
        let pool = self.pools.get(call.pool).ok_or(Refusal::Unavailable)?;
        let of_route = call.room.map(|room| room.enter().ok_or(Refusal::Overloaded)).transpose()?;
        let of_pool = pool.room.enter().ok_or(Refusal::Overloaded)?;
        pool.retries.earn();
        let order = pool.order(Instant::now());
        let (mut next, mut again) = (0, call.is_repeatable());
        while let Some(endpoint) = order.get(next) {
            let body = unread.take().ok_or(Refusal::Unavailable)?;
            let (outgoing, loan) = Outgoing::lend(body, self.body_limit);
            let in_hand = endpoint.begin();
            let Failed { error, idle } = match self.attempt(call, endpoint, outgoing, &loan).await {
                Ok(Ok(response)) => {
                    return Ok(response.map(|body| Kept::new(body, (in_hand, of_pool, of_route))));
                }
                Ok(Err(failed)) => failed,
                Err(refusal) => {
                    unread.give_back(loan.returned());
                    return Err(refusal);
                }
            };
            let left = loan.returned();
            let whole = left.is_some() && loan.is_untouched();
            unread.give_back(left);
            if let Some(fault) = loan.fault() {
                return Err(self.fault(fault));
            }
            if error.is_connect() {
                pool.rest(endpoint, Instant::now());
                self.unreached.with([endpoint.authority.as_str()]).inc();
                tracing::warn!(endpoint = %endpoint.authority, %error, "an endpoint could not be reached");
                if !whole {
                    break;
                }
                next += 1;
            } else if again && whole && idle && pool.retries.spend(Instant::now()) {
                again = false;
                tracing::debug!(endpoint = %endpoint.authority, %error, "a request is sent again");
            } else {
                tracing::warn!(endpoint = %endpoint.authority, %error, "a service broke off");
                return Err(Refusal::BrokeOff);
            }
        }
        Err(Refusal::Unavailable)
    }

    /// One try at one endpoint; refused at once if the deadline or the caller's body ends it.
    async fn attempt(
        &self,
        call: &Call<'_>,
        endpoint: &Endpoint,
        body: Outgoing,
        loan: &Loan,
    ) -> Result<Result<Response<Incoming>, Failed>, Refusal> {
        let mut request = call.request(endpoint, body);
        let connection = capture_connection(&mut request);
        let exchange = self.client.request(request);
        tokio::select! {
            biased;
            response = exchange => {
                Ok(response.map_err(|error| Failed { error, idle: was_idle(&connection) }))
            }
            fault = loan.faulted() => Err(self.fault(fault)),
            () = tokio::time::sleep_until(call.deadline) => {
                Err(if loan.awaits_caller() { Refusal::BodyTooSlow } else { Refusal::Timeout })
            }
        }
    }

    fn fault(&self, fault: BodyFault) -> Refusal {
        match fault {
            BodyFault::TooLarge => Refusal::BodyTooLarge { limit: self.body_limit },
            BodyFault::Broken => Refusal::BodyBroken,
        }
    }
}

impl Call<'_> {
    /// Whether sending it twice does no more than sending it once: it only reads, or bears a key.
    fn is_repeatable(&self) -> bool {
        self.method.is_safe() || self.headers.contains_key("idempotency-key")
    }

    fn request(&self, endpoint: &Endpoint, body: Outgoing) -> Request<Outgoing> {
        let mut uri = http::uri::Parts::default();
        uri.scheme = Some(Scheme::HTTP);
        uri.authority = Some(endpoint.authority.clone());
        uri.path_and_query = Some(self.target.clone());
        let mut request = Request::new(body);
        *request.method_mut() = self.method.clone();
        *request.uri_mut() = Uri::from_parts(uri).expect("a scheme, an authority and a path are a URI");
        *request.headers_mut() = self.headers.clone();
        // A second try has less time than the first.
        let left = self.deadline.saturating_duration_since(Instant::now()).as_millis();
        let left = u64::try_from(left).unwrap_or(u64::MAX).max(1);
        request.headers_mut().insert(REQUEST_TIMEOUT, left.into());
        request
    }
}
