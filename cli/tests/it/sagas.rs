//! `purlin sagas`.

use purlin::saga::SagaState;
use serde_json::Value;

use crate::process::{Folder, Process, World, purlin};

#[tokio::test(flavor = "multi_thread")]
async fn a_stuck_saga_is_listed_with_its_reason_and_goes_on_when_it_is_told_to() {
    let (data, world) = (Folder::new(), World::broken());
    let process = Process::start(&data, &world).await;
    let id = process.begin().await;
    process.until_state(id, SagaState::Stuck).await;

    let listed = purlin(&data, "sagas list --state stuck").await;
    let row = listed.out.lines().nth(1).expect("a row").to_owned();
    assert!(row.contains(&id.to_string()) && row.contains("stuck") && row.contains("print"), "{row}");

    let shown = purlin(&data, &format!("sagas show {id}")).await;
    let step = shown.out.lines().find(|line| line.starts_with("print ")).expect("the step").to_owned();
    assert!(step.contains("stuck") && step.contains("the printer is on fire"), "{step}");

    world.mend();
    let retried = purlin(&data, &format!("sagas retry {id}")).await;
    assert_eq!(retried.status, 0, "{}", retried.err);
    process.until_state(id, SagaState::Failed).await;
    assert_eq!(purlin(&data, "sagas list --state stuck").await.out, "there is no such saga\n");

    let again = purlin(&data, &format!("sagas retry {id}")).await;
    assert_eq!(again.status, 1);
    assert!(again.err.contains("is over"), "{}", again.err);
    process.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_saga_of_a_stopped_process_is_shown_and_goes_on_after_the_start() {
    let (data, world) = (Folder::new(), World::broken());
    let process = Process::start(&data, &world).await;
    let id = process.begin().await;
    process.until_state(id, SagaState::Stuck).await;
    process.stop().await;
    world.mend();

    let shown = purlin(&data, &format!("sagas show {id} --json")).await;
    let shown: Value = serde_json::from_str(&shown.out).expect("JSON");
    assert_eq!((shown["state"].as_str(), shown["service"].as_str()), (Some("stuck"), Some("orders")));
    assert_eq!(shown["steps"][0]["name"], "print");
    assert_eq!(purlin(&data, &format!("sagas retry {id}")).await.status, 0);

    let process = Process::start(&data, &world).await;
    process.until_state(id, SagaState::Failed).await;
    process.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_saga_state_or_service_is_refused_with_the_reason() {
    let data = Folder::new();
    let process = Process::start(&data, &World::broken()).await;
    let unknown = purlin(&data, "sagas show 01998d4c-0000-7000-8000-000000000000").await;
    assert_eq!((unknown.status, unknown.out.as_str()), (3, ""));
    let state = purlin(&data, "sagas list --state happy").await;
    assert_eq!(state.status, 2);
    assert!(state.err.contains("stuck"), "{}", state.err);
    let service = purlin(&data, "sagas list --service nobody").await;
    assert_eq!(service.status, 3);
    assert!(service.err.contains("orders"), "{}", service.err);
    process.stop().await;
}
