//! Whose fault it is: what a service says, or leaves unsaid, and what callers do.

use std::time::Duration;

use http::{HeaderValue, Response, StatusCode};
use purlin::resilience::BreakerState;
use serde_json::json;
use tokio::time::Instant;

use super::{ENOUGH, GET, breaker, calls, is_open, state};
use crate::cascade::has_got;
use crate::world::{Answer, Running, Service, config, full, has_begun, passes};

const MS: Duration = Duration::from_millis(1);

/// What becomes of so many requests alike that are all with a service, after so long; it has had `before` others.
async fn after(
    time: Duration,
    count: usize,
    (gateway, request): (&Running, &str),
    (service, before): (&Service, usize),
) -> Vec<String> {
    let asked = futures_util::future::join_all((0..count).map(|_| gateway.ask(request)));
    let time = async {
        has_begun(service, before + count).await;
        passes(time).await;
    };
    let (asked, ()) = tokio::join!(asked, time);
    asked.iter().map(Answer::problem).collect()
}

#[tokio::test]
async fn what_a_service_says_of_itself_counts_and_what_it_says_of_others_or_of_a_request_does_not() {
    for (status, header, opens) in [
        (502, None, true),
        (503, None, true),
        (504, None, true),
        (502, Some(("purlin-fault-of", "another")), false),
        (503, Some(("purlin-fault-of", "another")), false),
        (504, Some(("purlin-fault-of", "another")), false),
        (503, Some(("purlin-fault-kind", "overloaded")), false),
        (500, None, false),
        (404, None, false),
        (429, None, false),
    ] {
        let service = Service::start(move |_| async move {
            let mut response = Response::new(full("said"));
            *response.status_mut() = StatusCode::from_u16(status).unwrap();
            if let Some((name, value)) = header {
                response.headers_mut().insert(name, value.parse().unwrap());
            }
            response
        })
        .await;
        let (calls, breakers) = calls(json!({}));
        let gateway = Running::calling(config(&[service.address]), &calls).await;
        for _ in 0..ENOUGH {
            let answer = gateway.ask(GET).await;
            assert_eq!((answer.status, answer.text()), (status, "said"), "what it says is passed on");
            for ours in ["purlin-fault-of", "purlin-fault-kind"] {
                assert_eq!(answer.header(ours), None, "whose fault it is is between it and us");
            }
        }
        let expected = if opens { BreakerState::Open } else { BreakerState::Closed };
        assert_eq!(state(&breakers), expected, "{status} {header:?}");
        if opens {
            is_open(&gateway.ask(GET).await);
            assert_eq!(service.got().len(), ENOUGH, "it got nothing more");
        }
    }
}

#[tokio::test]
async fn a_service_that_hangs_for_all_the_time_it_has_opens_its_breaker() {
    let hanging = Service::start(|_| std::future::pending()).await;
    let (calls, breakers) = calls(json!({}));
    let mut config = config(&[hanging.address]);
    config.limits.request_timeout_ms = 1000;
    let gateway = Running::calling(config, &calls).await;
    assert_eq!(after(1000 * MS, ENOUGH, (&gateway, GET), (&hanging, 0)).await, ["timeout"; ENOUGH]);
    assert_eq!(state(&breakers), BreakerState::Open);
    is_open(&gateway.ask(GET).await);
}

#[tokio::test]
async fn a_route_that_hangs_does_not_close_its_service_to_the_others() {
    let service = Service::start(|got| async move {
        match got.uri.path() {
            "/hanging" => std::future::pending().await,
            _ => Response::new(full("quick")),
        }
    })
    .await;
    let (calls, breakers) = calls(json!({}));
    let mut config = config(&[service.address]);
    config.limits.request_timeout_ms = 5000;
    let gateway = Running::calling(config, &calls).await;
    let hanging = "GET /hanging HTTP/1.1\r\nHost: shop\r\n\r\n";
    let asked = futures_util::future::join_all((0..3 * ENOUGH).map(|_| gateway.ask(hanging)));
    let others = async {
        has_begun(&service, 3 * ENOUGH).await;
        passes(2500 * MS).await;
        for _ in 0..ENOUGH {
            assert_eq!(gateway.ask(GET).await.text(), "quick");
        }
        passes(2500 * MS).await;
    };
    let (asked, ()) = tokio::join!(asked, others);
    assert!(asked.iter().all(|answer| answer.problem() == "timeout"));
    assert_eq!(state(&breakers), BreakerState::Closed);
    // With nobody answered, it is the service that hangs.
    let before = service.got().len();
    assert_eq!(after(5000 * MS, ENOUGH, (&gateway, hanging), (&service, before)).await, ["timeout"; ENOUGH]);
    assert_eq!(state(&breakers), BreakerState::Open);
}

