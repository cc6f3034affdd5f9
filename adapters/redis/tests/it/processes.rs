//! Two who share one limit: never more together than is said, and about the same for each.

use std::process::{Command, Stdio};
use std::time::Duration;

use purlin::resilience::{RateLimit, RateLimitConfig};
use tokio::time::Instant;

use crate::server::Server;
use crate::together::{PATIENT, limit, limits, real_time, two, until};

const PER_SECOND: f64 = 100.0;
const BURST: u32 = 20;

/// What the two may let through in a span: the burst and the rate, and the slack that is stated in `purlin::resilience`.
fn bound(span: Duration) -> u32 {
    let slack = PATIENT.life + PATIENT.deadline;
    BURST + 2 * BURST.div_ceil(2) + ((span + slack).as_secs_f64() * PER_SECOND) as u32
}

/// What asking two times as often as the limit is lets through: a pace, and how long it is kept, are real time.
async fn hammer(limit: &RateLimit, span: Duration) -> u32 {
    let (start, mut passed) = (Instant::now(), 0);
    while start.elapsed() < span {
        passed += u32::from(limit.check("ann", Instant::now()).is_ok());
        real_time(Duration::from_millis(4)).await;
    }
    passed
}

#[tokio::test(flavor = "multi_thread")]
async fn two_instances_keep_one_limit() {
    let Some(server) = Server::start() else { return };
    two(&server, PATIENT, async |both| {
        let limit = limit(PER_SECOND, BURST, &both);
        let (start, span) = (Instant::now(), Duration::from_secs(5));
        let (one, other) = tokio::join!(hammer(&limit[0], span), hammer(&limit[1], span));
        let span = start.elapsed();
        assert!(one + other <= bound(span), "{one} + {other} in {span:?}");
        // Without sharing it would be twice the limit, which is more than the bound; and nothing is lost either.
        assert!(bound(span) < (2.0 * PER_SECOND * span.as_secs_f64()) as u32 + 2 * BURST);
        assert!(one + other >= (span.as_secs_f64() * PER_SECOND * 0.8) as u32, "{one} + {other}");
        assert!(one * 4 >= one + other && other * 4 >= one + other, "{one} and {other}");
    })
    .await;
}

#[tokio::test]
async fn two_processes_keep_one_limit() {
    let Some(server) = Server::start() else { return };
    let start = Instant::now();
    let children = [(); 2].map(|()| {
        Command::new(std::env::current_exe().expect("this program"))
            .args(["processes::a_process_of_the_test_before", "--exact", "--nocapture"])
            .env("PURLIN_REDIS_TEST_URL", server.url())
            .stdout(Stdio::piped())
            .spawn()
            .expect("this program can be started again")
    });
    let passed = children.map(|child| {
        let output = child.wait_with_output().expect("it ends");
        assert!(output.status.success());
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let number = text.lines().find_map(|line| line.split("passed=").nth(1)?.parse::<u32>().ok());
        number.unwrap_or_else(|| panic!("it says how many passed: {text}"))
    });
    let (together, span) = (passed[0] + passed[1], start.elapsed());
    assert!(together <= bound(span), "{passed:?} in {span:?}");
    assert!(passed.iter().all(|one| *one >= 100), "{passed:?}");
}

/// Not a test of its own: what a process of the test before does.
#[tokio::test]
async fn a_process_of_the_test_before() {
    let Some(url) = std::env::var_os("PURLIN_REDIS_TEST_URL") else { return };
    let limits = limits(url.to_str().expect("an URL of ours"), PATIENT);
    let config = RateLimitConfig { per_second: PER_SECOND, burst: BURST, max_keys: 10 };
    let limit = RateLimit::shared("calls", config, &limits);
    let work = async {
        until(|| limits.status().processes == 2).await;
        println!("passed={}", hammer(&limit, Duration::from_secs(4)).await);
    };
    tokio::select! {
        () = limits.run() => {}
        () = work => {}
    }
}
