//! `purlin breakers`, on the socket of a process.

use purlin::resilience::{BreakerConfig, BreakerState, Breakers, Calls, Policies, PolicyError};
use purlin::service::operator::{self, OperatedCalls};
use purlin::service::{ServeConfig, serve};
use serde_json::Value;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::process::{Folder, command, purlin};

#[tokio::test(flavor = "multi_thread")]
async fn whoever_holds_a_breaker_may_say_why() {
    let (folder, breakers) = (Folder::new(), Breakers::new());
    let payments = breakers.breaker("payments", BreakerConfig::default());
    let calls = Calls::new(Policies::built_in(), &breakers);
    let operated = OperatedCalls::new(&calls, || Ok::<_, PolicyError>(Policies::built_in()));
    let listener = operator::listen(folder.path()).expect("a socket");
    let mut serving = JoinSet::new();
    let router = operator::process([], operated);
    serving.spawn(serve(listener, router, ServeConfig::default(), CancellationToken::new()));

    let mut open = command(&folder, "breakers open payments");
    open.args(["--reason", "it loses answers"]);
    let held = tokio::task::spawn_blocking(move || open.output()).await.expect("no panic").expect("it runs");
    assert!(held.status.success(), "{}", String::from_utf8_lossy(&held.stderr));
    let status = payments.status(Instant::now());
    assert_eq!(status.state, BreakerState::Open);
    assert_eq!(
        (status.forced_by.as_deref(), status.forced_why.as_deref()),
        (Some("operator"), Some("it loses answers"))
    );
    let listed = purlin(&folder, "breakers list").await;
    assert!(listed.out.contains("it loses answers"), "{}{}", listed.out, listed.err);

    // It need not be said.
    let reset = purlin(&folder, "breakers reset payments --json").await;
    let answer: Value = serde_json::from_str(&reset.out).expect("JSON");
    assert_eq!((reset.status, &answer["state"]), (0, &Value::from("closed")));
    assert_eq!(payments.status(Instant::now()).state, BreakerState::Closed);
}
