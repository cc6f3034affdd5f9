//! Histories of a store whose process is killed (`SIGKILL`) at any moment, again and again.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use purlin::testing::Dice;
use purlin::testing::gaps::{gapless, how_long};
use purlin::testing::history::{Counts, History, Journal, Workload, how_many};

use crate::folder::Folder;

/// Tells the child what to do: its store, the journal, the seed, the number of its process. Without it `the_child` has
/// nothing to do.
const LIFE: &str = "PURLIN_TEST_LIFE";

/// What the child says when its clients are about to begin.
const READY: &str = "child: ready";

/// Lets clients work until it is killed.
#[test]
fn the_child() {
    let Ok(life) = std::env::var(LIFE) else { return };
    let [file, journal, seed, process] = life.split('|').collect::<Vec<_>>()[..] else {
        panic!("`{life}` tells no life");
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let store = purlin_sqlite::open(file).await.unwrap();
        Workload::prepare(&store).await.unwrap();
        let journal = Journal::file(Path::new(journal), process.parse().unwrap()).unwrap();
        let mut out = std::io::stdout().lock();
        writeln!(out, "\n{READY}").and_then(|()| out.flush()).unwrap();
        drop(out);
        let workload = Workload { operations: 1_000_000, ..Workload::drawn(seed.parse().unwrap()) };
        workload.run(&store, &journal).await;
    });
}

/// A process lives for a moment, and is killed.
async fn short_life(file: &Path, journal: &Path, seed: u64, process: u32, dice: &mut Dice) {
    let life = format!("{}|{}|{seed}|{process}", file.display(), journal.display());
    let mut child = Command::new(std::env::current_exe().expect("a test is a program"))
        .args(["histories::the_child", "--exact", "--nocapture"])
        .env(LIFE, life)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("this program can be started");
    // Now and then it is killed while it opens the store.
    if !dice.percent(10) {
        let lines = BufReader::new(child.stdout.take().expect("a pipe")).lines();
        assert!(lines.map_while(Result::ok).any(|line| line == READY), "the child ended");
    }
    tokio::time::sleep(Duration::from_millis(dice.below(25))).await;
    child.kill().expect("it is a child of this process");
    child.wait().expect("it is a child of this process");
    // With it, all that it had not committed is gone.
    Journal::file(journal, 0).expect("the journal is there").gone(process);
}

async fn history(folder: &Folder, seed: u64) -> Counts {
    let (file, journal) = (folder.file("store"), folder.file("journal"));
    let mut dice = Dice::new(seed);
    let lives = 1 + dice.below(3) as u32;
    for process in 1..=lives {
        short_life(&file, &journal, seed, process, &mut dice).await;
    }
    let store = purlin_sqlite::open(&file).await.expect("it opens, whatever happened");
    Workload::prepare(&store).await.expect("the collections can be made");
    let last = Journal::file(&journal, lives + 1).expect("the journal is there");
    Workload { operations: 2, ..Workload::drawn(seed) }.run(&store, &last).await;
    Workload::finish(&store, &last).await.expect("what is left can be read");
    store.close().await;
    History::read(&journal).expect("a journal").insist(seed)
}

#[tokio::test(flavor = "multi_thread")]
async fn histories_of_killed_processes_are_linearizable() {
    let mut all = Counts::default();
    for seed in 0..how_many(100) {
        all = all + history(&Folder::new(), seed).await;
    }
    println!("{all:?}");
    assert!(all.applied > 100 && all.untold > 0 && all.conflicts > 0 && all.in_vain > 0, "{all:?}");
    assert!(all.met > 0 && all.excluded > 0, "conditions were met, and some were not: {all:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn its_log_has_no_gap() {
    let folder = Folder::new();
    let store = purlin_sqlite::open(folder.file("gaps")).await.unwrap();
    let seen = gapless(std::slice::from_ref(&store), how_long(Duration::from_secs(2))).await;
    println!("{} commits, {} events; {}", seen.commits, seen.events, seen.readers[0]);
    store.close().await;
}
