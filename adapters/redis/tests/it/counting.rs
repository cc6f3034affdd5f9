//! What the server counts.

use std::time::Duration;

use purlin::message::new_id;
use purlin::resilience::lease::{Ask, Counter as _, Key, Memory};
use purlin_redis::Redis;
use tokio::time::Instant;

use crate::server::Server;
use crate::together::{PATIENT, a_moment, limit, two};

fn ask(key: &[u8], spent: u32, wanted: u32) -> Ask {
    let interval = Duration::from_secs(3600);
    Ask { key: Key::of("calls", key), interval, burst: 5, spent, wanted }
}

#[tokio::test]
async fn it_counts_as_the_counter_in_memory_does() {
    let Some(server) = Server::start() else { return };
    let (redis, memory) = (Redis::new(&server.url()).unwrap(), Memory::new());
    let (one, other) = (new_id(), new_id());
    for (process, key, spent, wanted) in [
        (one, "a", 0, 0),
        (one, "a", 1, 2),
        (other, "a", 1, 3),
        (other, "a", 3, 1),
        (one, "b", 0, 9),
        (one, "c", 20, 1),
        (other, "c", 0, 1),
    ] {
        let ask = ask(key.as_bytes(), spent, wanted);
        let got = redis.lease(process, vec![ask]).await.unwrap();
        let meant = memory.lease_at(Instant::now(), process, &[ask]);
        assert_eq!(got.processes, meant.processes);
        let (got, meant) = (got.grants[0], meant.grants[0]);
        assert_eq!(got.granted, meant.granted, "{key} {spent} {wanted}");
        assert!(got.full_in.abs_diff(meant.full_in) < Duration::from_secs(60), "{got:?} {meant:?}");
    }
}

#[tokio::test]
async fn many_keys_are_one_question_and_each_has_its_own_count() {
    let Some(server) = Server::start() else { return };
    let redis = Redis::new(&server.url()).unwrap();
    let asks: Vec<Ask> = (0..256_u32).map(|n| ask(&n.to_le_bytes(), 0, n % 7)).collect();
    let answer = redis.lease(new_id(), asks).await.unwrap();
    let granted: Vec<u32> = answer.grants.iter().map(|grant| grant.granted).collect();
    assert_eq!(granted, (0..256).map(|n| (n % 7).min(5)).collect::<Vec<u32>>());
}

#[tokio::test]
async fn fractions_of_microseconds_are_counted() {
    let Some(server) = Server::start() else { return };
    let redis = Redis::new(&server.url()).unwrap();
    for (nanos, burst) in [(333_333_334, 3), (1_999, 40_000), (1, 4_000_000_000)] {
        let interval = Duration::from_nanos(nanos);
        let ask = Ask { key: Key::of("calls", &nanos), interval, burst, spent: 0, wanted: burst };
        let grant = redis.lease(new_id(), vec![ask]).await.unwrap().grants[0];
        assert_eq!(grant.granted, burst);
        let full_in = interval.saturating_mul(burst);
        assert!(grant.full_in >= full_in && grant.full_in - full_in < Duration::from_micros(2), "{grant:?}");
    }
}

#[tokio::test]
async fn what_is_kept_goes_when_the_quota_is_full_and_bears_no_callers_name() {
    let Some(server) = Server::start() else { return };
    let mut client = server.client().await;
    two(&server, PATIENT, async |both| {
        let limit = limit(2.0, 2, &both);
        let long = vec![b'{'; 1 << 16];
        for key in [&b""[..], b"{}", b"ann", b"*", b"\0\r\nFLUSHALL\r\n", &[0xff, 0xfe, 0], &long] {
            let passed = [0, 1, 0, 1, 0, 1].map(async |at: usize| {
                let passed = limit[at].check(key, Instant::now()).is_ok();
                a_moment().await;
                passed
            });
            let mut count = 0;
            for one in passed {
                count += i32::from(one.await);
            }
            // Each alone would let two through; the last may not know of the one before.
            assert!((2..=3).contains(&count), "{key:?} {count}");
        }
        let names: Vec<String> = redis::cmd("KEYS").arg("*").query_async(&mut client).await.unwrap();
        assert!(names.iter().any(|name| name.starts_with("{purlin}:limit:")), "{names:?}");
        for name in names {
            let hex = name.strip_prefix("{purlin}:limit:").unwrap_or(&name[..32.min(name.len())]);
            let ours = name == "{purlin}:processes"
                || (hex.len() == 32 && hex.bytes().all(|byte| byte.is_ascii_hexdigit()));
            assert!(ours, "{name}");
            let left: i64 = redis::cmd("PTTL").arg(&name).query_async(&mut client).await.unwrap();
            assert!((-2..=5000).contains(&left) && left != -1, "{name} {left}");
        }
    })
    .await;
}

