//! A disk that takes no more: what was refused did not happen, what was answered did, and the store goes on by itself.
//!
//! The disk of a child process is full when its files reach a limit that the system sets (`RLIMIT_FSIZE`), and has
//! room again when the limit is lifted.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

use purlin::message::Envelope;
use purlin::store::{Commit, Expected, Store, StreamId};
use purlin_sqlite::{Options, Sqlite};
use tokio::task::JoinSet;

use crate::folder::Folder;

/// Names the store's file to the child; without it `the_child` has nothing to do.
const FILE: &str = "PURLIN_TEST_STORE";

/// What the child's lines begin with, so that those of the test runner are told apart.
const MARK: &str = "child: ";

/// Longer than the store rests between two looks at an unwell disk.
const SOON: Duration = Duration::from_secs(2);

fn stream(n: u64) -> StreamId {
    StreamId::new("thing", n).expect("a name")
}

/// Appends when it is told to, in a process of its own.
#[test]
fn the_child() {
    let Ok(file) = std::env::var(FILE) else { return };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let store = Store::new(Sqlite::open(Options::new(file)).await.unwrap());
        say("ready");
        let mut begun = JoinSet::new();
        for line in std::io::stdin().lines() {
            match line.unwrap().split_once(' ') {
                Some(("append", n)) => say(&append(&store, n.parse().unwrap()).await),
                Some(("try", n)) => {
                    let soon = tokio::time::timeout(SOON, append(&store, n.parse().unwrap()));
                    say(&soon.await.unwrap_or_else(|_| "waits".to_owned()));
                }
                Some(("begin", n)) => {
                    let (store, n) = (store.clone(), n.parse().unwrap());
                    begun.spawn(async move { append(&store, n).await });
                    say("begun");
                }
                Some(("end", _)) => say(&begun.join_next().await.unwrap().unwrap()),
                Some(("read", n)) => {
                    let events = store.read_stream(&stream(n.parse().unwrap()), 1, 10).await.unwrap();
                    say(&events.len().to_string());
                }
                _ => break,
            }
        }
        store.close().await;
        say("closed");
    });
}

async fn append(store: &Store, n: u64) -> String {
    let large = format!("\"{}\"", "x".repeat(60_000));
    let commit = Commit::new().append(stream(n), Expected::NoStream, [Envelope::raw("thing.grown", large)]);
    match store.commit(commit).await {
        Ok(_) => "done".to_owned(),
        Err(error) => format!("refused: {error}"),
    }
}

fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    writeln!(out, "\n{MARK}{line}").and_then(|()| out.flush()).expect("the parent listens");
}

struct Parent {
    child: Child,
    to: ChildStdin,
    from: BufReader<ChildStdout>,
}

impl Parent {
    fn start(file: &std::path::Path) -> Self {
        // The signal that the system sends with the error would end the process.
        let mut child = Command::new("sh")
            .args(["-c", "trap '' XFSZ; exec \"$0\" full_disk::the_child --exact --nocapture"])
            .arg(std::env::current_exe().expect("a test is a program"))
            .env(FILE, file)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("sh is installed");
        let to = child.stdin.take().expect("a pipe");
        let from = BufReader::new(child.stdout.take().expect("a pipe"));
        let mut parent = Self { child, to, from };
        assert_eq!(parent.hear(), "ready");
        parent
    }

    fn hear(&mut self) -> String {
        let mut line = String::new();
        while self.from.read_line(&mut line).expect("the child's lines are text") > 0 {
            if let Some(said) = line.trim_end().strip_prefix(MARK) {
                return said.to_owned();
            }
            line.clear();
        }
        panic!("the child ended");
    }

    fn ask(&mut self, question: &str) -> String {
        writeln!(self.to, "{question}").expect("the child listens");
        self.hear()
    }

    fn limit(&self, bytes: &str) {
        let limit = ["--pid", &self.child.id().to_string(), &format!("--fsize={bytes}:unlimited")].join(" ");
        let status = Command::new("prlimit").args(limit.split(' ')).status();
        assert!(status.expect("prlimit (util-linux) is installed").success(), "{limit}");
    }
}

impl Drop for Parent {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[tokio::test]
async fn what_a_full_disk_refused_did_not_happen_and_with_room_again_the_store_goes_on() {
    let folder = Folder::new();
    let mut parent = Parent::start(&folder.file("a"));
    let mut outcomes = Vec::new();
    let mut append = |parent: &mut Parent, n: u64| {
        let answer = parent.ask(&format!("append {n}"));
        outcomes.push((n, answer == "done"));
        answer
    };
    let mut n = 0..;
    parent.limit("1000000");
    let mut done = 0;
    // Refused, and refused again: nobody waits for the disk.
    for _ in 0..3 {
        let refused = loop {
            let answer = append(&mut parent, n.next().unwrap());
            if answer != "done" {
                break answer;
            }
            done += 1;
        };
        assert!(refused.contains("cannot write at the moment"), "{refused}");
    }
    assert!(done > 3, "there was room at first");
    assert_eq!(parent.ask("read 0"), "1", "reading goes on");
    parent.limit("unlimited");
    for _ in 0..5 {
        // The first may still be refused, while the store finds out what became of the last one.
        append(&mut parent, n.next().unwrap());
    }
    assert_eq!(append(&mut parent, n.next().unwrap()), "done");
    assert_eq!(parent.ask("close"), "closed");
    let store = purlin_sqlite::open(folder.file("a")).await.unwrap();
    for (n, done) in outcomes {
        let events = store.read_stream(&stream(n), 1, 10).await.unwrap();
        assert_eq!(
            events.len(),
            usize::from(done),
            "append {n} was {}",
            if done { "done" } else { "refused" }
        );
    }
    store.close().await;
}

#[tokio::test]
async fn while_nothing_can_be_written_who_comes_later_is_refused_and_who_was_begun_hears_the_truth() {
    let folder = Folder::new();
    let mut parent = Parent::start(&folder.file("a"));
    assert_eq!(parent.ask("append 0"), "done");
    // Not even what would tell whether a COMMIT happened.
    parent.limit("4096");
    assert_eq!(parent.ask("begin 1"), "begun");
    // One that came at the same moment is in the same transaction, and waits as well.
    let refused = (2..).find(|n| parent.ask(&format!("try {n}")).starts_with("refused")).unwrap();
    assert_eq!(parent.ask("read 0"), "1", "reading goes on");
    parent.limit("unlimited");
    let begun = parent.ask("end 1");
    // A store that was opened again meanwhile may still refuse for a moment.
    let done = (1000..).find(|n| parent.ask(&format!("append {n}")) == "done").unwrap();
    assert_eq!(parent.ask("close"), "closed");
    let store = purlin_sqlite::open(folder.file("a")).await.unwrap();
    for (n, there) in [(0, true), (1, begun == "done"), (refused, false), (done, true)] {
        let events = store.read_stream(&stream(n), 1, 10).await.unwrap();
        assert_eq!(events.len(), usize::from(there), "append {n}, when the begun one was {begun}");
    }
    store.close().await;
}
