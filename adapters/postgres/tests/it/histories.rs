//! Histories of several processes on one store while processes, connections and the server are killed.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::future::{join, join_all};
use futures_util::stream::{self, StreamExt};
use purlin::store::{ReadError, Store};
use purlin::testing::Dice;
use purlin::testing::gaps::{gapless, how_long};
use purlin::testing::history::{Counts, History, Journal, Workload, how_many};
use tokio::net::TcpListener;
use tokio::sync::RwLock;

use crate::proxy::Proxy;
use crate::server::Server;

/// Tells the child what to do: where its store is and how it is called, the journal, the seed, the number of its
/// process. Without it `the_child` has nothing to do.
const LIFE: &str = "PURLIN_TEST_LIFE";

/// What the child says when its clients are about to begin.
const READY: &str = "child: ready";

/// Lets clients work until it is killed.
#[test]
fn the_child() {
    let Ok(life) = std::env::var(LIFE) else { return };
    let [url, name, journal, seed, process] = life.split('|').collect::<Vec<_>>()[..] else {
        panic!("`{life}` tells no life");
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let store = purlin_postgres::open(url, name).await.unwrap();
        let journal = Journal::file(Path::new(journal), process.parse().unwrap()).unwrap();
        let mut out = std::io::stdout().lock();
        writeln!(out, "\n{READY}").and_then(|()| out.flush()).unwrap();
        drop(out);
        let workload = Workload { operations: 1_000_000, ..Workload::drawn(seed.parse().unwrap()) };
        workload.run(&store, &journal).await;
    });
}

/// One history under way.
struct Life<'a> {
    /// Held to write by who kills it, to read by who needs it.
    server: &'a RwLock<Server>,
    proxy: Proxy,
    seed: u64,
    name: String,
    journal: PathBuf,
    dice: Dice,
}

/// The number of the process that is killed; the other two are in this one.
const MORTAL: u32 = 3;

impl Life<'_> {
    /// Whatever can be killed is killed at some moment.
    async fn harm(&mut self) {
        let mut child = if self.dice.percent(60) { Some(self.start_a_process().await) } else { None };
        for _ in 0..1 + self.dice.below(4) {
            self.a_moment().await;
            match self.dice.below(100) {
                0..45 => self.cut_connections().await,
                45..92 => self.proxy.lose_a_reply(),
                _ => {
                    let server = self.server.write().await;
                    tokio::task::block_in_place(|| {
                        server.kill();
                        server.boot();
                    });
                }
            }
        }
        if let Some(child) = &mut child {
            // Long enough for it to be connected again.
            self.a_moment().await;
            self.a_moment().await;
            self.kill(child).await;
        }
    }

    async fn a_moment(&mut self) {
        tokio::time::sleep(Duration::from_millis(self.dice.below(40))).await;
    }

    async fn start_a_process(&self) -> Child {
        let server = self.server.read().await;
        let url = format!("{}?application_name={}", server.url(), self.mortal());
        let life = format!("{url}|{}|{}|{}|{MORTAL}", self.name, self.journal.display(), self.seed);
        let mut child = Command::new(std::env::current_exe().expect("a test is a program"))
            .args(["histories::the_child", "--exact", "--nocapture"])
            .env(LIFE, life)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("this program can be started");
        let lines = BufReader::new(child.stdout.take().expect("a pipe")).lines();
        let ready = move || lines.map_while(Result::ok).any(|line| line == READY);
        assert!(tokio::task::spawn_blocking(ready).await.expect("reading ends"), "the child ended");
        child
    }

    /// What the server calls the process that is killed.
    fn mortal(&self) -> String {
        format!("mortal-{}", self.seed)
    }

    /// Kills a process; what it has sent may still happen until the server has let go of its connections.
    async fn kill(&self, child: &mut Child) {
        child.kill().expect("it is a child of this process");
        child.wait().expect("it is a child of this process");
        let server = self.server.read().await;
        let client = server.client().await;
        let end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = $1";
        while !client.query(end, &[&self.mortal()]).await.expect("the server is up").is_empty() {
            tokio::task::yield_now().await;
        }
        Journal::file(&self.journal, 0).expect("the journal is there").gone(MORTAL);
    }

    async fn cut_connections(&mut self) {
        let cut = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
                   WHERE application_name = ANY($1) AND random() < 0.7";
        let names = [format!("purlin {}", self.name), self.mortal()];
        let server = self.server.read().await;
        server.client().await.execute(cut, &[&&names[..]]).await.expect("cut");
    }
}

