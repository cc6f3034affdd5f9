//! `purlin dead-letters`.

use serde_json::Value;

use crate::process::{Folder, Process, World, purlin};

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_message_of_a_running_process_is_listed_shown_and_replayed() {
    let (data, world) = (Folder::new(), World::broken());
    let process = Process::start(&data, &world).await;
    process.place("a").await;
    let id = process.until_dead(1).await.remove(0);

    let listed = purlin(&data, "dead-letters list").await;
    assert_eq!(listed.status, 0, "{}", listed.err);
    let row = listed.out.lines().nth(1).expect("a row").to_owned();
    assert!(row.starts_with("orders") && row.contains(&id) && row.contains("dead"), "{row}");
    assert!(row.contains("order.placed") && row.ends_with("the printer is on fire"), "{row}");

    let shown = purlin(&data, &format!("dead-letters show {id}")).await;
    assert!(shown.out.contains("the printer is on fire") && shown.out.contains("red"), "{}", shown.out);

    world.mend();
    let replayed = purlin(&data, &format!("dead-letters replay {id}")).await;
    assert_eq!(replayed.status, 0, "{}", replayed.err);
    process.until_dead(0).await;
    assert_eq!(purlin(&data, "dead-letters list").await.out, "no message is parked\n");
    process.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_message_is_gone_and_the_others_stay() {
    let data = Folder::new();
    let process = Process::start(&data, &World::broken()).await;
    process.place("a").await;
    process.place("b").await;
    let ids = process.until_dead(2).await;
    assert_eq!(purlin(&data, &format!("dead-letters drop {}", ids[0])).await.status, 0);
    assert_eq!(process.until_dead(1).await, ids[1..]);
    assert_eq!(purlin(&data, &format!("dead-letters drop {}", ids[0])).await.status, 3);
    process.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_asked_while_the_process_is_stopped_happens_after_its_start() {
    let (data, world) = (Folder::new(), World::broken());
    let process = Process::start(&data, &world).await;
    process.place("a").await;
    let id = process.until_dead(1).await.remove(0);
    process.stop().await;
    world.mend();

    let listed = purlin(&data, "dead-letters list --json --service orders --group printer").await;
    let listed: Value = serde_json::from_str(&listed.out).expect("JSON");
    assert_eq!((listed["items"][0]["id"].as_str(), listed["more"].as_bool()), (Some(&*id), Some(false)));
    let replayed = purlin(&data, &format!("dead-letters replay {id}")).await;
    assert_eq!(replayed.status, 0, "{}", replayed.err);

    let process = Process::start(&data, &world).await;
    process.until_dead(0).await;
    process.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_is_as_long_as_was_asked_for_and_says_when_there_is_more() {
    let data = Folder::new();
    let process = Process::start(&data, &World::broken()).await;
    for key in 0..105 {
        process.place(&key.to_string()).await;
    }
    process.until_dead(105).await;
    let some = purlin(&data, "dead-letters list --limit 3").await;
    assert_eq!(some.out.lines().count(), 5, "{}", some.out);
    assert!(some.out.ends_with("there are more: ask with a larger --limit\n"));
    let all = purlin(&data, "dead-letters list --limit 105").await;
    assert_eq!(all.out.lines().count(), 106, "{}", all.out);
    process.stop().await;
}
