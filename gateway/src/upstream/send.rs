//! One request to one service.

use std::collections::BTreeMap;
use std::pin::pin;
use std::time::Duration;

use http::uri::{PathAndQuery, Scheme};
use http::{HeaderMap, Method, Request, Response, Uri};
use hyper::body::Incoming;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::{CaptureConnection, HttpConnector, capture_connection};
use hyper_util::rt::TokioTimer;
use purlin::http::REQUEST_TIMEOUT;
use purlin::message::{Fault, FaultKind};
use purlin::resilience::{CallError, Calls, Ticket};
use purlin::telemetry::RarelyEach;
use purlin::telemetry::metrics::{Counter, Family, Metrics};
use tokio::time::Instant;

use crate::calls::callee;
use crate::config::{self, Limits};
use crate::core::Refusal;
use crate::kept::Kept;
use crate::tasks::Tasks;
use crate::unread::Unread;

use super::aside::{Aside, Said};
use super::blame::{self, Broken, Tells};
use super::body::{BodyFault, Loan, Outgoing};
use super::pool::{Endpoint, InHand, Pool};
use super::room::{Place, Room};
use super::wire::{Connector, was_begun, was_cut, was_idle, watched};

/// All services that requests can go to.
#[derive(Debug)]
pub(crate) struct Upstreams {
    client: Client<Connector, Outgoing>,
    pools: BTreeMap<String, Pool>,
    body_limit: u64,
    unreached: Family<Counter, 1>,
    /// Of endpoints in trouble: while one is, every request meets it.
    warning: RarelyEach,
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
    /// How long the route gives.
    pub(crate) given: Duration,
    /// Whether the deadline is earlier than that, because the caller wants it so.
    pub(crate) hurried: bool,
}

/// The body of a service's answer, which has its places until it was sent.
pub(crate) type Carried = Kept<Incoming, (InHand, Place, Option<Place>)>;

/// A service's answer, as long as it is sent.
pub(super) type Answered = (Response<Incoming>, InHand);

/// What an answer says about the service.
enum Judged {
    /// It is there.
    Good(Answered),
    /// Its caller gave it too little time for anybody to tell.
    Hasty(Answered),
    Failed(Unanswered),
}

/// A service could not do its work, for now.
#[derive(Debug, thiserror::Error)]
enum Unanswered {
    /// It says so itself; the caller gets what it says.
    #[error("the service says that it could not")]
    Said { kind: FaultKind, answer: Box<Answered> },
    /// It said nothing.
    #[error(transparent)]
    Refused(#[from] Refusal),
}

impl Fault for Unanswered {
    fn kind(&self) -> FaultKind {
        match self {
            Self::Said { kind, .. } => *kind,
            Self::Refused(Refusal::Timeout) => FaultKind::Timeout,
            Self::Refused(_) => FaultKind::Unavailable,
        }
    }
}

impl Unanswered {
    /// What the caller gets.
    fn said(self) -> Result<Answered, Refusal> {
        match self {
            Self::Said { answer, .. } => Ok(*answer),
            Self::Refused(refusal) => Err(refusal),
        }
    }

