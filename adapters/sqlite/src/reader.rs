//! Reads: threads with a connection each, so that no reader waits for the writer.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;

use rusqlite::Connection;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use purlin::store::ReadError;

use crate::error::{Closed, unreadable};
use crate::schema;

/// Reads that may wait before callers do.
const WAITING: usize = 1024;

type Job = Box<dyn FnOnce(&mut Connection) + Send>;

/// The reading threads; they end with the last handle.
pub(crate) struct Readers {
    queue: Arc<Queue>,
    places: Arc<Semaphore>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

/// What waits for a thread. A read wakes one thread, and only if one sleeps.
#[derive(Default)]
struct Queue {
    state: Mutex<State>,
    ready: Condvar,
}

#[derive(Default)]
struct State {
    jobs: VecDeque<Job>,
    sleeping: usize,
    closed: bool,
}

impl Queue {
    /// Whether the job was taken.
    fn push(&self, job: Job) -> bool {
        let mut state = self.state.lock().expect("no job runs under this lock");
        if state.closed {
            return false;
        }
        state.jobs.push_back(job);
        if state.sleeping > 0 {
            self.ready.notify_one();
        }
        true
    }

    /// The next job; none once the queue is closed and empty.
    fn pop(&self) -> Option<Job> {
        let mut state = self.state.lock().expect("no job runs under this lock");
        loop {
            if let Some(job) = state.jobs.pop_front() {
                return Some(job);
            }
            if state.closed {
                return None;
            }
            state.sleeping += 1;
            state = self.ready.wait(state).expect("no job runs under this lock");
            state.sleeping -= 1;
        }
    }

    fn close(&self) {
        self.state.lock().expect("no job runs under this lock").closed = true;
        self.ready.notify_all();
    }
}

impl Readers {
    pub(crate) fn start(file: &Path, count: usize) -> rusqlite::Result<Self> {
        let queue = Arc::new(Queue::default());
        let connections =
            (0..count).map(|_| schema::open_reader(file)).collect::<rusqlite::Result<Vec<_>>>()?;
        let start = |mut connection: Connection| {
            let queue = Arc::clone(&queue);
            let serve = move || {
                while let Some(job) = queue.pop() {
                    // Whoever asked hears that it did not work; the thread is there for the next one.
                    let _ = catch_unwind(AssertUnwindSafe(|| job(&mut connection)));
                }
            };
            std::thread::Builder::new()
                .name("sqlite-reader".into())
                .spawn(serve)
                .expect("a thread can be started")
        };
        let threads = Mutex::new(connections.into_iter().map(start).collect());
        Ok(Self { queue, places: Arc::new(Semaphore::new(WAITING)), threads })
    }

    /// Runs a read on one of the threads.
    pub(crate) async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&mut Connection) -> Result<T, ReadError> + Send + 'static,
    ) -> Result<T, ReadError> {
        let place = Arc::clone(&self.places).acquire_owned().await.map_err(unreadable)?;
        let answered = self.push(place, read).ok_or_else(|| unreadable(Closed))?;
        answered.await.map_err(|_| unreadable(Closed))?
    }

    /// Begins a read that nobody waits for yet; none when others wait for a thread.
    pub(crate) fn begin<T: Send + 'static>(
        &self,
        read: impl FnOnce(&mut Connection) -> Result<T, ReadError> + Send + 'static,
    ) -> Option<oneshot::Receiver<Result<T, ReadError>>> {
        let place = Arc::clone(&self.places).try_acquire_owned().ok()?;
        self.push(place, read)
    }

    /// Hands a read over; none when the threads are stopped.
    fn push<T: Send + 'static>(
        &self,
        place: OwnedSemaphorePermit,
        read: impl FnOnce(&mut Connection) -> Result<T, ReadError> + Send + 'static,
    ) -> Option<oneshot::Receiver<Result<T, ReadError>>> {
        let (answer, answered) = oneshot::channel();
        let job: Job = Box::new(move |connection| {
            // Whoever asked may have gone; then nobody needs the answer.
            if !answer.is_closed() {
                let _ = answer.send(read(connection));
            }
            drop(place);
        });
        self.queue.push(job).then_some(answered)
    }

    /// Takes no more reads: the threads finish what was asked, and end.
    pub(crate) fn stop(&self) {
        self.queue.close();
    }

    /// Stops, and waits until the threads have ended. Nobody's runtime waits meanwhile: whoever still has a read to
    /// hand over may need it.
    pub(crate) async fn close(&self) {
        self.stop();
        let threads = std::mem::take(&mut *self.threads.lock().expect("no panic holds the threads"));
        let (ended, wait) = oneshot::channel();
        let join = move || {
            for thread in threads {
                let _ = thread.join();
            }
            let _ = ended.send(());
        };
        if std::thread::Builder::new().name("sqlite-close".into()).spawn(join).is_ok() {
            let _ = wait.await;
        }
    }
}
