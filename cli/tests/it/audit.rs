//! `purlin streams audit`.

use std::io::{BufRead as _, BufReader, Read as _};
use std::process::{Child, Command, Stdio};

use purlin::message::Envelope;
use purlin::service::operator::{self, Served};
use purlin::service::{ServeConfig, serve};
use purlin::store::{Commit, Expected, Store, StreamId};
use serde_json::Value;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::process::{Folder, Process, Ran, World, command, purlin};
use crate::server::Server;

/// A follower that runs.
struct Follower {
    child: Child,
    err: BufReader<std::process::ChildStderr>,
}

impl Follower {
    /// Starts one, and waits until it follows.
    fn start(data: &Folder, arguments: &str) -> Self {
        let mut command = command(data, &format!("streams audit {arguments} --json"));
        let command = command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("the binary can be started");
        let err = BufReader::new(child.stderr.take().expect("piped"));
        let mut follower = Self { child, err };
        let line = follower.line();
        assert!(line.starts_with("following the log of orders"), "{line}");
        follower
    }

    /// The next line that it says on the way.
    fn line(&mut self) -> String {
        let mut line = String::new();
        self.err.read_line(&mut line).expect("UTF-8");
        line
    }

    fn signal(&self, name: &str) {
        let sent = Command::new("kill").args([&format!("-{name}"), &self.child.id().to_string()]).status();
        assert!(sent.expect("`kill` can be started").success());
    }

    /// What it says in the end.
    fn ended(mut self) -> Ran {
        let (mut out, mut err) = (String::new(), String::new());
        self.err.read_to_string(&mut err).expect("UTF-8");
        let mut piped = self.child.stdout.take().expect("piped");
        piped.read_to_string(&mut out).expect("UTF-8");
        let status = self.child.wait().expect("it ends");
        Ran { status: status.code().expect("it ends by itself"), out, err }
    }
}

