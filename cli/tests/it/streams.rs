//! `purlin streams`.

use std::process::Stdio;

use serde_json::Value;

use crate::process::{Folder, Process, World, command, purlin};

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_are_listed_shown_and_counted_whether_the_process_runs_or_not() {
    let data = Folder::new();
    let process = Process::start(&data, &World::mended()).await;
    for key in ["a", "b", "a", "c"] {
        process.place(key).await;
    }
    let looked = async || {
        let list = purlin(&data, "streams list --service orders --category order --json").await;
        let list = json(&list.out);
        let streams = list["items"].as_array().expect("items").iter();
        let streams: Vec<_> = streams.map(|item| (item["stream"].clone(), item["events"].clone())).collect();
        let expected = [("order-a", 2), ("order-b", 1), ("order-c", 1)];
        assert_eq!(streams, expected.map(|(stream, events)| (stream.into(), events.into())));
        let behind = purlin(&data, "streams list --service orders --category order --after 2").await;
        assert_eq!(behind.out.lines().count(), 2, "the heading and order-c: {}", behind.out);

        let shown = json(&purlin(&data, "streams show order-a --json").await.out);
        let versions = |shown: &Value| {
            let items = shown["items"].as_array().expect("items").iter();
            items.map(|event| event["version"].as_u64()).collect::<Vec<_>>()
        };
        assert_eq!(versions(&shown), [Some(1), Some(2)]);
        assert_eq!(shown["items"][1]["data"]["colour"], "red");
        let back = json(&purlin(&data, "streams show order-a --back --limit 1 --json").await.out);
        assert_eq!((versions(&back), &back["more"]), (vec![Some(2)], &Value::Bool(true)));
        let unknown = purlin(&data, "streams show order-z").await;
        assert_eq!((unknown.status, unknown.out.as_str()), (3, ""));

        let stats = json(&purlin(&data, "streams stats --service orders --json").await.out);
        let orders = &stats["items"][0];
        assert_eq!(orders["kinds"]["order.placed"]["events"], 4);
        assert_eq!(orders["categories"]["order"]["streams"], 3);
        assert_eq!(orders["events"], orders["head"]);
        assert!(orders["events_per_second"]["hour"].as_f64().is_some_and(|rate| rate > 0.0));
        let told = purlin(&data, "streams stats --service orders").await;
        assert!(told.out.contains("order.placed  4"), "{}", told.out);
    };
    looked().await;
    process.stop().await;
    looked().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_are_archived_whether_the_process_runs_or_not() {
    let data = Folder::new();
    let process = Process::start(&data, &World::mended()).await;
    for key in ["a", "b", "a", "c", "a"] {
        process.place(key).await;
    }
    let shown = async || purlin(&data, "streams show order-a --json").await.out;
    let before = shown().await;
    let archive = async |how: &str| {
        let typed = format!("streams archive --service orders --category order {how} --json");
        let ran = purlin(&data, &typed).await;
        assert_eq!(ran.status, 0, "{}", ran.err);
        let answer = json(&ran.out);
        ["seen", "chosen", "events"].map(|name| answer[name].as_u64().expect("a number"))
    };
    assert_eq!(archive("--idle-for 0s --dry-run").await, [3, 3, 2]);
    assert_eq!(archive("--idle-for 90d").await, [3, 0, 0]);
    assert_eq!(archive("--idle-for 0s --ended-by order.other --ended-by order.none").await, [3, 0, 0]);
    assert!(!data.path().join("orders.db.archive").exists(), "nothing was moved yet");
    assert_eq!(archive("--idle-for 0s --ended-by order.other --ended-by order.placed").await, [3, 3, 2]);
    assert!(data.path().join("orders.db.archive").exists());
    assert_eq!(shown().await, before);
    process.place("b").await;
    process.stop().await;
    assert_eq!(shown().await, before);
    assert_eq!(archive("--idle-for 0s").await, [3, 3, 1]);
    assert_eq!(shown().await, before);
    let told = purlin(&data, "streams archive --service orders --category order --idle-for 0s").await;
    assert!(told.out.contains("3 of 3 streams are archived: 0 events"), "{}", told.out);
    let doctor = purlin(&data, "doctor").await;
    assert!(doctor.out.contains("orders: archive") && doctor.out.contains("has 3 events"), "{}", doctor.out);

    let refused = purlin(&data, "streams archive --service orders --category NO! --idle-for 1d").await;
    assert_eq!(refused.status, 1);
    assert!(refused.err.contains("NO!"), "{}", refused.err);
    assert!(refused.err.contains("--after"), "{}", refused.err);
    let wrong = purlin(&data, "streams archive --service orders --category order --idle-for 9w").await;
    assert_eq!(wrong.status, 2);
    std::fs::rename(data.path().join("orders.db.archive"), data.path().join("away")).expect("moved");
    let away = purlin(&data, "streams show order-a").await;
    assert!(away.status == 1 && away.err.contains("orders.db.archive"), "{}", away.err);
    let doctor = purlin(&data, "doctor").await;
    assert!(doctor.out.contains("put it back"), "{}", doctor.out);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_follows_the_log_sees_what_was_and_what_comes() {
    let data = Folder::new();
    let process = Process::start(&data, &World::mended()).await;
    process.place("a").await;
    process.place("b").await;
    let mut tail =
        command(&data, "streams tail --service orders --kind order.placed --from 1 --limit 3 --json");
    let tail = tail.stdout(Stdio::piped()).spawn().expect("the binary can be started");
    let tailed = tokio::task::spawn_blocking(move || tail.wait_with_output());
    process.place("c").await;
    process.place("d").await;
    let tailed = tailed.await.expect("no panic").expect("it ends");
    let out = String::from_utf8(tailed.stdout).expect("UTF-8");
    let streams: Vec<String> =
        out.lines().map(|line| json(line)["stream"].as_str().unwrap_or_default().to_owned()).collect();
    assert_eq!(streams, ["order-b", "order-c", "order-d"]);
    let ahead = purlin(&data, "streams tail --service orders --from 1000").await;
    assert_eq!(ahead.status, 1);
    assert!(ahead.err.contains("only reached"), "{}", ahead.err);
    process.stop().await;
    let several = purlin(&data, "streams tail").await;
    assert_eq!(several.status, 1);
    assert!(several.err.contains("--service") && several.err.contains("orders"), "{}", several.err);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_ends_following_has_done_nothing_wrong() {
    let data = Folder::new();
    let process = Process::start(&data, &World::mended()).await;
    process.place("a").await;
    let mut tail = command(&data, "streams tail --service orders --from 0");
    let mut tail = tail.stdout(Stdio::piped()).spawn().expect("the binary can be started");
    let out = tail.stdout.take().expect("piped");
    let ended = tokio::task::spawn_blocking(move || {
        let mut line = String::new();
        std::io::BufRead::read_line(&mut std::io::BufReader::new(out), &mut line)?;
        std::process::Command::new("kill").args(["-INT", &tail.id().to_string()]).status()?;
        Ok::<_, std::io::Error>((line, tail.wait()?))
    });
    let (line, status) = ended.await.expect("no panic").expect("it ends");
    assert!(line.contains("order-a 1  order.placed"), "{line}");
    assert_eq!(status.code(), Some(0));
    process.stop().await;
}
