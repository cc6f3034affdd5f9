//! One request, from its head to the head of its answer.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use http::header::{AUTHORIZATION, HeaderName, HeaderValue};
use http::request::Parts;
use http::uri::PathAndQuery;
use http::{HeaderMap, Method, Request, Response, StatusCode, Version};
use http_body_util::Either;
use hyper::body::Incoming;
use purlin::http::timeout_of;
use purlin::message::{TraceContext, new_id};
use purlin::resilience::{Calls, Criticality, RateLimit, RateLimitConfig, SharedLimits, criticality};
use purlin::telemetry;
use purlin::telemetry::metrics::Metrics;
use serde_json::json;
use tokio::time::Instant;
use tokio_util::sync::DropGuard;

use crate::answer::{self, Body, Share};
use crate::auth::{Claims, Verifier, VerifyError};
use crate::config::{Config, Limits, Rate, Route};
use crate::core::{
    Caller, Checked, Forwarded, NoRoute, RateKey, Refusal, RouteTable, check, rewrite_request,
    rewrite_response,
};
use crate::listener::{REFUSED, RefusedHead};
use crate::seen::{Open, Seen};
use crate::tasks::Tasks;
use crate::unread::Unread;
use crate::upstream::{Call, Room, Upstreams};

/// All that answering a request takes.
#[derive(Debug)]
pub(crate) struct Exchanges {
    limits: Limits,
    routes: RouteTable,
    verifier: Option<Verifier>,
    rate: Option<RateLimit>,
    /// How many tokens that do not hold an address may show.
    tokens: Option<RateLimit>,
    /// The further limits of single routes, by their place in the table.
    route_rates: HashMap<usize, RateLimit>,
    /// The room of single routes, by their place in the table.
    route_rooms: HashMap<usize, Room>,
    upstreams: Upstreams,
    seen: Seen,
    /// Ends the connections to services.
    _end: DropGuard,
}

/// What is known of a request by the time it is answered, whoever answers it.
struct Notes {
    trace: TraceContext,
    /// Whether the trace was begun by the caller.
    continued: bool,
    request_id: String,
    route: Option<usize>,
    share: Option<Share>,
}

impl Exchanges {
    /// For a checked configuration.
    pub(crate) fn new(
        config: Config,
        verifier: Option<Verifier>,
        (calls, metrics): (&Calls, &Metrics),
        shared: Option<&SharedLimits>,
    ) -> Self {
        let (tasks, end) = Tasks::new();
        let keys = config.limits.rate_keys;
        let configured = |rate: Rate| {
            let per_second = f64::from(rate.per_second);
            RateLimitConfig { per_second, burst: rate.burst, max_keys: keys }
        };
        let limit = |name: &str, rate: Rate| match shared {
            Some(shared) => RateLimit::shared(name, configured(rate), shared),
            None => RateLimit::new(configured(rate)),
        };
        let of_route = |(at, route): (usize, &Route)| {
            // Gateways need not have the same routes at the same places.
            let name = format!("route {} {}", route.methods.join(","), route.path);
            Some((at, limit(&name, route.rate?)))
        };
        let help = "Requests of a route that services have in hand, where it has a limit of its own";
        let taken = metrics.gauge("gateway_route_under_way", help, ["route"]);
        let rooms = (0..config.routes.len()).filter_map(|at| {
            Some((at, Room::new(config.room_of(at)?, taken.with([&config.routes[at].path]))))
        });
        Self {
            route_rooms: rooms.collect(),
            route_rates: config.routes.iter().enumerate().filter_map(of_route).collect(),
            rate: config.rate.map(|rate| limit("callers", rate)),
            // It is this gateway's work that they cost.
            tokens: config.rate.map(|rate| RateLimit::new(configured(rate))),
            upstreams: Upstreams::new(&config.pools, &config.limits, &tasks, (calls, metrics)),
            seen: Seen::new(metrics),
            routes: RouteTable::new(config.routes),
            limits: config.limits,
            verifier,
            _end: end,
        }
    }