    /// Whether the service could do nothing, for anybody as far as we know. One that sheds load, or meets a bug, is there.
    fn is_away(&self) -> bool {
        matches!(self.kind(), FaultKind::Unavailable | FaultKind::Timeout)
    }
}

/// Until when a service has time.
#[derive(Debug, Clone, Copy)]
struct Until {
    begun: Instant,
    instant: Instant,
    /// How long whoever says so gives: the policy, or the route, even if the caller gives less.
    given: Duration,
    /// Whether it is the caller who gives so little.
    hurried: bool,
}

impl Until {
    /// How long the service must have had a request to be blamed for no answer. One whose body came at the last moment
    /// says nothing.
    fn enough(&self) -> Duration {
        match self.hurried {
            true => A_WHILE,
            false => A_WHILE.min(self.given / 2),
        }
    }
}

/// Why one try at one endpoint got no answer.
struct Failed {
    error: hyper_util::client::legacy::Error,
    /// Whether the service closed the connection while the request was on its way, as it does with idle ones.
    idle: bool,
    /// How far the request had come.
    broken: Broken,
}

impl Failed {
    fn of(error: hyper_util::client::legacy::Error, connection: &CaptureConnection, loan: &Loan) -> Self {
        let broken = loan.broken(was_begun(connection), was_cut(connection));
        Self { error, idle: was_idle(connection), broken }
    }
}

/// Idle connections that are kept for each endpoint.
const IDLE_CONNECTIONS: usize = 128;
/// Shorter than a service waits for the next request (10 s), so that it rarely closes a connection that we just take.
const IDLE_TIMEOUT: Duration = Duration::from_secs(5);

/// How long a probe is waited for before others may probe as well; and how long a service has had a request that it can
/// be blamed for.
pub(super) const A_WHILE: Duration = Duration::from_secs(1);

/// How often a probe that is not even connected is looked at after that.
const A_MOMENT: Duration = Duration::from_millis(50);

/// A body that is longer is large.
const LARGE: u64 = 64 << 10;

/// How much earlier than by the policy of a call the upstream itself ends it, at most: as much as a timer may be late on a
/// machine that is merely busy.
const A_LITTLE: Duration = Duration::from_millis(50);

impl Upstreams {
    /// The services of a checked configuration.
    pub(crate) fn new(
        pools: &BTreeMap<String, config::Pool>,
        limits: &Limits,
        tasks: &Tasks,
        (calls, metrics): (&Calls, &Metrics),
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
            let endpoints = pool.endpoints.iter().filter_map(|endpoint| endpoint.parse().ok());
            Pool::new(endpoints, pause, room, calls.caller(callee(name)))
        };
        Self {
            client,
            pools: pools.iter().map(|(name, config)| (name.clone(), pool(name, config))).collect(),
            body_limit: limits.body_bytes,
            warning: RarelyEach::every(Duration::from_secs(1)),
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
        if unread.is_awaited() && pool.may_probe(Instant::now()) {
            self.arrives(pool, call, unread).await?;
        }
        let aside = Aside::default();
        let until = call.until(Instant::now(), pool.caller.policy().attempt);
        // In a box it is moved as one, through all that stands around it; and goes on if what stands around it does not.
        let mut asking = Box::pin(self.ask(pool, call, unread, (until, &aside)));
        let inner = asking.as_mut();
        let probing = |ticket| {
            aside.probes(ticket);
            inner
        };
        let ended = aside.unless(pool.caller.call_ticketed(probing)).await;
        let (response, in_hand) = match ended {
            Ok(Ok(answered)) => answered,
            Ok(Err(CallError::Failed(unanswered))) => unanswered.said()?,
            Ok(Err(CallError::Open(open))) => {
                return Err(Refusal::CircuitOpen { retry_after: open.retry_after, held: open.is_held() });
            }
            Ok(Err(CallError::Full(_))) => return Err(Refusal::Overloaded),
            Ok(Err(CallError::DeadlineExceeded)) => return Err(Refusal::Timeout),
            Err(Said::Spoilt(refusal)) => return Err(refusal),
            Err(Said::Hasty(answered)) => *answered,
            Err(Said::Slow(ticket)) => late(ticket, aside.unless(asking)).await?,
        };
        Ok(response.map(|body| Kept::new(body, (in_hand, of_pool, of_route))))
    }

    /// Waits for a body before its request asks to be a probe: a probe is to end as soon as the service wants, and not when
    /// somebody outside has sent his last byte.
    async fn arrives(&self, pool: &Pool, call: &Call<'_>, unread: &mut Unread) -> Result<(), Refusal> {
        let most = LARGE.min(self.body_limit);
        let refused = || Refusal::CircuitOpen { retry_after: A_WHILE, held: false };
        let arrived = async {
            if !unread.is_longer(most) {
                match unread.arrives(most).await {
                    Some(true) => return Ok(()),
                    Some(false) => {}
                    None => return Err(Refusal::BodyBroken),
                }
            }
            // They are kept in memory, and so of these there are few.
            let _place = pool.large.try_acquire().map_err(|_| refused())?;
            match unread.arrives(self.body_limit).await {
                Some(true) => Ok(()),
                Some(false) => Err(Refusal::BodyTooLarge { limit: self.body_limit }),
                None => Err(Refusal::BodyBroken),
            }
        };
        match tokio::time::timeout_at(call.deadline, arrived).await {
            Ok(arrived) => arrived,
            Err(_) => Err(Refusal::BodyTooSlow),
        }
    }