impl Drop for Follower {
    /// One of a test that failed does not stay.
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Appends so many events to a stream.
async fn write(store: &Store, key: u64, events: u64) {
    let stream = StreamId::new("order", key).expect("a stream");
    for _ in 0..events {
        let event = Envelope::raw("order.placed", "1");
        store.commit(Commit::new().append(stream.clone(), Expected::Any, [event])).await.expect("a commit");
    }
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

/// The numbers of a report.
fn numbers(ran: &Ran) -> [u64; 4] {
    let answer = json(&ran.out);
    ["after", "through", "events", "found"].map(|name| answer[name].as_u64().expect("a number"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_in_a_file_is_audited_beside_its_process_and_without_one() {
    let data = Folder::new();
    let process = Process::start(&data, &World::mended()).await;
    process.place("a").await;
    for (signal, name) in [("INT", "b"), ("TERM", "c")] {
        let follower = Follower::start(&data, "--service orders --follow");
        for _ in 0..50 {
            process.place(name).await;
        }
        let head = process.orders.head().0;
        follower.signal(signal);
        let ran = follower.ended();
        let [after, through, events, found] = numbers(&ran);
        assert_eq!((ran.status, after, found), (0, 0, 0), "{}{}", ran.out, ran.err);
        assert!(through >= head && events == through, "{}", ran.out);
    }
    let told = purlin(&data, "streams audit --service orders --from 1").await;
    assert_eq!(told.status, 0, "{}", told.err);
    assert!(told.out.contains("behind position 1") && told.out.contains("no gap"), "{}", told.out);
    let doctor = purlin(&data, "doctor --log").await;
    assert!(doctor.out.contains("purlin streams audit"), "{}", doctor.out);
    let several = purlin(&data, "streams audit").await;
    assert!(several.status == 1 && several.err.contains("--service"), "{}", several.err);
    let ahead = purlin(&data, "streams audit --service orders --from 100000").await;
    assert!(ahead.status == 1 && ahead.err.contains("only reached"), "{}", ahead.err);
    assert_eq!(purlin(&data, "streams audit --service none").await.status, 3);
    assert_eq!(purlin(&data, "streams audit --service orders --now").await.status, 2);

    // It is no process's business that somebody follows, and nobody's that the process is gone.
    let follower = Follower::start(&data, "--service orders --now --follow");
    let before = process.orders.head().0;
    process.stop().await;
    let process = Process::start(&data, &World::mended()).await;
    process.place("d").await;
    process.stop().await;
    follower.signal("INT");
    let ran = follower.ended();
    let [after, through, ..] = numbers(&ran);
    assert_eq!(ran.status, 0, "{}{}", ran.out, ran.err);
    assert!(after <= before && through > before, "{}", ran.out);
    let stopped = purlin(&data, "streams audit --service orders --seconds 1 --json").await;
    assert_eq!((stopped.status, numbers(&stopped)[1]), (0, through), "{}", stopped.err);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gap_in_a_file_is_told_when_it_is_seen_and_makes_the_status_1() {
    let data = Folder::new();
    // Of a process that answers nobody.
    let store = purlin_sqlite::open(data.path().join("orders.db")).await.expect("a store");
    for key in 1..=3 {
        write(&store, key, 1).await;
    }
    let sql = "DELETE FROM _event WHERE position = 1";
    let mut sqlite = Command::new("sqlite3");
    let sqlite = sqlite.args(["-cmd", ".timeout 60000"]).arg(data.path().join("orders.db")).arg(sql);
    let Ok(deleted) = sqlite.output() else {
        eprintln!("skipped: there is no `sqlite3`");
        return;
    };
    assert!(deleted.status.success(), "{}", String::from_utf8_lossy(&deleted.stderr));
    let mut follower = Follower::start(&data, "--service orders --follow");
    let line = follower.line();
    assert!(line.starts_with("position 1: "), "{line}");
    write(&store, 4, 1).await;
    follower.signal("INT");
    let ran = follower.ended();
    assert_eq!((ran.status, numbers(&ran)[3]), (1, 1), "{}", ran.out);
    assert_eq!(json(&ran.out)["findings"][0]["position"], 1);
    let told = purlin(&data, "streams audit --service orders").await;
    assert!(told.status == 1 && told.out.contains("faults: 1"), "{}", told.out);
    store.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_in_a_database_is_audited_beside_its_writers() {
    let Some(server) = Server::start() else { return };
    let (data, url) = (Folder::new(), server.url());
    let open = async |name: &str| purlin_postgres::open(&url, name).await.expect("a store");
    let stores = [open("orders").await, open("orders").await];
    let others = open("others").await;
    let follower = Follower::start(&data, &format!("--store {url} --service orders --follow"));
    tokio::join!(write(&stores[0], 1, 50), write(&stores[1], 2, 50), write(&stores[1], 3, 50));
    follower.signal("TERM");
    let ran = follower.ended();
    assert_eq!((ran.status, numbers(&ran)), (0, [0, 150, 150, 0]), "{}{}", ran.out, ran.err);
    let several = purlin(&data, &format!("streams audit --store {url}")).await;
    assert!(several.status == 1 && several.err.contains("orders, others"), "{}", several.err);
    let none = purlin(&data, &format!("streams audit --store {url} --service none")).await;
    assert_eq!(none.status, 3, "{}", none.err);

    // Who has asked to end, and asks again, waits for nothing.
    let client = server.client().await;
    let mut follower = Follower::start(&data, &format!("--store {url}?service=orders --follow"));
    client.batch_execute("BEGIN; LOCK TABLE orders._hot IN ACCESS EXCLUSIVE MODE").await.expect("a lock");
    while follower.child.try_wait().expect("a child").is_none() {
        follower.signal("INT");
        std::thread::yield_now();
    }
    client.batch_execute("COMMIT").await.expect("it lets go");
    let ran = follower.ended();
    assert_eq!(
        (ran.status, numbers(&ran)[3]),
        (1, 0),
        "nothing was found, in a part: {}{}",
        ran.out,
        ran.err
    );
    assert_eq!(json(&ran.out)["complete"], Value::Bool(false));

    client
        .batch_execute(
            "DELETE FROM orders._hot WHERE position = 7; UPDATE orders._hot SET at = 1 WHERE position = 20",
        )
        .await
        .expect("it is damaged");
    let found = purlin(&data, &format!("streams audit --store {url}?service=orders --json")).await;
    let answer = json(&found.out);
    let positions = answer["findings"].as_array().expect("findings").iter();
    let positions: Vec<_> = positions.map(|finding| finding["position"].as_u64()).collect();
    assert!(
        found.status == 1 && positions.contains(&Some(7)) && positions.contains(&Some(20)),
        "{}",
        found.out
    );
    for store in stores {
        store.close().await;
    }
    others.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_whose_stores_are_elsewhere_is_said_to_have_them_there() {
    let data = Folder::new();
    let none = purlin(&data, "streams audit").await;
    assert!(none.status == 1 && none.err.contains("there is no data"), "{}", none.err);
    let listener = operator::listen(data.path()).expect("a socket");
    let router = operator::router([Served { name: "orders".into(), store: Store::memory() }]);
    let mut tasks = JoinSet::new();
    tasks.spawn(serve(listener, router, ServeConfig::default(), CancellationToken::new()));
    for said in ["streams audit", "streams audit --service orders"] {
        let elsewhere = purlin(&data, said).await;
        assert!(elsewhere.status == 1 && elsewhere.err.contains("--store"), "{}", elsewhere.err);
    }
}
