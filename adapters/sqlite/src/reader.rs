//! Reads: threads with a connection each, so that no reader waits for the writer.

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use rusqlite::Connection;
use tokio::sync::{mpsc, oneshot};

use purlin::store::ReadError;

use crate::error::{Closed, unreadable};
use crate::schema;

/// Reads that may wait before callers do.
const QUEUE: usize = 1024;

type Job = Box<dyn FnOnce(&mut Connection) + Send>;

/// The reading threads; they end with the last handle.
pub(crate) struct Readers {
    jobs: Mutex<Option<mpsc::Sender<Job>>>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

impl Readers {
    pub(crate) fn start(file: &Path, count: usize) -> rusqlite::Result<Self> {
        let (sender, receiver) = mpsc::channel::<Job>(QUEUE);
        let receiver = Arc::new(Mutex::new(receiver));
        let connections =
            (0..count).map(|_| schema::open_reader(file)).collect::<rusqlite::Result<Vec<_>>>()?;
        let start = |mut connection: Connection| {
            let receiver = Arc::clone(&receiver);
            let serve = move || {
                // The lock is held while waiting: whoever holds it gets the next job.
                while let Some(job) = next(&receiver) {
                    job(&mut connection);
                }
            };
            std::thread::Builder::new()
                .name("sqlite-reader".into())
                .spawn(serve)
                .expect("a thread can be started")
        };
        let threads = connections.into_iter().map(start).collect();
        Ok(Self { jobs: Mutex::new(Some(sender)), threads: Mutex::new(threads) })
    }

    /// Runs a read on one of the threads.
    pub(crate) async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&mut Connection) -> Result<T, ReadError> + Send + 'static,
    ) -> Result<T, ReadError> {
        let (answer, answered) = oneshot::channel();
        let jobs = self.jobs.lock().expect("no panic holds the sender").clone();
        let job: Job = Box::new(move |connection| {
            // Whoever asked may have gone; then nobody needs the answer.
            if !answer.is_closed() {
                let _ = answer.send(read(connection));
            }
        });
        jobs.ok_or_else(|| unreadable(Closed))?.send(job).await.map_err(|_| unreadable(Closed))?;
        answered.await.map_err(|_| unreadable(Closed))?
    }

    /// Takes no more reads: the threads finish what was asked, and end.
    pub(crate) fn stop(&self) {
        drop(self.jobs.lock().expect("no panic holds the sender").take());
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

fn next(receiver: &Mutex<mpsc::Receiver<Job>>) -> Option<Job> {
    receiver.lock().expect("no job runs under this lock").blocking_recv()
}
