//! A second server that takes over, and a server that stops to take commits.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::future::join;
use purlin::message::Envelope;
use purlin::store::{Commit, Expected, LogFilter, Position, Store, StreamId};
use purlin_postgres::{Options, Postgres};
use tokio_postgres::Client;

use crate::faults::{hold, more};
use crate::server::{Server, until};

#[tokio::test(flavor = "multi_thread")]
async fn who_may_go_to_several_servers_goes_to_the_one_that_takes_commits() {
    let Some(one) = Server::start() else { return };
    let two = one.replica();
    let client = one.client().await;
    // From now on nothing is answered that is not safe on the other one too.
    client.batch_execute("ALTER SYSTEM SET synchronous_standby_names = '*'").await.expect("it is said");
    client.execute("SELECT pg_reload_conf()", &[]).await.expect("it is heard");
    let both = "SELECT count(*) FROM pg_stat_replication WHERE sync_state = 'sync'";
    until(&client, both, |count| count == 1).await;
    // The standby is named first: whoever meets it does not stay.
    let url = format!("postgres://postgres@{},{}/postgres", two.address(), one.address());
    let (first, second) = (&one, &two);
    hold(&url, "takeover", 2, |done| async move {
        more(&done, 300).await;
        first.kill();
        second.promote();
        more(&done, 300).await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_takes_no_commits_is_left_until_it_does() {
    let Some(server) = Server::start() else { return };
    let options = Options { patience: Duration::from_secs(60), ..Options::new(server.url(), "readonly") };
    let store = Store::new(Postgres::open(options).await.expect("a store"));
    let (stop, done) = (AtomicBool::new(false), AtomicUsize::new(0));
    let commits = async {
        let stream = StreamId::new("thing", 1).expect("a name");
        while !stop.load(Ordering::Relaxed) {
            let n = done.load(Ordering::Relaxed);
            let expected = Expected::Version(n as u64);
            let next = Commit::new().append(stream.clone(), expected, [Envelope::raw("thing.counted", "1")]);
            store.commit(next).await.expect("it waits for a server that takes it");
            done.fetch_add(1, Ordering::Relaxed);
        }
    };
    let harm = async {
        more(&done, 5).await;
        let client = server.client().await;
        let sessions = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'purlin readonly'";
        let before: i64 = client.query_one(sessions, &[]).await.expect("a number").get(0);
        set_read_only(&client, "on").await;
        // The writer leaves, and comes back only to a server that takes commits.
        until(&client, sessions, |count| count < before).await;
        set_read_only(&client, "off").await;
        more(&done, 5).await;
        server.restart_as_a_standby();
        server.promote();
        more(&done, 5).await;
        stop.store(true, Ordering::Relaxed);
    };
    join(commits, harm).await;
    let all = store.read_log(Position::START, &LogFilter::all(), 10_000).await.expect("readable").events;
    assert_eq!(all.len(), done.load(Ordering::Relaxed), "each happened once");
}

async fn set_read_only(client: &Client, value: &str) {
    let said = format!("ALTER SYSTEM SET default_transaction_read_only = {value}");
    client.batch_execute(&said).await.expect("it is said");
    client.execute("SELECT pg_reload_conf()", &[]).await.expect("it is heard");
}
