//! `purlin doctor`.

use std::fs::{Permissions, set_permissions};
use std::os::unix::fs::PermissionsExt as _;

use purlin::service::operator::{self, Served};
use purlin::service::{ServeConfig, serve};
use purlin::store::Store;
use serde_json::Value;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::process::{Folder, Process, World, command, purlin};

fn findings(text: &str) -> Vec<(String, String)> {
    let report: Value = serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"));
    let text = |finding: &Value, name: &str| finding[name].as_str().unwrap_or_default().to_owned();
    let findings = report["findings"].as_array().expect("findings").iter();
    findings.map(|finding| (text(finding, "about"), text(finding, "level"))).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_installation_that_is_well_is_said_to_be_and_one_that_is_not_says_what_to_do() {
    let (data, world) = (Folder::new(), World::broken());
    let process = Process::start(&data, &world).await;
    let well = purlin(&data, "doctor --json").await;
    assert_eq!(well.status, 0, "{}", well.out);
    let found = findings(&well.out);
    for about in ["folder", "socket", "orders: file", "orders: store", "orders: answers", "bus: store"] {
        assert!(found.contains(&(about.to_owned(), "ok".to_owned())), "{about}: {}", well.out);
    }
    process.place("a").await;
    process.until_dead(1).await;
    let waiting = purlin(&data, "doctor").await;
    assert_eq!(waiting.status, 1, "{}", waiting.out);
    assert!(waiting.out.contains("purlin dead-letters list --service orders"), "{}", waiting.out);
    process.stop().await;

    let stopped = purlin(&data, "doctor --log --json").await;
    let found = findings(&stopped.out);
    for about in ["orders: log", "bus: log", "orders: pages", "orders: group printer", "bus: relay orders"] {
        assert!(found.contains(&(about.to_owned(), "ok".to_owned())), "{about}: {}", stopped.out);
    }
    let file = data.path().join("bus.db");
    set_permissions(&file, Permissions::from_mode(0o644)).expect("a file of ours");
    let open = purlin(&data, "doctor").await;
    assert!(open.out.contains("chmod 0600"), "{}", open.out);
    set_permissions(&file, Permissions::from_mode(0o600)).expect("a file of ours");

    std::fs::write(data.path().join("other.db"), vec![b'x'; 4096]).expect("the folder can be written");
    let foreign = purlin(&data, "doctor --json").await;
    assert_eq!(foreign.status, 2, "{}", foreign.out);
    assert!(findings(&foreign.out).contains(&("other: store".to_owned(), "fail".to_owned())));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_in_the_folder_that_one_is_in_is_looked_at() {
    let data = Folder::new();
    for name in ["orders.db", "other.db"] {
        purlin_sqlite::open(data.path().join(name)).await.expect("a store").close().await;
    }
    let mut command = command(&data, "doctor --store sqlite:orders.db --json");
    let ran = command.current_dir(data.path()).output().expect("the program runs");
    let out = String::from_utf8_lossy(&ran.stdout);
    assert!(ran.status.success(), "{out}");
    let found = findings(&out);
    assert!(found.contains(&("orders: store".to_owned(), "ok".to_owned())), "{out}");
    assert!(!found.iter().any(|(about, _)| about.starts_with("other")), "{out}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_whose_stores_are_not_in_its_folder_is_asked_all_the_same() {
    let data = Folder::new();
    let listener = operator::listen(data.path()).expect("a socket");
    let router = operator::router([Served { name: "orders".into(), store: Store::memory() }]);
    let serving = serve(listener, router, ServeConfig::default(), CancellationToken::new());
    let mut tasks = JoinSet::new();
    tasks.spawn(serving);
    let ran = purlin(&data, "doctor --json").await;
    let found = findings(&ran.out);
    for about in ["stores", "orders: answers"] {
        assert!(found.contains(&(about.to_owned(), "ok".to_owned())), "{about}: {}", ran.out);
    }
    assert_eq!(purlin(&data, "--store sqlite:orders.db doctor").await.status, 2, "this one is nowhere");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_gap_in_a_log_is_found() {
    let data = Folder::new();
    let process = Process::start(&data, &World::mended()).await;
    for key in ["a", "a", "b"] {
        process.place(key).await;
    }
    process.stop().await;
    assert_eq!(purlin(&data, "doctor --log").await.status, 0);
    let file = data.path().join("orders.db");
    let deleted = std::process::Command::new("sqlite3")
        .arg(&file)
        .arg(
            "DELETE FROM _event WHERE position = \
             (SELECT min(position) FROM _event WHERE instr(header, CAST('order.placed' AS BLOB)) > 0)",
        )
        .status();
    if !deleted.is_ok_and(|status| status.success()) {
        eprintln!("skipped: there is no `sqlite3`");
        return;
    }
    let gap = purlin(&data, "doctor --log").await;
    assert_eq!(gap.status, 2, "{}", gap.out);
    assert!(gap.out.lines().any(|line| line.starts_with("fail  orders: log")), "{}", gap.out);
}

#[tokio::test]
async fn a_folder_without_stores_is_said_to_have_none() {
    let data = Folder::new();
    let none = purlin(&data, "doctor").await;
    assert_eq!(none.status, 2);
    assert!(none.out.contains("there is no store at"), "{}", none.out);
    let url = "postgres://nobody@127.0.0.1:1/none";
    let away = purlin(&data, &format!("doctor --store {url}")).await;
    assert_eq!(away.status, 2);
    assert!(away.out.starts_with("fail  server"), "{}", away.out);
}
