//! Messages that two parsers read differently, and headers that a caller may not forge.

use crate::world::{Running, Service, config};

/// What follows a hostile message, as if it were part of its body or of the next.
const SMUGGLED: &str = "GET /smuggled HTTP/1.1\r\nHost: shop\r\n\r\n";

#[tokio::test]
async fn no_ambiguous_message_reaches_a_service() {
    let service = Service::named("service").await;
    let gateway = Running::start(config(&[service.address])).await;
    let chunks = "5\r\nhello\r\n0\r\n\r\n";
    for (hostile, status) in [
        ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
        ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n", 400),
        (
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n",
            400,
        ),
        (
            "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n",
            400,
        ),
        ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: identity, chunked\r\n\r\n", 400),
        ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\n", 400),
        ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\x0b\r\n\r\n", 400),
        ("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding : chunked\r\n\r\n", 400),
        ("POST / HTTP/1.1\r\nHost: a\r\nX: y\r\n Transfer-Encoding: chunked\r\n\r\n", 400),
        ("POST / HTTP/1.1\r\nHost: a\r\nX: y\nTransfer-Encoding: chunked\r\n\r\n", 400),
        ("POST / HTTP/1.1\r\nHost: a\r\nX: y\rTransfer-Encoding: chunked\r\n\r\n", 400),
        ("POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
        ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\n", 400),
        ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 0\r\n\r\n", 400),
        ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2, 2\r\n\r\n", 400),
        ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +5\r\n\r\n", 400),
        ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n", 400),
        ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5 5\r\n\r\n", 400),
        ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0x5\r\n\r\n", 400),
        ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 18446744073709551617\r\n\r\n", 400),
        ("POST / HTTP/1.1\r\nHost: a\r\nContent-Length:\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\n\r\n", 400),
        ("GET / HTTP/1.0\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost:\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: a@b\r\n\r\n", 400),
        ("GET http://b/ HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        ("GET / HTTP/1.1\nHost: a\n\n", 400),
        ("GET / HTTP/1.1\r\nHost: a\r\nX\0Y: z\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: a\r\nX: y\0z\r\n\r\n", 400),
        ("GET /\tx HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer a\r\nAuthorization: Bearer b\r\n\r\n", 400),
        ("GET / HTTP/1.3\r\nHost: a\r\n\r\n", 505),
        ("GET /\r\n\r\n", 400),
        ("\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        ("CONNECT shop:80 HTTP/1.1\r\nHost: shop:80\r\n\r\n", 501),
        ("TRACE / HTTP/1.1\r\nHost: a\r\n\r\n", 501),
        ("REFUSED / HTTP/1.1\r\nHost: a\r\n\r\n", 501),
        ("refused / HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        ("GET //admin HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        ("GET /a/%2e%2e/%2E./admin HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        ("GET /a%2f..%2fadmin HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        ("GET /a%5cadmin HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        ("GET /admin%00 HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        ("GET /admin;a=b HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        ("GET /%zz HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        ("OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", 400),
        ("POST / HTTP/1.1\r\nHost: a\r\nExpect: a miracle\r\n\r\n", 417),
    ] {
        let answer = gateway.ask(format!("{hostile}{chunks}{SMUGGLED}")).await;
        assert_eq!(answer.status, status, "{hostile:?}: {answer:?}");
        answer.problem();
    }
    assert!(service.got().is_empty(), "{:?}", service.got());
}

#[tokio::test]
async fn nothing_is_read_behind_a_malformed_head() {
    let service = Service::named("service").await;
    let gateway = Running::start(config(&[service.address])).await;
    let mut caller = gateway.connect().await;
    let hostile =
        "POST /b HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n";
    caller.write(format!("GET /a HTTP/1.1\r\nHost: a\r\n\r\n{hostile}{SMUGGLED}")).await;
    assert_eq!(caller.answer().await.text(), "service");
    let refused = caller.answer().await;
    assert_eq!((refused.status, refused.header("connection")), (400, Some("close")));
    assert!(refused.text().contains("\"/b\""), "{}", refused.text());
    assert!(caller.is_closed().await);
    assert_eq!(service.only().uri, "/a");
}

#[tokio::test]
async fn a_malformed_chunk_breaks_the_body_and_the_connection() {
    let service = Service::named("service").await;
    let gateway = Running::start(config(&[service.address])).await;
    for chunk in [
        "5;x=y\r\nhello\r\n",
        "5\nhello\r\n",
        "5\r\nhello!",
        "zz\r\n",
        "0\r\nX: y\r\n\r\n",
        "000000005\r\nhello\r\n",
    ] {
        let head = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
        let answer = gateway.ask(format!("{head}2\r\nok\r\n{chunk}0\r\n\r\n{SMUGGLED}")).await;
        assert_eq!((answer.status, answer.problem().as_str()), (400, "truncated-body"), "{chunk:?}");
    }
    assert!(service.got().iter().all(|got| got.body.is_none()), "{:?}", service.got());
}

#[tokio::test]
async fn a_service_believes_only_what_the_gateway_says() {
    let service = Service::named("service").await;
    let gateway = Running::start(config(&[service.address])).await;
    let request = "GET /x?a=b%2f HTTP/1.1\r\nHost: shop:80\r\nConnection: keep-alive, X-Forwarded-For, X-Secret\r\n\
        X-Forwarded-For: 1.1.1.1\r\nX-Forwarded-Host: evil\r\nX-Forwarded-Proto: https\r\nForwarded: for=1.1.1.1\r\n\
        X-Real-IP: 1.1.1.1\r\nX_Forwarded_For: 1.1.1.1\r\nX-User-Id: root\r\nX-Auth-Roles: admin\r\n\
        X-Original-URL: /admin\r\nX-Request-Timeout-Ms: 999999999\r\nX-Secret: 1\r\nKeep-Alive: 9\r\nTE: trailers\r\n\
        Upgrade: h2c\r\nHTTP2-Settings: AAAA\r\nProxy-Authorization: x\r\nAuthorization: Bearer mine\r\nX-Mine: 1\r\n\r\n";
    assert_eq!(gateway.ask(request).await.status, 200);
    let got = service.only();
    assert_eq!((got.method.as_str(), got.uri.to_string().as_str()), ("GET", "/x?a=b%2f"));
    assert_eq!(got.header("host"), Some(service.address.to_string().as_str()));
    assert_eq!(got.header("x-forwarded-for"), Some("127.0.0.1"));
    assert_eq!(got.header("x-forwarded-host"), Some("shop:80"));
    assert_eq!(got.header("x-forwarded-proto"), Some("http"));
    assert_eq!(got.header("authorization"), Some("Bearer mine"));
    assert_eq!(got.header("x-mine"), Some("1"));
    assert!(got.header("x-request-timeout-ms").unwrap().parse::<u64>().unwrap() <= 15_000);
    for gone in [
        "forwarded",
        "x-real-ip",
        "x_forwarded_for",
        "x-user-id",
        "x-auth-roles",
        "x-original-url",
        "x-secret",
        "keep-alive",
        "te",
        "upgrade",
        "http2-settings",
        "proxy-authorization",
        "connection",
    ] {
        assert_eq!(got.header(gone), None, "{gone}");
    }
}

#[tokio::test]
async fn every_spelling_of_a_path_meets_the_same_rule() {
    let service = Service::named("service").await;
    let mut config = config(&[service.address]);
    config.tokens = Some(purlin_gateway::config::Tokens {
        jwks_url: "http://127.0.0.1:1/keys".into(),
        issuer: None,
        audience: None,
        skew_s: 0,
    });
    let admin = purlin_gateway::core::Access::Role("admin".into());
    config.routes.push(purlin_gateway::config::Route::new("/admin", admin, "service"));
    let gateway = Running::start(config).await;
    for path in [
        "/admin",
        "/admin/",
        "/admin/ledger",
        "/%61dmin",
        "/products/../admin",
        "/products/%2e%2e/admin",
        "/./admin",
    ] {
        let answer = gateway.ask(format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n")).await;
        assert_eq!((answer.status, answer.problem().as_str()), (401, "unauthorized"), "{path}");
        assert_eq!(answer.header("www-authenticate"), Some("Bearer"));
    }
    assert!(service.got().is_empty());
    assert_eq!(gateway.ask("GET /administrator HTTP/1.1\r\nHost: a\r\n\r\n").await.status, 200);
}

#[tokio::test]
async fn a_head_that_is_too_large_or_too_slow_is_refused() {
    let service = Service::named("service").await;
    let mut config = config(&[service.address]);
    config.limits.head_timeout_ms = 100;
    let gateway = Running::start(config).await;
    let large = format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", "x".repeat(20 << 10));
    assert_eq!(gateway.ask(large).await.status, 431);
    let many = format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "X: y\r\n".repeat(150));
    assert_eq!(gateway.ask(many).await.status, 431);

    let most = format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "X: y\r\n".repeat(89));
    assert_eq!(gateway.ask(most).await.text(), "service");
    assert_eq!(service.only().headers.get_all("x").iter().count(), 89);

    let slow = gateway.ask("GET /slow HTTP/1.1\r\nHost: a\r\nX: ").await;
    assert_eq!((slow.status, slow.problem().as_str()), (408, "request-too-slow"));
    let mut silent = gateway.connect().await;
    assert!(silent.is_closed().await);
    assert_eq!(service.got().len(), 1);
}
