//! `purlin store accept`: who refuses a restored log goes on with it when an operator says from where.

use std::path::{Path, PathBuf};

use crate::process::{Folder, Process, World, purlin};

/// Puts a store back from a backup, as an operator does.
async fn restore(data: &Folder, name: &str, copy: &Path) {
    for suffix in ["", "-wal", "-shm", ".lock"] {
        let _ = std::fs::remove_file(data.path().join(format!("{name}.db{suffix}")));
    }
    let file = data.path().join(format!("{name}.db"));
    let restored = purlin(data, &format!("store restore {} {}", copy.display(), file.display())).await;
    assert_eq!(restored.status, 0, "{}", restored.err);
    assert!(restored.out.contains("purlin store accept"), "{}", restored.out);
}

/// A folder in which two orders were placed, whose messages are dead, and copies of stores from between them.
async fn with_backups_of<const N: usize>(names: [&str; N]) -> (Folder, Folder, [PathBuf; N]) {
    let (data, elsewhere) = (Folder::new(), Folder::new());
    let process = Process::start(&data, &World::broken()).await;
    process.place("a").await;
    process.until_dead(1).await;
    // The operator of this process serves the orders alone: the bus is copied when it has stopped.
    process.stop().await;
    let copies = names.map(|name| elsewhere.path().join(format!("{name}.backup")));
    for (name, copy) in names.iter().zip(&copies) {
        let backed = purlin(&data, &format!("store backup {} --service {name}", copy.display())).await;
        assert_eq!(backed.status, 0, "{}", backed.err);
    }
    let process = Process::start(&data, &World::broken()).await;
    process.place("b").await;
    process.until_dead(2).await;
    process.stop().await;
    (data, elsewhere, copies)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_goes_on_with_a_restored_log_when_it_is_told_to() {
    let (data, _elsewhere, [copy]) = with_backups_of(["orders"]).await;
    let none = purlin(&data, "store accept").await;
    assert!(
        none.status == 0 && none.out.contains("no relay and no group refuses"),
        "{}{}",
        none.out,
        none.err
    );
    restore(&data, "orders", &copy).await;
    let doctor = purlin(&data, "doctor").await;
    assert!(doctor.status == 2 && doctor.out.contains("purlin store accept"), "{}", doctor.out);
    let listed = purlin(&data, "store accept").await;
    let line = listed.out.lines().nth(1).unwrap_or_default();
    assert!(line.starts_with("orders  orders    relay"), "{}{}", listed.out, listed.err);

    let ahead = purlin(&data, "store accept --after 2 --yes").await;
    assert!(ahead.status == 1 && ahead.err.contains("the log ends at 1"), "{}", ahead.err);
    let other = purlin(&data, "store accept --service bus --after 1 --yes").await;
    assert_eq!(other.status, 3, "{}", other.err);
    let asked = purlin(&data, "store accept --service orders --after 1").await;
    assert!(asked.status == 1 && asked.err.contains("--yes"), "{}", asked.err);
    assert!(asked.err.contains("all up to 1 counts as published"), "{}", asked.err);
    assert_eq!(purlin(&data, "store accept").await.out, listed.out, "nothing was changed");
    let done = purlin(&data, "store accept --service orders --after 1 --yes").await;
    assert_eq!(done.status, 0, "{}", done.err);
    assert!(purlin(&data, "store accept").await.out.contains("no relay and no group refuses"));
    assert_eq!(purlin(&data, "store accept --after 1 --yes").await.status, 3, "there is nothing left");

    let process = Process::start(&data, &World::broken()).await;
    process.place("c").await;
    // What the restored store had handled of the bus ends with the first; the second comes again, and the third after it.
    process.until_dead(3).await;
    process.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_goes_on_with_a_restored_bus_when_it_is_told_to() {
    let (data, _elsewhere, [copy]) = with_backups_of(["bus"]).await;
    restore(&data, "bus", &copy).await;
    let asked = purlin(&data, "store accept --follower printer --after 1").await;
    assert!(asked.err.contains("group printer (in orders)"), "{}", asked.err);
    assert!(asked.err.contains("1 messages that are parked behind it are dropped"), "{}", asked.err);
    let done = purlin(&data, "store accept --after 1 --yes --json").await;
    assert_eq!(done.status, 0, "{}", done.err);
    assert!(done.out.contains("\"dropped\": 1") && done.out.contains("\"done\": true"), "{}", done.out);
    let left = purlin(&data, "dead-letters list").await;
    assert!(left.out.contains("printer-1") && !left.out.contains("printer-2"), "{}", left.out);

    let process = Process::start(&data, &World::broken()).await;
    // The relay copies the second order again.
    process.until_dead(2).await;
    process.place("c").await;
    process.until_dead(3).await;
    process.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_position_is_accepted_of_one_log_at_a_time() {
    let (data, _elsewhere, [bus, orders]) = with_backups_of(["bus", "orders"]).await;
    restore(&data, "bus", &bus).await;
    let early = purlin(&data, "store accept --service bus --after 0").await;
    assert!(early.err.contains("all up to 0 counts as handled"), "{}", early.err);
    // Now the relay, whose progress the bus keeps, is as far as its backup; but the orders are another life.
    restore(&data, "orders", &orders).await;
    let several = purlin(&data, "store accept --after 1 --yes").await;
    assert!(several.status == 1 && several.err.contains("--service"), "{}", several.err);
    assert!(several.err.contains("bus, orders"), "{}", several.err);
    for service in ["bus", "orders"] {
        let one = purlin(&data, &format!("store accept --service {service} --after 1 --yes")).await;
        assert_eq!(one.status, 0, "{}", one.err);
    }
    assert!(purlin(&data, "store accept").await.out.contains("no relay and no group refuses"));
}
