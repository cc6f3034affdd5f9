//! Where those who want something of a saga knock.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use tokio::sync::{Mutex as AsyncMutex, Notify, mpsc, watch};
use uuid::Uuid;

use super::view::Running;

/// How many knocks wait; a lost one is found by the next look at the store.
const KNOCKS: usize = 4096;

/// Somebody wants something.
#[derive(Debug, Clone, Copy)]
pub(super) enum Knock {
    /// The saga may run.
    Run(Uuid),
    /// There is a request for the saga.
    Heed(Uuid),
}

/// The sagas in memory, and the door to the engine.
pub(super) struct Desk {
    knocks: mpsc::Sender<Knock>,
    pub(super) door: AsyncMutex<mpsc::Receiver<Knock>>,
    live: Mutex<HashMap<Uuid, Arc<Mailbox>>>,
    /// Sagas wait for others to leave memory.
    crowded: watch::Sender<bool>,
}

impl Desk {
    pub(super) fn new() -> Self {
        let (knocks, door) = mpsc::channel(KNOCKS);
        Self {
            knocks,
            door: AsyncMutex::new(door),
            live: Mutex::default(),
            crowded: watch::Sender::new(false),
        }
    }

    /// Says that there is something to do for a saga.
    pub(super) fn knock(&self, knock: Knock) {
        if self.knocks.try_send(knock).is_err() {
            tracing::debug!(?knock, "too many knocks: this saga is found by the next look at the store");
        }
    }

    /// Says whether sagas wait for others to leave memory.
    pub(super) fn set_crowded(&self, crowded: bool) {
        self.crowded.send_if_modified(|before| std::mem::replace(before, crowded) != crowded);
    }

    /// A mailbox for a saga that comes into memory.
    pub(super) fn mailbox(&self) -> Mailbox {
        let (flag, notify, steps) = (AtomicBool::default(), Notify::default(), Mutex::default());
        Mailbox { flag, notify, steps, crowded: self.crowded.subscribe() }
    }

    pub(super) fn live(&self) -> MutexGuard<'_, HashMap<Uuid, Arc<Mailbox>>> {
        self.live.lock().expect("no panic happens under the lock of the live sagas")
    }

    /// The steps of a saga that are under way in this process.
    pub(super) fn running(&self, id: Uuid) -> Vec<Running> {
        let mailbox = self.live().get(&id).cloned();
        mailbox.map(|mailbox| mailbox.running()).unwrap_or_default()
    }
}

/// The mailbox of a saga in memory: the letters are in the store, this is the flag.
pub(super) struct Mailbox {
    flag: AtomicBool,
    notify: Notify,
    steps: Mutex<Option<Steps>>,
    crowded: watch::Receiver<bool>,
}

type Steps = Box<dyn Fn() -> Vec<Running> + Send>;

impl Mailbox {
    /// Raises the flag.
    pub(super) fn knock(&self) {
        self.flag.store(true, Ordering::Release);
        self.notify.notify_one();
    }

    /// Lowers the flag; whether it was up.
    pub(super) fn take(&self) -> bool {
        self.flag.swap(false, Ordering::AcqRel)
    }

    /// Whether the flag is up.
    pub(super) fn is_up(&self) -> bool {
        self.flag.load(Ordering::Acquire)
    }

    /// Waits for the flag.
    pub(super) async fn knocked(&self) {
        while !self.is_up() {
            self.notify.notified().await;
        }
    }

    /// Waits until another saga waits for room in memory.
    pub(super) async fn crowded(&self) {
        if self.crowded.clone().wait_for(|crowded| *crowded).await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Says where the running steps can be seen.
    pub(super) fn show(&self, steps: impl Fn() -> Vec<Running> + Send + 'static) {
        *self.steps.lock().expect("no panic happens under this lock") = Some(Box::new(steps));
    }

    fn running(&self) -> Vec<Running> {
        self.steps
            .lock()
            .expect("no panic happens under this lock")
            .as_ref()
            .map(|steps| steps())
            .unwrap_or_default()
    }
}