#[tokio::test]
async fn a_server_that_forgot_the_script_or_everything_is_told_again() {
    let Some(server) = Server::start() else { return };
    let mut client = server.client().await;
    let redis = Redis::new(&server.url()).unwrap();
    for command in [&["SCRIPT", "FLUSH"][..], &["FLUSHALL"]] {
        assert_eq!(redis.lease(new_id(), vec![ask(b"a", 0, 9)]).await.unwrap().grants.len(), 1);
        let () = redis::cmd(command[0]).arg(&command[1..]).query_async(&mut client).await.unwrap();
    }
    assert_eq!(redis.lease(new_id(), vec![ask(b"a", 0, 9)]).await.unwrap().grants[0].granted, 5);
}

#[tokio::test]
async fn a_clock_of_the_server_that_was_put_back_blocks_nobody_for_longer_than_two_bursts() {
    let Some(server) = Server::start() else { return };
    let mut client = server.client().await;
    let redis = Redis::new(&server.url()).unwrap();
    let ask = Ask { interval: Duration::from_millis(100), ..ask(b"a", 0, 1) };
    let (key, never) = (format!("{{purlin}}:limit:{}", ask.key), "9000000000000000");
    let () = redis::cmd("SET").arg(&key).arg(never).query_async(&mut client).await.unwrap();
    let () = redis::cmd("ZADD")
        .arg("{purlin}:processes")
        .arg(never)
        .arg("ghost")
        .query_async(&mut client)
        .await
        .unwrap();
    let answer = redis.lease(new_id(), vec![ask]).await.unwrap();
    assert_eq!((answer.processes, answer.grants[0].granted), (1, 0));
    let bound = Duration::from_millis(2 * 500 + 2 * 100);
    assert!(answer.grants[0].full_in <= bound, "{answer:?}");
}

#[tokio::test]
async fn a_key_that_holds_something_else_counts_anew_and_the_others_of_the_batch_are_answered() {
    let Some(server) = Server::start() else { return };
    let mut client = server.client().await;
    let redis = Redis::new(&server.url()).unwrap();
    let key = format!("{{purlin}}:limit:{}", ask(b"a", 0, 1).key);
    let () = redis::cmd("RPUSH").arg(&key).arg("x").query_async(&mut client).await.unwrap();
    let granted = async |asks: Vec<Ask>| {
        let answer = redis.lease(new_id(), asks).await.unwrap();
        answer.grants.iter().map(|grant| grant.granted).collect::<Vec<u32>>()
    };
    assert_eq!(granted(vec![ask(b"b", 0, 2), ask(b"a", 0, 4), ask(b"c", 0, 3)]).await, [2, 4, 3]);
    assert_eq!(granted(vec![ask(b"a", 0, 4)]).await, [1], "it is a count now");
    for nonsense in ["nonsense", "", "nan", "-nan", "inf", "-inf", "1e999"] {
        let () = redis::cmd("SET").arg(&key).arg(nonsense).query_async(&mut client).await.unwrap();
        let first = granted(vec![ask(b"a", 0, 4)]).await;
        // What is for ever ahead is a clock that was put back: no further than two bursts.
        assert!(
            first == [4] || (nonsense.contains("inf") || nonsense == "1e999") && first == [0],
            "{nonsense}: {first:?}"
        );
    }
}