    /// Asks the endpoints of a pool until one has an answer. What the caller spoils does not come back from here.
    async fn ask(
        &self,
        pool: &Pool,
        call: &Call<'_>,
        unread: &mut Unread,
        (until, aside): (Until, &Aside),
    ) -> Result<Answered, Unanswered> {
        pool.retries.earn();
        let order = pool.order(Instant::now());
        let (mut next, mut again) = (0, call.is_repeatable());
        while let Some(endpoint) = order.get(next) {
            let body = unread.take().ok_or(Refusal::Unavailable)?;
            let (outgoing, loan) = Outgoing::lend(body, self.body_limit, Instant::now());
            let in_hand = endpoint.begin();
            let on_its_way = self.attempt((call, endpoint), outgoing, &loan, (until, aside));
            let Failed { error, idle, broken } = match on_its_way.await {
                Ok(Ok(response)) => {
                    return match call.judged((response, in_hand)) {
                        Judged::Hasty(answered) => aside.end(Said::Hasty(Box::new(answered))).await,
                        Judged::Good(answered) => {
                            pool.answers(Instant::now());
                            Ok(answered)
                        }
                        Judged::Failed(unanswered) => {
                            if !unanswered.is_away() {
                                pool.answers(Instant::now());
                            }
                            Err(unanswered)
                        }
                    };
                }
                Ok(Err(failed)) => failed,
                Err(refusal) => {
                    unread.give_back(loan.returned());
                    return match refusal {
                        Refusal::Timeout if hangs(pool, until, loan.fed()) => Err(refusal.into()),
                        refusal => aside.end(Said::Spoilt(refusal)).await,
                    };
                }
            };
            let left = loan.returned();
            let whole = left.is_some() && loan.is_untouched();
            unread.give_back(left);
            if let Some(fault) = loan.fault() {
                return aside.end(Said::Spoilt(self.fault(fault))).await;
            }
            if error.is_connect() {
                pool.rest(endpoint, Instant::now());
                self.unreached.with([endpoint.authority.as_str()]).inc();
                self.warn(endpoint, &error, "an endpoint could not be reached");
                if !whole {
                    break;
                }
                next += 1;
            } else if again && whole && idle && pool.retries.spend(Instant::now()) {
                again = false;
                tracing::debug!(endpoint = %endpoint.authority, %error, "a request is sent again");
            } else {
                self.warn(endpoint, &error, "a service broke off");
                let takes_nothing = || pool.takes_nothing(until.given, until.begun, Instant::now());
                return match broken.may_be_refused() && !takes_nothing() {
                    false => Err(Refusal::BrokeOff.into()),
                    true => aside.end(Said::Spoilt(Refusal::BrokeOff)).await,
                };
            }
        }
        Err(Refusal::Unavailable.into())
    }