#[tokio::test]
async fn a_policy_may_give_less_time_than_a_route() {
    let hanging = Service::start(|_| std::future::pending()).await;
    let (calls, breakers) = calls(json!({ "gateway-service": { "attempt": "1s" } }));
    let gateway = Running::calling(config(&[hanging.address]), &calls).await;
    assert_eq!(after(1000 * MS, ENOUGH, (&gateway, GET), (&hanging, 0)).await, ["timeout"; ENOUGH]);
    assert_eq!(state(&breakers), BreakerState::Open);
}

#[tokio::test]
async fn what_callers_do_opens_no_breaker() {
    let hanging = Service::start(|_| std::future::pending()).await;
    let (calls, breakers) = calls(json!({}));
    let mut config = config(&[hanging.address]);
    config.limits.body_bytes = 8;
    let gateway = Running::calling(config, &calls).await;
    // They hang up,
    for count in 1..=2 * ENOUGH {
        let mut caller = gateway.connect().await;
        caller.write(GET).await;
        has_got(&hanging, count).await;
    }
    // give next to no time,
    let hurried = "GET / HTTP/1.1\r\nHost: shop\r\nx-request-timeout-ms: 20\r\n\r\n";
    let asked = futures_util::future::join_all((0..2 * ENOUGH).map(|_| gateway.ask(hurried))).await;
    assert!(asked.iter().all(|answer| answer.problem() == "timeout"));
    // send too much,
    let large =
        "POST / HTTP/1.1\r\nHost: shop\r\nTransfer-Encoding: chunked\r\n\r\n9\r\n123456789\r\n0\r\n\r\n";
    for _ in 0..2 * ENOUGH {
        assert_eq!(gateway.ask(large).await.problem(), "body-too-large");
    }
    // or what is nothing,
    let broken = "POST / HTTP/1.1\r\nHost: shop\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n";
    for _ in 0..2 * ENOUGH {
        assert_eq!(gateway.ask(broken).await.problem(), "truncated-body");
    }
    // or too slowly.
    let slow = "POST / HTTP/1.1\r\nHost: shop\r\nContent-Length: 4\r\nx-request-timeout-ms: 2000\r\n\r\nx";
    let before = hanging.begun();
    let problems = after(2000 * MS, 2 * ENOUGH, (&gateway, slow), (&hanging, before)).await;
    assert!(problems.iter().all(|problem| problem == "body-too-slow"), "{problems:?}");
    let status = breaker(&breakers, "service").status(Instant::now());
    assert_eq!((status.state, status.failures), (BreakerState::Closed, 0));
}

#[tokio::test]
async fn a_body_that_comes_too_slowly_for_all_the_time_there_is_is_no_fault_of_the_service() {
    // The time is the route's, or the policy's.
    for (of_route, of_policy) in [(1000, "5s"), (10_000, "1s")] {
        let service = Service::named("service").await;
        let (calls, breakers) = calls(json!({ "gateway-service": { "attempt": of_policy } }));
        let mut config = config(&[service.address]);
        config.limits.request_timeout_ms = of_route;
        let gateway = Running::calling(config, &calls).await;
        let slow = "POST / HTTP/1.1\r\nHost: shop\r\nContent-Length: 4\r\n\r\nx";
        let problems = after(1000 * MS, 2 * ENOUGH, (&gateway, slow), (&service, 0)).await;
        assert!(problems.iter().all(|problem| problem == "body-too-slow"), "{problems:?}");
        assert_eq!(state(&breakers), BreakerState::Closed, "{of_policy}");
    }
}