    pub(crate) fn limits(&self) -> &Limits {
        &self.limits
    }

    pub(crate) fn connection_opens(&self) -> Open {
        self.seen.connection_opens()
    }

    pub(crate) fn connection_refused(&self, peer: SocketAddr) {
        self.seen.connection_refused(peer);
    }

    /// Keeps the keys of tokens up to date, for ever.
    pub(crate) async fn keep_fresh(&self) {
        match &self.verifier {
            Some(verifier) => verifier.keep_fresh().await,
            None => std::future::pending().await,
        }
    }

    /// Whether requests can be let through: why not, otherwise.
    pub(crate) fn readiness(&self) -> Result<(), &'static str> {
        match &self.verifier {
            Some(verifier) if !verifier.has_keys() => Err("the keys of the token issuer are not known yet"),
            _ => Ok(()),
        }
    }

    /// Answers a request of `peer`; `refused` is the head that it stands for, if it is a stand-in.
    pub(crate) async fn answer(
        &self,
        peer: IpAddr,
        request: Request<Incoming>,
        refused: Option<&RefusedHead>,
    ) -> Response<Body> {
        let start = Instant::now();
        let (parts, body) = request.into_parts();
        let mut body = Unread::new(&parts.headers, body);
        let refused = refused.filter(|_| parts.method.as_str() == REFUSED);
        let (method, version) = (parts.method.clone(), parts.version);
        let path = refused.map_or_else(|| parts.uri.path(), |head| &head.target);
        let instance = if path.starts_with('/') { path.to_owned() } else { "/".to_owned() };
        let mut notes = Notes::new(&parts.headers);
        let trace = notes.trace;
        let work = async {
            let answered = match refused {
                Some(head) => Err(Refusal::Malformed(head.violation)),
                None => Box::pin(self.handle(peer, parts, &mut body, start, &mut notes)).await,
            };
            let mut response = match answered {
                Ok(response) => response,
                Err(refusal) => {
                    self.seen.refusal(&refusal, &instance);
                    let mut response = answer::refuse(&refusal, &instance, &method);
                    // A caller who is not told would send his next request into a connection that closes.
                    if answer::ends_connection(&refusal) || !body.drain(version).await {
                        answer::close(&mut response, version);
                    }
                    response
                }
            };
            notes.write(response.headers_mut());
            let route = notes.route.map_or("none", |at| &self.routes.routes()[at].path);
            self.seen.answer(route, &method, response.status(), start.elapsed());
            response
        };
        telemetry::in_trace(trace, work).await
    }

    /// The path of every request through the gateway, in order.
    async fn handle(
        &self,
        peer: IpAddr,
        parts: Parts,
        body: &mut Unread,
        start: Instant,
        notes: &mut Notes,
    ) -> Result<Response<Body>, Refusal> {
        // It can be read in one way only (and what cannot is counted as well),
        let checked = match check(&parts) {
            Ok(checked) => checked,
            Err(refusal) => return Err(self.limit_address(peer, start, notes).err().unwrap_or(refusal)),
        };
        if let Some(response) = self.own(&parts.method, &checked.path) {
            return Ok(response);
        }
        // comes from somebody who has not asked too often,
        let caller = self.limited_caller(peer, &parts.headers, start, notes).await?;
        // for something that is there
        let at = self.routes.pick(&parts.method, &checked.path).map_err(refuse_route)?;
        notes.route = Some(at);
        let route = &self.routes.routes()[at];
        // and is not guessed at from one address,
        limit(self.route_rates.get(&at), RateKey::of_address(peer), start, &mut notes.share)?;
        // which he may have,
        route.access.check(&caller)?;
        // with a body of a size that is taken,
        if checked.length.is_some_and(|length| length > self.limits.body_bytes) {
            return Err(Refusal::BodyTooLarge { limit: self.limits.body_bytes });
        }
        // and goes on to a service that answers in time.
        let call = self.call(peer, parts, &checked, at, start, notes);
        let (mut head, body) = self.upstreams.send(&call, body).await?.into_parts();
        rewrite_response(&mut head.headers);
        head.version = Version::HTTP_11;
        Ok(Response::from_parts(head, Either::Right(body)))
    }

    /// The gateway's own pages, for who watches over it.
    fn own(&self, method: &Method, path: &str) -> Option<Response<Body>> {
        let readable = matches!(*method, Method::GET | Method::HEAD);
        match path {
            "/livez" if readable => Some(answer::json(StatusCode::OK, &json!({ "alive": true }))),
            "/readyz" if readable => Some(match self.readiness() {
                Ok(()) => answer::json(StatusCode::OK, &json!({ "ready": true })),
                Err(why) => {
                    answer::json(StatusCode::SERVICE_UNAVAILABLE, &json!({ "ready": false, "reason": why }))
                }
            }),
            _ => None,
        }
    }

    /// Who asks, once his share allows it: the user's if his token holds, else the address's.
    ///
    /// A token that was not verified before costs us work. So an address may show only so many that do not hold, which
    /// are counted apart: those who share an address with many others keep their own shares, whatever the others do.
    async fn limited_caller(
        &self,
        peer: IpAddr,
        headers: &HeaderMap,
        start: Instant,
        notes: &mut Notes,
    ) -> Result<Caller, Refusal> {
        let caller = match self.verified(headers) {
            Some(claims) => Caller::Known(claims),
            None if headers.contains_key(AUTHORIZATION) => {
                let address = RateKey::of_address(peer);
                let mut share = None;
                if let Err(refusal) = limit(self.tokens.as_ref(), address, start, &mut share) {
                    notes.share = share;
                    return Err(refusal);
                }
                let caller = self.caller(headers).await;
                if let (Caller::Known(_), Some(tokens)) = (&caller, &self.tokens) {
                    tokens.give_back(&address);
                }
                caller
            }
            None => Caller::Anonymous,
        };
        limit(self.rate.as_ref(), caller.rate_key(peer), start, &mut notes.share)?;
        Ok(caller)
    }

    fn verified(&self, headers: &HeaderMap) -> Option<Arc<Claims>> {
        let token = headers.get(AUTHORIZATION).and_then(bearer)?;
        self.verifier.as_ref()?.verified(token)
    }

    fn limit_address(&self, peer: IpAddr, start: Instant, notes: &mut Notes) -> Result<(), Refusal> {
        limit(self.rate.as_ref(), RateKey::of_address(peer), start, &mut notes.share)
    }

    async fn caller(&self, headers: &HeaderMap) -> Caller {
        let (Some(verifier), Some(value)) = (&self.verifier, headers.get(AUTHORIZATION)) else {
            return Caller::Anonymous;
        };
        let Some(token) = bearer(value) else {
            return Caller::Refused("the Authorization header is not `Bearer <token>`".to_owned());
        };
        match verifier.verify(token).await {
            Ok(claims) => Caller::Known(claims),
            Err(VerifyError::Invalid(error)) => Caller::Refused(error.to_string()),
            Err(VerifyError::NoKeys) => Caller::Unverified,
        }
    }

    /// The request as a service gets it.
    fn call<'a>(
        &'a self,
        peer: IpAddr,
        parts: Parts,
        checked: &Checked,
        at: usize,
        start: Instant,
        notes: &Notes,
    ) -> Call<'a> {
        let (route, room) = (&self.routes.routes()[at], self.route_rooms.get(&at));
        let (given, timeout) = self.timeout(route, &parts.headers);
        let forwarded = Forwarded {
            peer,
            host: &checked.host,
            request_id: &notes.request_id,
            trace: notes.trace,
            continued: notes.continued,
            remaining: timeout.saturating_sub(start.elapsed()),
        };
        let mut headers = parts.headers;
        rewrite_request(&mut headers, &forwarded);
        write_criticality(&mut headers, route.criticality);
        let target = target(&checked.path, parts.uri.query());
        let (deadline, hurried) = (start + timeout, timeout < given);
        Call { pool: &route.pool, method: parts.method, target, headers, room, deadline, given, hurried }
    }

    /// How long a request may take: what the route gives, and that or less if the caller asks for less.
    fn timeout(&self, route: &Route, headers: &HeaderMap) -> (Duration, Duration) {
        let given = Duration::from_millis(route.timeout_ms.unwrap_or(self.limits.request_timeout_ms));
        let least = Duration::from_millis(1);
        (given, timeout_of(headers).map_or(given, |asked| asked.clamp(least, given.max(least))))
    }
}