    /// One try at one endpoint; refused at once if the deadline or the caller's body ends it.
    async fn attempt(
        &self,
        (call, endpoint): (&Call<'_>, &Endpoint),
        body: Outgoing,
        loan: &Loan,
        (until, aside): (Until, &Aside),
    ) -> Result<Result<Response<Incoming>, Failed>, Refusal> {
        let mut request = call.request(endpoint, body, until.instant);
        let connection = capture_connection(&mut request);
        let mut exchange = pin!(self.client.request(request));
        let mut timer = pin!(tokio::time::sleep_until(until.instant.min(until.begun + A_WHILE)));
        loop {
            tokio::select! {
                biased;
                response = &mut exchange => {
                    return Ok(response.map_err(|error| Failed::of(error, &connection, loan)));
                }
                fault = loan.faulted() => return Err(self.fault(fault)),
                () = &mut timer => {
                    let now = Instant::now();
                    if now >= until.instant {
                        return Err(if loan.awaits_caller() { Refusal::BodyTooSlow } else { Refusal::Timeout });
                    }
                    let next = match aside.is_probe() {
                        true if connection.connection_metadata().is_some() => {
                            aside.slow();
                            until.instant
                        }
                        // Connecting ends soon by itself, and then says something about the service.
                        true => until.instant.min(now + A_MOMENT),
                        false => until.instant,
                    };
                    timer.as_mut().reset(next);
                }
            }
        }
    }

    fn warn(&self, endpoint: &Endpoint, error: &hyper_util::client::legacy::Error, what: &'static str) {
        let endpoint = endpoint.authority.as_str();
        let error: &(dyn std::error::Error + 'static) = error;
        match self.warning.due(endpoint) {
            Some(more) => tracing::warn!(endpoint, error, more, "{what}"),
            None => tracing::debug!(endpoint, error, "{what}"),
        }
    }

    fn fault(&self, fault: BodyFault) -> Refusal {
        match fault {
            BodyFault::TooLarge => Refusal::BodyTooLarge { limit: self.body_limit },
            BodyFault::Broken => Refusal::BodyBroken,
        }
    }
}

/// The answer to a probe that takes longer than others wait for it. It has no place any more, but what comes of it counts
/// as if it had: once, and while the breaker is still half-open as it was when it let the probe through.
async fn late(
    ticket: Ticket,
    asking: impl Future<Output = Result<Result<Answered, Unanswered>, Said>>,
) -> Result<Answered, Refusal> {
    match asking.await {
        Ok(Ok(answered)) => {
            ticket.succeeded(Instant::now());
            Ok(answered)
        }
        Ok(Err(unanswered)) => {
            if unanswered.is_away() {
                ticket.failed(Instant::now());
            }
            unanswered.said()
        }
        Err(Said::Spoilt(refusal)) => Err(refusal),
        Err(Said::Hasty(answered)) => Ok(*answered),
        // It says so once.
        Err(Said::Slow(_)) => Err(Refusal::Unavailable),
    }
}

/// Whether the end of a request's time is the service's fault, which has had all of it since `fed`. One that answers others
/// is there: what hangs is this request, or its route, and must not close the service to the rest. Whoever is in a hurry
/// tells of his haste, until nobody is answered for as long as the route would give.
fn hangs(pool: &Pool, until: Until, fed: Instant) -> bool {
    let end = until.instant;
    end.saturating_duration_since(fed) >= until.enough()
        && !pool.has_answered_since(fed)
        && (!until.hurried || pool.is_silent_for(until.given, fed, end))
}

impl Call<'_> {
    /// Whether sending it twice does no more than sending it once: it only reads, or bears a key.
    fn is_repeatable(&self) -> bool {
        self.method.is_safe() || self.headers.contains_key("idempotency-key")
    }

    /// Until when the service has time. A policy's own end is kept here as well, where it can be seen who was late: the
    /// service, or the caller with his body; and a little before, so that it is seen.
    fn until(&self, begun: Instant, attempt: Duration) -> Until {
        match begun.checked_add(attempt - A_LITTLE.min(attempt / 10)) {
            Some(own) if own < self.deadline => Until { begun, instant: own, given: attempt, hurried: false },
            _ => Until { begun, instant: self.deadline, given: self.given, hurried: self.hurried },
        }
    }

    /// What an answer says about the service.
    fn judged(&self, answered: Answered) -> Judged {
        let head = &answered.0;
        if head.status().is_informational() {
            return Judged::Failed(Refusal::BrokeOff.into());
        }
        match blame::tells(head.status(), head.headers(), self.hurried) {
            Tells::Good => Judged::Good(answered),
            Tells::Haste => Judged::Hasty(answered),
            Tells::Failure(kind) => Judged::Failed(Unanswered::Said { kind, answer: Box::new(answered) }),
        }
    }

    fn request(&self, endpoint: &Endpoint, body: Outgoing, until: Instant) -> Request<Outgoing> {
        let mut uri = http::uri::Parts::default();
        uri.scheme = Some(Scheme::HTTP);
        uri.authority = Some(endpoint.authority.clone());
        uri.path_and_query = Some(self.target.clone());
        let mut request = Request::new(body);
        *request.method_mut() = self.method.clone();
        *request.uri_mut() = Uri::from_parts(uri).expect("a scheme, an authority and a path are a URI");
        *request.headers_mut() = self.headers.clone();
        // A second try has less time than the first.
        let left = until.saturating_duration_since(Instant::now()).as_millis();
        let left = u64::try_from(left).unwrap_or(u64::MAX).max(1);
        request.headers_mut().insert(REQUEST_TIMEOUT, left.into());
        request
    }
}