#[tokio::test]
async fn a_body_that_ends_at_the_last_moment_is_no_fault_of_the_service() {
    let hanging = Service::start(|_| std::future::pending()).await;
    let (calls, breakers) = calls(json!({}));
    let mut config = config(&[hanging.address]);
    config.limits.request_timeout_ms = 5000;
    let gateway = Running::calling(config, &calls).await;
    let mut late = Vec::new();
    for _ in 0..2 * ENOUGH {
        let mut caller = gateway.connect().await;
        caller.write("POST / HTTP/1.1\r\nHost: shop\r\nContent-Length: 2\r\n\r\nx").await;
        late.push(caller);
    }
    has_begun(&hanging, late.len()).await;
    passes(4000 * MS).await;
    for caller in &mut late {
        caller.write("y").await;
    }
    has_got(&hanging, late.len()).await;
    passes(1000 * MS).await;
    for caller in &mut late {
        assert_eq!(caller.answer().await.problem(), "timeout");
    }
    let status = breaker(&breakers, "service").status(Instant::now());
    assert_eq!((status.state, status.failures), (BreakerState::Closed, 0));
}

#[tokio::test]
async fn nobody_keeps_a_hop_closed_by_giving_little_time() {
    let service = Service::start(|got| async move {
        let hurried = got.header("x-hurried").is_some();
        let mut response = Response::new(full("away"));
        *response.status_mut() =
            if hurried { StatusCode::GATEWAY_TIMEOUT } else { StatusCode::SERVICE_UNAVAILABLE };
        if hurried {
            response.headers_mut().insert("purlin-fault-of", HeaderValue::from_static("another"));
        }
        response
    })
    .await;
    let (calls, breakers) = calls(json!({}));
    let gateway = Running::calling(config(&[service.address]), &calls).await;
    let hurried = "GET / HTTP/1.1\r\nHost: shop\r\nx-hurried: 1\r\nx-request-timeout-ms: 9000\r\n\r\n";
    for _ in 0..ENOUGH {
        assert_eq!(state(&breakers), BreakerState::Closed);
        for _ in 0..2 {
            assert_eq!(gateway.ask(hurried).await.status, 504);
        }
        assert_eq!(gateway.ask(GET).await.status, 503);
    }
    assert_eq!(state(&breakers), BreakerState::Open);
}

#[tokio::test]
async fn an_answer_to_haste_is_no_sign_that_a_service_answers() {
    let service = Service::start(|got| async move {
        match got.uri.path() {
            "/hurried" => {
                let mut response = Response::new(full("too short"));
                *response.status_mut() = StatusCode::GATEWAY_TIMEOUT;
                response
            }
            _ => std::future::pending().await,
        }
    })
    .await;
    let (calls, breakers) = calls(json!({}));
    let mut config = config(&[service.address]);
    config.limits.request_timeout_ms = 2000;
    let gateway = Running::calling(config, &calls).await;
    let hanging = futures_util::future::join_all((0..ENOUGH).map(|_| gateway.ask(GET)));
    let hurried = async {
        has_got(&service, ENOUGH).await;
        let hurried = "GET /hurried HTTP/1.1\r\nHost: shop\r\nx-request-timeout-ms: 1900\r\n\r\n";
        assert_eq!(gateway.ask(hurried).await.text(), "too short");
        passes(2000 * MS).await;
    };
    let (hanging, ()) = tokio::join!(hanging, hurried);
    assert!(hanging.iter().all(|answer| answer.problem() == "timeout"));
    assert_eq!(state(&breakers), BreakerState::Open);
}

#[tokio::test]
async fn a_service_that_answers_nobody_is_found_out_though_its_callers_are_in_a_hurry() {
    let service = Service::start(|got| async move {
        match got.uri.path() {
            "/quick" => Response::new(full("quick")),
            _ => std::future::pending().await,
        }
    })
    .await;
    let (calls, breakers) = calls(json!({}));
    let mut config = config(&[service.address]);
    config.limits.request_timeout_ms = 5000;
    let gateway = Running::calling(config, &calls).await;
    let hurried = "GET / HTTP/1.1\r\nHost: shop\r\nx-request-timeout-ms: 3000\r\n\r\n";
    let all = async || {
        let problems = after(3000 * MS, 2 * ENOUGH, (&gateway, hurried), (&service, service.begun())).await;
        assert!(problems.iter().all(|problem| problem == "timeout"), "{problems:?}");
        state(&breakers)
    };
    // It may be their haste, as long as the route would have given more, or others are answered.
    assert_eq!(all().await, BreakerState::Closed);
    assert_eq!(gateway.ask("GET /quick HTTP/1.1\r\nHost: shop\r\n\r\n").await.text(), "quick");
    assert_eq!(all().await, BreakerState::Closed);
    assert_eq!(all().await, BreakerState::Open, "nobody was answered for longer than the route gives");
}
