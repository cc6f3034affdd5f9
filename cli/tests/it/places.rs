//! Which data, and who answers for it.

use crate::process::{Folder, command, purlin};

#[tokio::test]
async fn a_folder_without_data_is_named_and_nothing_is_made_in_it() {
    let data = Folder::new();
    let ran = purlin(&data, "sagas list").await;
    assert_eq!(ran.status, 1);
    assert!(ran.err.contains(&*data.path().to_string_lossy()) && ran.err.contains("--data"), "{}", ran.err);
    assert_eq!(std::fs::read_dir(data.path()).expect("the folder").count(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_holds_the_data_and_does_not_answer_is_not_disturbed() {
    let data = Folder::new();
    let store = purlin_sqlite::open(data.path().join("orders.db")).await.expect("a store");
    let ran = purlin(&data, "sagas list").await;
    assert_eq!(ran.status, 1);
    assert!(ran.err.contains("purlin.sock"), "{}", ran.err);
    store.close().await;
    drop(store);
    assert_eq!(purlin(&data, "sagas list").await.status, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_that_is_typed_goes_before_stores_that_the_environment_names() {
    let data = Folder::new();
    purlin_sqlite::open(data.path().join("orders.db")).await.expect("a store").close().await;
    let mut typed = command(&data, "sagas list");
    let ran = typed.env("PURLIN_STORE", "sqlite:nowhere.db").output().expect("the binary can be started");
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    let mut both = command(&data, "sagas list --store sqlite:nowhere.db");
    let ran = both.output().expect("the binary can be started");
    assert_eq!(ran.status.code(), Some(1), "and stores that are typed go before a folder");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_stops_reading_early_has_what_he_wanted() {
    let data = Folder::new();
    purlin_sqlite::open(data.path().join("orders.db")).await.expect("a store").close().await;
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_purlin"));
    command.arg("--data").arg(data.path()).args(["sagas", "list"]);
    command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped());
    let ended = tokio::task::spawn_blocking(move || {
        let mut child = command.spawn()?;
        drop(child.stdout.take());
        child.wait_with_output()
    });
    let ended = ended.await.expect("no panic").expect("the binary can be started");
    let said = String::from_utf8_lossy(&ended.stderr).into_owned();
    assert_eq!((ended.status.code(), said.as_str()), (Some(0), ""));
}

#[tokio::test]
async fn a_mistake_in_the_arguments_has_a_status_of_its_own() {
    let data = Folder::new();
    assert_eq!(purlin(&data, "dead-letters burn").await.status, 2);
    assert_eq!(purlin(&data, "dead-letters list --limit 0").await.status, 2);
    for place in ["nowhere", "sqlite:", "mysql://db/shop", "sqlite:data?archive=/cold/orders"] {
        for command in ["sagas list", "doctor", "store export --to -"] {
            let ran = purlin(&data, &format!("{command} --store {place}")).await;
            assert_eq!(ran.status, 2, "{command} of {place}: {}", ran.err);
        }
        let moved = purlin(&data, &format!("store move --from {place} --to sqlite:new.db")).await;
        assert_eq!(moved.status, 2, "{}", moved.err);
    }
    assert_eq!(
        purlin(&data, "store export --to - --store postgres://db/shop").await.status,
        2,
        "of which store"
    );
    let copied = purlin(&data, "store backup -").await;
    assert_eq!((copied.status, copied.err.contains("store export --to -")), (2, true), "{}", copied.err);
    assert_eq!(purlin(&data, "--help").await.status, 0);
}
