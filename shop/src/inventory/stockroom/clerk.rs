//! The clerk: the one task that decides what is wanted of the shelves, whoever still waits for the answer.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use purlin::aggregate::Repository;
use purlin::message::{TraceContext, Uuid};
use purlin::store::{Commit, CommitError, Store};
use tokio::sync::{Mutex, mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use super::super::reservation::{Reservation, ReserveError};
use super::desk::Desk;
use super::pages::Pages;
use super::{Trouble, Wanted};
use crate::contracts::events::Flow;

/// How often wishes are decided anew because somebody else changed a shelf.
const ATTEMPTS: usize = 20;

/// How many wishes are looked at together.
const AT_ONCE: usize = 500;

/// How long he waits for another wish when everything stops: those who wish stop at the same time.
const LAST_CALL: Duration = Duration::from_millis(200);

/// Something that somebody waits for.
pub(super) struct Wish {
    pub(super) order_id: Uuid,
    pub(super) flow: Flow,
    pub(super) wanted: Wanted,
    pub(super) trace: Option<TraceContext>,
    pub(super) answer: oneshot::Sender<Answer>,
}

/// Granted, refused for good, or not decided.
pub(super) type Answer = Result<Result<(), ReserveError>, Arc<Trouble>>;

/// The clerk; cheap to clone, and at work once.
#[derive(Clone)]
pub struct Clerk {
    store: Store,
    reservations: Repository<Reservation>,
    pages: Arc<Pages>,
    turn: Arc<Mutex<()>>,
    inbox: Arc<Mutex<mpsc::Receiver<Wish>>>,
}

impl Clerk {
    pub(super) fn new(
        store: &Store,
        pages: Arc<Pages>,
        turn: Arc<Mutex<()>>,
        inbox: mpsc::Receiver<Wish>,
    ) -> Self {
        let (store, reservations) = (store.clone(), Repository::new(store));
        Self { store, reservations, pages, turn, inbox: Arc::new(Mutex::new(inbox)) }
    }

    /// Decides until told to stop, and then what is still wanted.
    pub async fn run(self, shutdown: CancellationToken) -> Result<(), Infallible> {
        let mut inbox = self.inbox.lock().await;
        let mut waiting = VecDeque::new();
        while let Some(wish) = next(&mut inbox, &shutdown).await {
            waiting.push_back(wish);
            while !waiting.is_empty() {
                let _turn = self.turn.lock().await;
                while waiting.len() < AT_ONCE {
                    let Ok(wish) = inbox.try_recv() else { break };
                    waiting.push_back(wish);
                }
                self.decide(&mut waiting).await;
            }
        }
        // Who comes now is told so at once.
        inbox.close();
        while inbox.try_recv().is_ok() {}
        Ok(())
    }

    /// Decides the first of those that wait, as many as fit a commit, and commits them together.
    async fn decide(&self, waiting: &mut VecDeque<Wish>) {
        let mut reloaded = false;
        for attempt in 1..=ATTEMPTS {
            let mut desk = Desk::new(&self.pages, &self.reservations);
            desk.prepare(waiting.iter()).await;
            let mut decided = Vec::with_capacity(waiting.len());
            for wish in waiting.iter() {
                if desk.is_full() {
                    break;
                }
                decided.push(desk.decide(wish).await);
            }
            // What is still stale when everything was read anew stays so: it is told, and stops nobody else.
            if !reloaded && decided.iter().any(|decided| matches!(decided, Err(Trouble::Stale))) {
                reloaded = true;
                self.pages.forget();
                continue;
            }
            let many = decided.len();
            match self.commit(desk).await {
                Ok(()) => {
                    let answers = decided.into_iter().map(|decided| decided.map_err(Arc::new));
                    return answer(waiting.drain(..many).zip(answers));
                }
                // The shelves are read on, or anew, and decided anew.
                Err(CommitError::Conflict(_)) if attempt < ATTEMPTS => self.pages.forget(),
                Err(error) => {
                    let trouble = Arc::new(Trouble::of(error));
                    return answer(waiting.drain(..many).map(|wish| (wish, Err(Arc::clone(&trouble)))));
                }
            }
        }
    }

    async fn commit(&self, desk: Desk<'_>) -> Result<(), CommitError> {
        let commit: Commit = desk.commit().map_err(|error| CommitError::Invalid(error.to_string()))?;
        if commit.is_empty() {
            return Ok(());
        }
        let events = commit.event_count();
        let committed = self.store.commit(commit).await?;
        self.pages.committed(desk.into_pages(), events, committed.position);
        Ok(())
    }
}

/// The next wish; none once everything stops and nobody wishes any more.
async fn next(inbox: &mut mpsc::Receiver<Wish>, shutdown: &CancellationToken) -> Option<Wish> {
    tokio::select! {
        biased;
        wish = inbox.recv() => wish,
        () = shutdown.cancelled() => tokio::time::timeout(LAST_CALL, inbox.recv()).await.ok().flatten(),
    }
}

fn answer(answers: impl Iterator<Item = (Wish, Answer)>) {
    for (wish, answer) in answers {
        // Who does not wait any more will ask again if he must know.
        let _ = wish.answer.send(answer);
    }
}
