//! Reads: threads with a connection each, so that no reader waits for the writer.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex};
use std::thread::JoinHandle;

use rusqlite::Connection;
use tokio::sync::oneshot::error::TryRecvError;
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
#[derive(Default)]
struct Queue {
    state: Mutex<State>,
    ready: Condvar,
}

#[derive(Default)]
struct State {
    jobs: VecDeque<Job>,
    /// For a thread that has nothing else to do, each with its number. One thread at a time: the others are there for what
    /// somebody waits for, and what lies behind each other is read fastest by who read what lies before.
    later: VecDeque<(u64, Job)>,
    /// A thread is at one of them.
    is_ahead: bool,
    numbers: u64,
    sleeping: usize,
    closed: bool,
}

/// A read that nobody waits for yet.
pub(crate) struct Begun<T> {
    number: u64,
    answered: oneshot::Receiver<Result<T, ReadError>>,
}

impl Queue {
    /// Whether the job was taken.
    fn push(&self, job: Job) -> bool {
        let mut state = self.state.lock().expect("no job runs under this lock");
        if state.closed {
            return false;
        }
        state.jobs.push_back(job);
        self.wake(&state);
        true
    }

    /// Takes a job for when there is nothing else to do; its number.
    fn push_later(&self, job: Job) -> Option<u64> {
        let mut state = self.state.lock().expect("no job runs under this lock");
        if state.closed {
            return None;
        }
        state.numbers += 1;
        let number = state.numbers;
        state.later.push_back((number, job));
        self.wake_for_later(&state);
        Some(number)
    }

    /// Somebody waits for a job that was to be done later.
    fn hurry(&self, number: u64) {
        let mut state = self.state.lock().expect("no job runs under this lock");
        if let Some(at) = state.later.iter().position(|(known, _)| *known == number)
            && let Some((_, job)) = state.later.remove(at)
        {
            state.jobs.push_back(job);
            self.wake(&state);
        }
    }

    fn wake(&self, state: &State) {
        if state.sleeping > 0 {
            self.ready.notify_one();
        }
    }

    /// The thread that is at one of the jobs for later takes the next one too.
    fn wake_for_later(&self, state: &State) {
        if !state.is_ahead && !state.later.is_empty() {
            self.wake(state);
        }
    }

    /// The next job, and whether it was one for later; none once the queue is closed and empty. `was_ahead` says what the
    /// thread was at before.
    fn pop(&self, was_ahead: bool) -> Option<(Job, bool)> {
        let mut state = self.state.lock().expect("no job runs under this lock");
        if was_ahead {
            state.is_ahead = false;
        }
        loop {
            if let Some(job) = state.jobs.pop_front() {
                self.wake_for_later(&state);
                return Some((job, false));
            }
            if state.closed {
                return None;
            }
            if !state.is_ahead
                && let Some((_, job)) = state.later.pop_front()
            {
                state.is_ahead = true;
                return Some((job, true));
            }
            state.sleeping += 1;
            state = self.ready.wait(state).expect("no job runs under this lock");
            state.sleeping -= 1;
        }
    }

    fn close(&self) {
        let mut state = self.state.lock().expect("no job runs under this lock");
        state.closed = true;
        let nobodys = std::mem::take(&mut state.later);
        drop(state);
        drop(nobodys);
        self.ready.notify_all();
    }
}

impl Readers {
    pub(crate) fn start(file: &Path, archive: &Arc<Archive>, count: usize) -> rusqlite::Result<Self> {
        let queue = Arc::new(Queue::default());
        let connections =
            (0..count).map(|_| schema::open_reader(file)).collect::<rusqlite::Result<Vec<_>>>()?;
        let start = |hot: Connection| {
            let mut reader = Reader { hot, cold: Cold::new(Arc::clone(archive)) };
            let queue = Arc::clone(&queue);
            let serve = move || {
                let mut was_ahead = false;
                while let Some((job, is_ahead)) = queue.pop(was_ahead) {
                    // Whoever asked hears that it did not work; the thread is there for the next one.
                    let _ = catch_unwind(AssertUnwindSafe(|| job(&mut reader)));
                    was_ahead = is_ahead;
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
        let (job, answered) = job(place, read);
        if !self.queue.push(job) {
            return Err(unreadable(Closed));
        }
        answered.await.map_err(|_| unreadable(Closed))?
    }

    /// Begins a read that nobody waits for yet: a thread does it that has nothing else to do. None when it was not taken.
    pub(crate) fn begin<T: Send + 'static>(
        &self,
        read: impl FnOnce(&mut Reader) -> Result<T, ReadError> + Send + 'static,
    ) -> Option<Begun<T>> {
        let place = Arc::clone(&self.places).try_acquire_owned().ok()?;
        let (job, answered) = job(place, read);
        let number = self.queue.push_later(job)?;
        Some(Begun { number, answered })
    }

    /// Waits for a read that was begun; none when nothing came of it.
    pub(crate) async fn finish<T>(&self, mut begun: Begun<T>) -> Option<Result<T, ReadError>> {
        match begun.answered.try_recv() {
            Ok(read) => Some(read),
            Err(TryRecvError::Closed) => None,
            Err(TryRecvError::Empty) => {
                self.queue.hurry(begun.number);
                begun.answered.await.ok()
            }
        }
    }

    /// Reads whose places are taken.
    #[cfg(test)]
    pub(crate) fn waiting(&self) -> usize {
        WAITING - self.places.available_permits()
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

/// A read as a job, and where its answer comes.
fn job<T: Send + 'static>(
    place: OwnedSemaphorePermit,
    read: impl FnOnce(&mut Reader) -> Result<T, ReadError> + Send + 'static,
) -> (Job, oneshot::Receiver<Result<T, ReadError>>) {
    let (answer, answered) = oneshot::channel();
    let job: Job = Box::new(move |reader| {
        // Whoever asked may have gone; then nobody needs the answer.
        if !answer.is_closed() {
            let _ = answer.send(read(reader));
        }
        drop(place);
    });
    (job, answered)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_for_later_comes_last_unless_somebody_waits_for_it() {
        let queue = Queue::default();
        // Each job holds a token of its own, by which it is known.
        let tokens: Vec<Arc<()>> = (0..6).map(|_| Arc::default()).collect();
        let job = |n: usize| -> Job {
            let token = Arc::clone(&tokens[n]);
            Box::new(move |_| drop(token))
        };
        let later = [1, 2, 3].map(|n| queue.push_later(job(n)).expect("it is open"));
        assert!(queue.push(job(4)));
        queue.hurry(later[1]);
        queue.hurry(later[1]);
        assert!(queue.push(job(5)));
        let next = || {
            let held = || tokens.iter().map(Arc::strong_count).collect::<Vec<_>>();
            let before = held();
            let (job, is_ahead) = queue.pop(false).expect("there is one more");
            drop(job);
            (before.iter().zip(held()).position(|(before, after)| *before != after), is_ahead)
        };
        let order = [(Some(4), false), (Some(2), false), (Some(5), false), (Some(1), true)];
        assert_eq!([next(), next(), next(), next()], order);
        assert!(queue.push(job(4)));
        assert_eq!(next(), (Some(4), false), "while a thread is at one for later");
        queue.close();
        assert!(queue.pop(false).is_none() && queue.push_later(job(0)).is_none() && !queue.push(job(0)));
        assert!(
            tokens.iter().all(|token| Arc::strong_count(token) == 1),
            "what nobody waited for is dropped"
        );
    }
}
