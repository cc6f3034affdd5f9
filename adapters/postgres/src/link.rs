//! A connection that is made again when it is lost, and its users, who see whether it is there.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use purlin::message::new_id;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;
use tokio_postgres::{AsyncMessage, Client, Error, Statement};

use crate::error::Unreached;
use crate::pulse;
use crate::shared::Shared;
use crate::target::{self, Line, Reached, Target};

/// Statements that a session keeps prepared at the most.
const STATEMENTS: usize = 512;

/// How long it takes at the most until a lost connection is tried again.
pub(crate) const BACK_OFF: Duration = Duration::from_secs(1);

/// One life of a connection.
pub(crate) struct Session {
    pub(crate) client: Client,
    statements: Mutex<HashMap<String, Statement>>,
    discarded: Notify,
    gone: AtomicBool,
}

/// Whether a connection is there.
#[derive(Clone)]
pub(crate) enum State {
    /// It can be used, or has just been lost.
    Up(Arc<Session>),
    /// It is made again.
    Waiting,
    /// It could not be made again for so long that nobody should wait for it.
    Down(Arc<dyn std::error::Error + Send + Sync>),
}

/// What users of a connection hold.
pub(crate) type Link = watch::Receiver<State>;

/// What keeps a connection.
pub(crate) struct Keeper {
    target: Target,
    setup: String,
    shared: Arc<Shared>,
    patience: Duration,
    state: watch::Sender<State>,
}

impl Session {
    pub(crate) fn new(client: Client) -> Self {
        Self { client, statements: Mutex::default(), discarded: Notify::new(), gone: AtomicBool::new(false) }
    }

    /// A statement, prepared once in the life of the session.
    pub(crate) async fn statement(&self, sql: &str) -> Result<Statement, Error> {
        if let Some(statement) = self.kept().get(sql) {
            return Ok(statement.clone());
        }
        let statement = self.client.prepare(sql).await?;
        let mut kept = self.kept();
        if kept.len() >= STATEMENTS {
            kept.clear();
        }
        kept.insert(sql.to_owned(), statement.clone());
        Ok(statement)
    }

    fn kept(&self) -> std::sync::MutexGuard<'_, HashMap<String, Statement>> {
        self.statements.lock().expect("no panic holds the statements")
    }

    /// Ends the session: its keeper makes another.
    pub(crate) fn discard(&self) {
        self.gone.store(true, Ordering::Relaxed);
        self.discarded.notify_one();
    }

    /// Whether it has ended, or is about to.
    pub(crate) fn is_gone(&self) -> bool {
        self.gone.load(Ordering::Relaxed) || self.client.is_closed()
    }
}

/// The session, once it is not the one that failed; none when nobody should wait for one.
pub(crate) async fn session(
    link: &mut Link,
    failed: Option<&Arc<Session>>,
) -> Result<Arc<Session>, Arc<dyn std::error::Error + Send + Sync>> {
    let usable = |state: &State| match state {
        State::Up(session) => failed.is_none_or(|failed| !Arc::ptr_eq(session, failed)),
        State::Waiting => false,
        State::Down(_) => true,
    };
    match link.wait_for(usable).await.as_deref() {
        Ok(State::Up(session)) => Ok(Arc::clone(session)),
        Ok(State::Down(error)) => Err(Arc::clone(error)),
        Ok(State::Waiting) | Err(_) => Err(Arc::new(crate::error::Closed)),
    }
}

impl Keeper {
    /// A keeper, and what its users hold. `setup` is said to the server at the begin of every session.
    pub(crate) fn new(
        target: Target,
        setup: String,
        shared: Arc<Shared>,
        patience: Duration,
    ) -> (Self, Link) {
        let (state, link) = watch::channel(State::Waiting);
        (Self { target, setup, shared, patience, state }, link)
    }

    /// Keeps the connection until nobody uses it.
    pub(crate) async fn keep(self) {
        while !self.state.is_closed() {
            let Some(Reached { client, line }) = self.connect().await else { return };
            let session = Arc::new(Session::new(client));
            self.state.send_replace(State::Up(Arc::clone(&session)));
            let ended = tokio::select! {
                ended = self.attend(&session, line) => ended,
                () = session.discarded.notified() => None,
                () = self.state.closed() => return,
            };
            if let Some(error) = ended {
                tracing::warn!(
                    error = error.said(),
                    "the connection to PostgreSQL was lost; it is made again"
                );
            }
            self.state.send_replace(State::Waiting);
        }
    }

    /// Connects, however often it takes; none when nobody waits any more.
    async fn connect(&self) -> Option<Reached> {
        let since = Instant::now();
        let mut pause = Duration::from_millis(20);
        loop {
            let error = match self.target.connect(&self.setup).await {
                Ok(connected) => {
                    self.shared.connected();
                    return Some(connected);
                }
                Err(error) => error,
            };
            if since.elapsed() >= self.patience {
                tracing::warn!(error = error.said(), "PostgreSQL cannot be reached; it is tried again");
                self.state.send_replace(State::Down(Arc::new(error)));
            }
            // Half of the pause is left to chance, so that not all come at once to a server that has just come back.
            let chance = f64::from(u16::from_le_bytes([new_id().as_bytes()[14], new_id().as_bytes()[15]]));
            let jittered = pause.mul_f64(0.5 + chance / f64::from(u16::MAX) / 2.0);
            tokio::select! {
                () = tokio::time::sleep(jittered) => {}
                () = self.shared.back.notified() => {}
                () = self.state.closed() => return None,
            }
            pause = (pause * 2).min(BACK_OFF);
        }
    }

    /// Attends to a session until it ends, or nothing is answered on it any more, and says why.
    async fn attend(&self, session: &Session, Line { mut driver, at }: Line) -> Option<Unreached> {
        let heard = async {
            while let Some(message) = target::next(&mut driver).await {
                match message {
                    Ok(AsyncMessage::Notification(heard)) => self.shared.heard(heard.payload()),
                    Ok(_) => {}
                    Err(error) => return Some(Unreached::Failed(error)),
                }
            }
            None
        };
        tokio::select! {
            ended = heard => ended,
            silent = pulse::silence(&session.client, &self.target, &at, self.patience) => Some(silent),
        }
    }
}
