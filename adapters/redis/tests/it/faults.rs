//! A server that is away, slow, or back.

use std::time::Duration;

use purlin::resilience::{RateLimit, RateLimitConfig};
use tokio::time::Instant;

use crate::server::Server;
use crate::together::{a_moment, limit, limits, real_time, two, until, usual};

/// A check never waits; this is what a busy machine may take to come round to it.
const AT_ONCE: Duration = Duration::from_millis(300);

fn passes(limit: &RateLimit, key: &str) -> bool {
    let start = Instant::now();
    let passed = limit.check(key, start).is_ok();
    assert!(start.elapsed() < AT_ONCE, "a check took {:?}", start.elapsed());
    passed
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_server_fails_no_request_and_is_used_again_when_it_is_back() {
    let Some(mut server) = Server::start() else { return };
    let both = [(); 2].map(|()| limits(&server.url(), usual()));
    let [one, other] = both.clone();
    let work = async {
        until(|| both.iter().all(|one| one.status().processes == 2)).await;
        let limit = limit(100.0, 50, &both);
        // A caller who asks for half of the rate, in turn at both, notices nothing of what follows.
        let (stop, mut stopped) = tokio::sync::oneshot::channel::<()>();
        let caller = async {
            for n in 0.. {
                assert!(passes(&limit[n % 2], "ann"), "request {n} was refused");
                tokio::select! {
                    // His pace is the subject: half of the rate.
                    () = a_moment() => {}
                    _ = &mut stopped => return,
                }
            }
        };
        let trouble = async {
            for round in 1..=3 {
                server.kill();
                for limits in &both {
                    limits.until_alone().await;
                    let status = limits.status();
                    assert!(!status.shared && status.lost >= round && status.reason.is_some(), "{status:?}");
                }
                // Alone, each has half.
                let passed = (0..200).filter(|_| passes(&limit[0], &format!("bob{round}"))).count();
                assert!((25..100).contains(&passed), "{passed}");
                server.boot();
                for limits in &both {
                    limits.until_shared().await;
                }
            }
            let _ = stop.send(());
        };
        tokio::join!(caller, trouble);
        // It is one limit again.
        let mut passed = 0;
        for n in 0..400 {
            passed += i32::from(passes(&limit[n % 2], "cid"));
            // Forty times, so that each hears of the other: the bound has what that earns.
            if n % 10 == 0 {
                a_moment().await;
            }
        }
        assert!(passed <= 50 + 50 + 300, "{passed}");
    };
    tokio::select! {
        () = one.run() => {}
        () = other.run() => {}
        () = work => {}
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_does_not_answer_slows_nobody_down() {
    let Some(server) = Server::start() else { return };
    two(&server, usual(), async |both| {
        let limit = limit(100.0, 50, &both);
        assert!(passes(&limit[0], "ann"));
        until(|| both.iter().all(|one| one.status().shared)).await;
        server.hold();
        let start = Instant::now();
        let mut alone = None;
        // What is held is noticed by nothing but time, and the requests of half a second of it are looked at.
        while start.elapsed() < Duration::from_millis(500) {
            // Half of the rate, which is this one's part.
            assert!(passes(&limit[0], "ann"), "after {:?}", start.elapsed());
            real_time(Duration::from_millis(20)).await;
            if alone.is_none() && !both[0].status().shared {
                alone = Some(start.elapsed());
            }
        }
        assert!(alone.is_some_and(|after| after < Duration::from_millis(400)), "{alone:?}");
        server.go_on();
        for limits in &both {
            limits.until_shared().await;
        }
        assert!(passes(&limit[0], "ann"));
    })
    .await;
}

#[tokio::test]
async fn where_no_server_is_a_process_begins_alone_with_all_of_the_limit() {
    let Some(mut server) = Server::start() else { return };
    server.kill();
    let limits = limits(&server.url(), usual());
    let config = RateLimitConfig { per_second: 1.0, burst: 10, max_keys: 10 };
    let limit = RateLimit::shared("calls", config, &limits);
    let work = async {
        until(|| limits.status().reason.is_some()).await;
        let status = limits.status();
        assert!(status.reason.unwrap().starts_with("cannot connect to Redis: "));
        assert_eq!((0..20).filter(|_| passes(&limit, "ann")).count(), 10);
        server.boot();
        limits.until_shared().await;
    };
    tokio::select! {
        () = limits.run() => {}
        () = work => {}
    }
}