async fn history(server: &RwLock<Server>, seed: u64) -> Counts {
    let name = format!("history{seed}");
    let journal = PathBuf::from(format!("{}-{seed}.jsonl", std::env::temp_dir().join(unique()).display()));
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
    let beside = format!("postgres://postgres@{}/postgres", listener.local_addr().expect("it is bound"));
    let (proxy, dice) = (Proxy::default(), Dice::new(seed));
    let (url, address) = {
        let server = server.read().await;
        (server.url(), server.address())
    };
    let mut life =
        Life { server, proxy: proxy.clone(), seed, name: name.clone(), journal: journal.clone(), dice };
    let lived = async {
        let open = async || {
            // Others, on the same server, do not kill it meanwhile.
            let _server = server.read().await;
            let one = purlin_postgres::open(&url, &name).await.expect("a store");
            let other = purlin_postgres::open(&beside, &name).await.expect("the same, by another way");
            Workload::prepare(&one).await.expect("the collections can be made");
            (one, other)
        };
        let (one, other) = open().await;
        let workload = Workload { operations: 40, ..Workload::drawn(seed) };
        let work = async |store: &Store, process| {
            let journal = Journal::file(&journal, process).expect("the journal can be written");
            workload.run(store, &journal).await;
        };
        join(life.harm(), join(work(&one, 1), work(&other, 2))).await;
        let last = Journal::file(&journal, 4).expect("the journal is there");
        Workload { operations: 2, ..workload }.run(&one, &last).await;
        let _server = server.read().await;
        // A server that has just come up may take longer to get ready than a read waits.
        let finished = async {
            while let Err(error) = Workload::finish(&one, &last).await {
                assert!(matches!(error, ReadError::Unavailable(_)), "what is left can be read: {error:?}");
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(60), finished).await.expect("the server is up");
        one.close().await;
        other.close().await;
    };
    tokio::select! {
        () = lived => {}
        () = proxy.serve(listener, address) => {}
    }
    let counts = History::read(&journal).expect("a journal").insist(seed);
    std::fs::remove_file(journal).expect("it was written");
    counts
}

fn unique() -> String {
    format!("purlin-history-{}", purlin::message::new_id())
}

#[tokio::test(flavor = "multi_thread")]
async fn histories_of_killed_processes_servers_and_connections_are_linearizable() {
    let Some(server) = Server::start() else { return };
    let server = RwLock::new(server);
    // Several at once: who kills the server kills it for all of them.
    let histories = stream::iter(0..how_many(24)).map(|seed| history(&server, seed)).buffer_unordered(6);
    let all = histories.fold(Counts::default(), |all, one| std::future::ready(all + one)).await;
    println!("{all:?}");
    assert!(all.applied > 100 && all.conflicts > 0 && all.in_vain > 0 && all.reads > 0, "{all:?}");
    assert!(all.met > 0 && all.excluded > 0, "conditions were met, and some were not: {all:?}");
}

/// Sessions that write other tables of the same database, some quickly, some with transactions that stay open.
async fn others(server: &Server, stop: &AtomicBool) {
    let client = server.client().await;
    client.batch_execute("CREATE TABLE other(n bigserial PRIMARY KEY, data text)").await.expect("a table");
    let quick = async || {
        let client = server.client().await;
        while !stop.load(Ordering::Relaxed) {
            client.execute("INSERT INTO other(data) VALUES('quick')", &[]).await.expect("a row");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    let slow = async |isolation: &str| {
        let client = server.client().await;
        while !stop.load(Ordering::Relaxed) {
            let begin = format!("BEGIN ISOLATION LEVEL {isolation}; INSERT INTO other(data) VALUES('slow')");
            client.batch_execute(&begin).await.expect("begun");
            client.batch_execute("SELECT pg_sleep(0.4); COMMIT").await.expect("committed");
        }
    };
    let slow = ["READ COMMITTED", "REPEATABLE READ", "SERIALIZABLE"].map(slow);
    join(join(quick(), quick()), join_all(slow)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_of_several_processes_has_no_gap() {
    let Some(server) = Server::start() else { return };
    let mut stores = Vec::new();
    for _ in 0..3 {
        stores.push(purlin_postgres::open(server.url(), "gaps").await.expect("a store"));
    }
    let stop = AtomicBool::new(false);
    let write = async {
        let seen = gapless(&stores, how_long(Duration::from_secs(3))).await;
        stop.store(true, Ordering::Relaxed);
        seen
    };
    let (seen, ()) = join(write, others(&server, &stop)).await;
    println!("{} commits, {} events; {}", seen.commits, seen.events, seen.readers[0]);
    assert!(seen.readers.iter().all(|followed| followed.looks > 0), "each reader looked behind itself");
}
