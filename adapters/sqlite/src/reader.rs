//! Reads: threads with a connection each, so that no reader waits for the writer.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;

use rusqlite::Connection;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use purlin::store::ReadError;

use crate::archive::{Archive, Cold};
use crate::error::{Closed, unreadable};
use crate::schema;

/// Reads that may wait before callers do.
const WAITING: usize = 1024;

type Job = Box<dyn FnOnce(&mut Reader) + Send>;

/// A thread's ways into a store.
pub(crate) struct Reader {
    /// The store's own file.
    pub(crate) hot: Connection,
    /// What left it.
    pub(crate) cold: Cold,
}

/// The reading threads; they end with the last handle.
pub(crate) struct Readers {
    queue: Arc<Queue>,
    places: Arc<Semaphore>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

/// What waits for a thread. A read wakes one thread, and only if one sleeps.
struct Queue {
    threads: usize,
    state: Mutex<State>,
    ready: Condvar,
}

#[derive(Default)]
struct State {
    jobs: VecDeque<Job>,
    sleeping: usize,
    /// Threads that have a job in hand.
    busy: usize,
    closed: bool,
}

impl Queue {
    /// Whether the job was taken; one that may be left undone is taken only by a thread that has nothing else to do.
    fn push(&self, job: Job, only_if_idle: bool) -> bool {
        let mut state = self.state.lock().expect("no job runs under this lock");
        let idle = state.busy + state.jobs.len() < self.threads;
        if state.closed || (only_if_idle && !idle) {
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
                state.busy += 1;
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

    /// A thread is through with the job that it took.
    fn done(&self) {
        self.state.lock().expect("no job runs under this lock").busy -= 1;
    }

    fn close(&self) {
        self.state.lock().expect("no job runs under this lock").closed = true;
        self.ready.notify_all();
    }
}

impl Readers {
    pub(crate) fn start(file: &Path, archive: &Arc<Archive>, count: usize) -> rusqlite::Result<Self> {
        let queue = Arc::new(Queue { threads: count, state: Mutex::default(), ready: Condvar::new() });
        let connections =
            (0..count).map(|_| schema::open_reader(file)).collect::<rusqlite::Result<Vec<_>>>()?;
        let start = |hot: Connection| {
            let mut reader = Reader { hot, cold: Cold::new(Arc::clone(archive)) };
            let queue = Arc::clone(&queue);
            let serve = move || {
                while let Some(job) = queue.pop() {
                    // Whoever asked hears that it did not work; the thread is there for the next one.
                    let _ = catch_unwind(AssertUnwindSafe(|| job(&mut reader)));
                    queue.done();
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
        read: impl FnOnce(&mut Reader) -> Result<T, ReadError> + Send + 'static,
    ) -> Result<T, ReadError> {
        let place = Arc::clone(&self.places).acquire_owned().await.map_err(unreadable)?;
        let answered = self.push(place, read, false).ok_or_else(|| unreadable(Closed))?;
        answered.await.map_err(|_| unreadable(Closed))?
    }

    /// Begins a read that nobody waits for yet; none when no thread is idle.
    pub(crate) fn begin<T: Send + 'static>(
        &self,
        read: impl FnOnce(&mut Reader) -> Result<T, ReadError> + Send + 'static,
    ) -> Option<oneshot::Receiver<Result<T, ReadError>>> {
        let place = Arc::clone(&self.places).try_acquire_owned().ok()?;
        self.push(place, read, true)
    }

    /// Hands a read over; none when it was not taken.
    fn push<T: Send + 'static>(
        &self,
        place: OwnedSemaphorePermit,
        read: impl FnOnce(&mut Reader) -> Result<T, ReadError> + Send + 'static,
        only_if_idle: bool,
    ) -> Option<oneshot::Receiver<Result<T, ReadError>>> {
        let (answer, answered) = oneshot::channel();
        let job: Job = Box::new(move |reader| {
            // Whoever asked may have gone; then nobody needs the answer.
            if !answer.is_closed() {
                let _ = answer.send(read(reader));
            }
            drop(place);
        });
        self.queue.push(job, only_if_idle).then_some(answered)
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