/// Takes a request of a share, and notes what is left of the tighter one.
fn limit(
    rate: Option<&RateLimit>,
    key: RateKey<'_>,
    now: Instant,
    share: &mut Option<Share>,
) -> Result<(), Refusal> {
    let Some(rate) = rate else {
        return Ok(());
    };
    match rate.check(&key, now) {
        Ok(quota) => {
            *share = Some(Share::from(quota).tighter(*share));
            Ok(())
        }
        Err(limited) => {
            *share = Some(Share::from(limited));
            Err(Refusal::RateLimited { retry_after: limited.retry_after })
        }
    }
}

/// Says the class of a request, which is no higher than its route's.
fn write_criticality(headers: &mut HeaderMap, most: Criticality) {
    let said = headers.get(criticality::HEADER).and_then(|value| value.to_str().ok()?.parse().ok());
    let class = most.min(said.unwrap_or_default());
    if said.is_some() || class != Criticality::default() {
        headers.insert(criticality::HEADER, HeaderValue::from_static(class.as_str()));
    }
}

fn refuse_route(reason: NoRoute) -> Refusal {
    match reason {
        NoRoute::Path => Refusal::NotFound,
        NoRoute::Method { allow } => Refusal::MethodNotAllowed { allow },
    }
}

/// The token of an `Authorization: Bearer <token>` header (RFC 6750).
fn bearer(value: &HeaderValue) -> Option<&str> {
    let (scheme, token) = value.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim_start_matches(' '))
}

