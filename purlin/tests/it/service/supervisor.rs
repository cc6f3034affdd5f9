//! The supervisor restarts what fails, and stops everything in good order.

use std::convert::Infallible;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use purlin::projection::ViewError;
use purlin::service::{Shutdown, Supervisor, TaskState};
use purlin::telemetry::Health;
use tokio::time::{Instant, sleep};

#[derive(Debug, thiserror::Error)]
#[error("the relay broke")]
struct Broken(#[source] std::io::Error);

fn broken() -> Broken {
    Broken(std::io::Error::other("the disk is full"))
}

const LONG: Duration = Duration::from_secs(3600);

#[tokio::test(start_paused = true)]
async fn a_task_that_fails_or_panics_is_started_again_after_growing_pauses() {
    let supervisor = Supervisor::new(Shutdown::new());
    let (began, starts) = (Instant::now(), Arc::new(Mutex::new(Vec::new())));
    let seen = Arc::clone(&starts);
    supervisor.spawn("relay", move || {
        let mut starts = seen.lock().unwrap();
        starts.push(began.elapsed().as_millis());
        let count = starts.len();
        async move {
            assert!(count != 2, "an invariant broke");
            Err(broken())
        }
    });
    sleep(Duration::from_millis(1600)).await;
    assert_eq!(*starts.lock().unwrap(), [0, 100, 300, 700, 1500]);
    let task = supervisor.tasks().remove(0);
    assert_eq!((&*task.name, task.state, task.restarts), ("relay", TaskState::Pausing, 4));
    assert_eq!(task.last_error.as_deref(), Some("the relay broke: the disk is full"));

    sleep(LONG).await;
    let starts = starts.lock().unwrap().clone();
    let longest = starts.windows(2).map(|pair| pair[1] - pair[0]).max();
    assert_eq!(longest, Some(30_000));
}

#[tokio::test(start_paused = true)]
async fn a_task_that_ran_well_for_a_while_begins_again_with_the_shortest_pause() {
    let supervisor = Supervisor::new(Shutdown::new());
    let (began, starts) = (Instant::now(), Arc::new(Mutex::new(Vec::new())));
    let seen = Arc::clone(&starts);
    supervisor.spawn("relay", move || {
        let mut starts = seen.lock().unwrap();
        starts.push(began.elapsed().as_millis());
        let well = starts.len() == 3;
        async move {
            if well {
                sleep(Duration::from_secs(60)).await;
            }
            Err(broken())
        }
    });
    sleep(Duration::from_secs(61)).await;
    assert_eq!(starts.lock().unwrap()[..4], [0, 100, 300, 60_400]);
}

#[tokio::test(start_paused = true)]
async fn a_process_is_not_ready_while_a_task_is_down() {
    let health = Health::new();
    let supervisor = Supervisor::new(Shutdown::new()).telling(&health);
    let failed = Arc::new(AtomicBool::new(false));
    supervisor.spawn("relay", move || {
        let first = !failed.swap(true, Ordering::Relaxed);
        async move { if first { Err(broken()) } else { std::future::pending().await } }
    });
    sleep(Duration::from_millis(50)).await;
    let check = health.report().checks.remove(0);
    assert_eq!((&*check.name, check.ready), ("task relay", false));
    assert!(check.reason.unwrap().contains("the disk is full"));
    sleep(Duration::from_millis(100)).await;
    assert!(!health.is_ready(), "it has been started again, and may fail at once");
    sleep(Duration::from_millis(100)).await;
    assert!(health.is_ready());
}

#[tokio::test(start_paused = true)]
async fn a_task_that_fails_again_and_again_is_at_no_time_ready() {
    let health = Health::new();
    let supervisor = Supervisor::new(Shutdown::new()).telling(&health);
    supervisor.spawn("relay", || async { Err(broken()) });
    sleep(Duration::from_millis(1)).await;
    let flapped = tokio::time::timeout(LONG, health.until_ready()).await;
    assert!(flapped.is_err());
}

#[tokio::test(start_paused = true)]
async fn what_only_a_person_can_mend_degrades_the_process_and_leaves_it_ready() {
    #[derive(Debug, thiserror::Error)]
    #[error("the work ended")]
    struct Ended(#[source] ViewError);
    let health = Health::new();
    let supervisor = Supervisor::new(Shutdown::new()).telling(&health);
    supervisor
        .spawn("view", || async { Err(Ended(ViewError::Newer { view: "orders", stored: 2, known: 1 })) });
    for _ in 0..100 {
        sleep(Duration::from_secs(1)).await;
        let check = health.report().checks.remove(0);
        assert!(check.ready && check.reason.unwrap().contains("is stored in version 2"));
    }
}

#[tokio::test(start_paused = true)]
async fn a_panic_before_the_first_wait_of_a_task_is_a_failure_like_others() {
    let supervisor = Supervisor::new(Shutdown::new());
    let starts = Arc::new(AtomicUsize::new(0));
    let seen = Arc::clone(&starts);
    supervisor.spawn("view", move || {
        assert!(seen.fetch_add(1, Ordering::Relaxed) > 0, "not yet");
        std::future::pending::<Result<(), Infallible>>()
    });
    sleep(Duration::from_secs(1)).await;
    assert_eq!((starts.load(Ordering::Relaxed), supervisor.tasks()[0].state), (2, TaskState::Running));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_task_that_does_not_let_go_of_its_thread_does_not_hold_up_the_end() {
    let supervisor = Supervisor::new(Shutdown::new());
    let (free, blocked) = std::sync::mpsc::channel::<()>();
    let (runs, running) = tokio::sync::oneshot::channel();
    supervisor.spawn_once("blocked", async move {
        runs.send(()).unwrap();
        let _ = blocked.recv();
        Ok::<_, Infallible>(())
    });
    running.await.unwrap();
    let end = tokio::time::timeout(LONG, supervisor.drain(Duration::from_millis(10))).await;
    assert_eq!(end.unwrap().unwrap_err().tasks, ["blocked"]);
    drop(free);
}

#[tokio::test(start_paused = true)]
async fn a_task_that_ends_by_itself_is_not_started_again() {
    let supervisor = Supervisor::new(Shutdown::new());
    let starts = Arc::new(AtomicUsize::new(0));
    let seen = Arc::clone(&starts);
    supervisor.spawn("import", move || {
        seen.fetch_add(1, Ordering::Relaxed);
        async { Ok::<_, Infallible>(()) }
    });
    sleep(LONG).await;
    assert_eq!(starts.load(Ordering::Relaxed), 1);
    assert_eq!(supervisor.tasks()[0].state, TaskState::Ended);
}

#[tokio::test(start_paused = true)]
async fn stopping_waits_for_what_is_in_hand() {
    let shutdown = Shutdown::new();
    let supervisor = Supervisor::new(shutdown.clone());
    let done = Arc::new(AtomicBool::new(false));
    let (seen, token) = (Arc::clone(&done), shutdown.token());
    supervisor.spawn("relay", move || {
        let (seen, token) = (Arc::clone(&seen), token.clone());
        async move {
            token.cancelled().await;
            sleep(Duration::from_secs(3)).await;
            seen.store(true, Ordering::Relaxed);
            Ok::<_, Infallible>(())
        }
    });
    // One that fails all the time is not waited for through its pauses.
    supervisor.spawn("broken", || async { Err(broken()) });
    sleep(LONG).await;
    let began = Instant::now();
    supervisor.drain(Duration::from_secs(10)).await.unwrap();
    assert!(done.load(Ordering::Relaxed));
    assert_eq!(began.elapsed(), Duration::from_secs(3));
}

#[tokio::test(start_paused = true)]
async fn what_does_not_stop_in_time_is_named_and_cut_off() {
    struct Dropped(Arc<AtomicBool>);
    impl Drop for Dropped {
        fn drop(&mut self) {
            self.0.store(true, Ordering::Relaxed);
        }
    }
    let shutdown = Shutdown::new();
    let supervisor = Supervisor::new(shutdown.clone());
    let token = shutdown.token();
    supervisor.spawn("good", move || {
        let token = token.clone();
        async move {
            token.cancelled().await;
            Ok::<_, Infallible>(())
        }
    });
    let dropped = Arc::new(AtomicBool::new(false));
    let guard = Dropped(Arc::clone(&dropped));
    supervisor.spawn_once("stubborn", async move {
        let _guard = guard;
        std::future::pending::<Result<(), Infallible>>().await
    });
    sleep(Duration::from_secs(1)).await;
    let began = Instant::now();
    let error = supervisor.drain(Duration::from_secs(10)).await.unwrap_err();
    assert_eq!(error.tasks, ["stubborn"]);
    assert_eq!(began.elapsed(), Duration::from_secs(10));
    assert!(dropped.load(Ordering::Relaxed), "it is cut off before the process goes on to close its stores");
}

#[tokio::test(start_paused = true)]
async fn the_failure_of_what_cannot_be_started_again_stops_everything() {
    let shutdown = Shutdown::new();
    let supervisor = Supervisor::new(shutdown.clone());
    supervisor.spawn_once("http", async { Err(broken()) });
    tokio::time::timeout(Duration::from_secs(1), shutdown.begun()).await.unwrap();
    supervisor.drain(Duration::from_secs(1)).await.unwrap();
    assert!(supervisor.tasks()[0].last_error.as_deref().unwrap().contains("the disk is full"));
}

#[tokio::test(start_paused = true)]
async fn nothing_starts_once_everything_stops() {
    let supervisor = Supervisor::new(Shutdown::new());
    supervisor.drain(Duration::from_secs(1)).await.unwrap();
    supervisor.spawn_once("late", async { Ok::<_, Infallible>(()) });
    assert!(supervisor.tasks().is_empty());
}
