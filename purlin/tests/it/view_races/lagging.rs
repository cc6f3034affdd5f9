//! A log that is said to go further than it can be read.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use purlin::projection::{View, ViewState};
use purlin::store::{BoxFuture, Engine, Layer, LogFilter, LogPage, Position, ReadError, Store};
use tokio::sync::watch;

use super::{Counted, Tally, append, engine, run, run_for, strict, sum};

/// A server that is said to have more than it can answer.
struct Lagging {
    engine: Arc<dyn Engine>,
    said: watch::Receiver<Position>,
    reads: Arc<AtomicUsize>,
}

impl Layer for Lagging {
    fn inner(&self) -> &dyn Engine {
        &*self.engine
    }

    fn watch(&self) -> watch::Receiver<Position> {
        self.said.clone()
    }

    fn read_log(
        &self,
        after: Position,
        filter: LogFilter,
        limit: usize,
    ) -> BoxFuture<'_, Result<LogPage, ReadError>> {
        assert!(self.reads.fetch_add(1, Ordering::Relaxed) < 2000, "it is asked without a pause");
        self.engine.read_log(after, filter, limit)
    }
}

#[tokio::test(start_paused = true)]
async fn a_log_that_is_said_to_go_further_than_it_can_be_read_is_looked_at_with_pauses() {
    let (engine, store) = engine();
    let last = append(&store, "a", Counted::Added(1)).await;
    let said = watch::Sender::new(Position(last.0 + 1));
    let reads = Arc::new(AtomicUsize::new(0));
    let lagging = Lagging { engine: Arc::clone(&engine), said: said.subscribe(), reads: Arc::clone(&reads) };
    let view = strict(&Store::new(lagging));
    run(&view).await;
    assert_eq!(sum(&view, "a").await, (1, 1));
    append(&store, "a", Counted::Added(2)).await;
    run_for(Duration::from_secs(1), &view).await;
    assert_eq!(sum(&view, "a").await, (3, 2), "what came meanwhile is read");
    said.send_replace(Position(99));
    tokio::select! {
        () = run(&view) => {}
        () = async {
            tokio::time::sleep(Duration::from_secs(5)).await;
            view.pause().await.expect("it is there");
            tokio::time::sleep(Duration::from_secs(5)).await;
            let before = reads.load(Ordering::Relaxed);
            tokio::time::sleep(Duration::from_secs(5)).await;
            assert_eq!(reads.load(Ordering::Relaxed), before, "it has heard that it is to pause");
        } => {}
    }
}

/// A view of a log that is said to end here.
fn beside(engine: &Arc<dyn Engine>, said: Position) -> View<Tally<1>> {
    let said = watch::Sender::new(said).subscribe();
    strict(&Store::new(Lagging { engine: Arc::clone(engine), said, reads: Arc::default() }))
}

#[tokio::test(start_paused = true)]
async fn rows_lag_behind_events_that_are_known_and_not_behind_what_is_said() {
    let (engine, store) = engine();
    // Nothing can be read yet.
    let view = beside(&engine, Position(3));
    run(&view).await;
    let status = view.status().await.expect("a status");
    assert_eq!((status.lag, status.state), (0, ViewState::Starting));
    append(&store, "a", Counted::Added(1)).await;
    run(&view).await;
    let status = view.status().await.expect("a status");
    assert_eq!((status.lag, status.lag_seconds, status.state), (0, 0.0, ViewState::Live));
    append(&store, "a", Counted::Added(2)).await;
    assert_eq!(view.status().await.expect("a status").lag, 2, "as far as it is said to go");
}