/// The path in its one spelling, with the query as it came.
fn target(path: &str, query: Option<&str>) -> PathAndQuery {
    let target = match query {
        Some(query) => format!("{path}?{query}"),
        None => path.to_owned(),
    };
    target.parse().expect("a normal path and a query that was parsed make a target")
}

impl Notes {
    fn new(headers: &HeaderMap) -> Self {
        let begun = headers.get("traceparent").and_then(|value| value.to_str().ok()?.parse().ok());
        let given = headers.get("x-request-id").and_then(|value| value.to_str().ok());
        Self {
            trace: begun.map_or_else(TraceContext::root, TraceContext::child),
            continued: begun.is_some(),
            request_id: given
                .filter(|id| is_request_id(id))
                .map_or_else(|| new_id().to_string(), str::to_owned),
            route: None,
            share: None,
        }
    }

    fn write(&self, headers: &mut HeaderMap) {
        let mut set = |name, value: &str| {
            if let Ok(value) = HeaderValue::from_str(value) {
                headers.insert(HeaderName::from_static(name), value);
            }
        };
        set("x-request-id", &self.request_id);
        set("traceparent", &self.trace.to_string());
        if let Some(share) = self.share {
            share.write(headers);
        }
    }
}

/// Whether a caller's id for his request may go into our logs: 8 to 64 letters, digits, `-`, `_` and `.`.
fn is_request_id(id: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    (8..=64).contains(&id.len()) && id.bytes().all(plain)
}
