//! Decisions over the events of many streams.

use crate::message::{Fault, FaultKind};
use crate::store::{
    Commit, CommitError, Committed, Conflict, EventQuery, LogFilter, Position, ReadError, Recorded, Store,
};

/// How many events are read at once.
const PAGE: usize = 512;

/// How often a decision is made anew because somebody else was faster.
const ATTEMPTS: usize = 100;

/// A rule over whatever streams it concerns: the events that a query finds are folded into a state, a decision looks
/// at the state, and what it decided is committed only if no other event came to match the query meanwhile. When one
/// did, it is folded in and the decision is made anew.
///
/// It is the boundary of what must be consistent, drawn for this one decision (a *dynamic consistency boundary*,
/// [`EventQuery`]); an aggregate draws the same boundary once and for all around one stream. Every criterion of the
/// query names a tag, and the events that the decision makes bear the tags by which the next decision finds them.
///
/// ```
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(async {
/// use purlin::aggregate::Boundary;
/// use purlin::message::Envelope;
/// use purlin::store::{Commit, EventQuery, Expected, Store, StreamId};
///
/// let store = Store::memory();
/// let course = EventQuery::tagged(["course:42"]).kinds(["student.enrolled"]);
/// let enrol = |student: u32| Boundary::new(&store, course.clone(), |taken: &mut u32, _| *taken += 1).decide(move |taken| {
///     if *taken >= 2 {
///         return Err("the course is full");
///     }
///     let enrolled = Envelope::raw("student.enrolled", "{}").tagged(["course:42".to_owned(), format!("student:{student}")]);
///     Ok(Commit::new().append(StreamId::new("student", student).unwrap(), Expected::Any, [enrolled]))
/// });
/// enrol(1).await.unwrap();
/// enrol(2).await.unwrap();
/// assert!(enrol(3).await.is_err());
/// # });
/// ```
pub struct Boundary<S, F> {
    store: Store,
    query: EventQuery,
    fold: F,
    state: S,
    /// Up to where the log was looked through.
    seen: Position,
}

impl<S: Default, F: Fn(&mut S, &Recorded)> Boundary<S, F> {
    /// The events that `query` finds, folded into the default state by `fold` in the order of the log.
    pub fn new(store: &Store, query: EventQuery, fold: F) -> Self {
        Self { store: store.clone(), query, fold, state: S::default(), seen: Position::START }
    }

    /// Decides on the state as it is now, and commits what was decided; on the new state again when an event came that
    /// matches. A decision of nothing commits nothing, and is answered with none.
    ///
    /// Dropping the future does not undo a commit that is under way.
    pub async fn decide<E>(
        mut self,
        decide: impl Fn(&S) -> Result<Commit, E>,
    ) -> Result<Option<Committed>, DecideError<E>> {
        for _ in 0..ATTEMPTS {
            self.catch_up().await?;
            let commit = decide(&self.state).map_err(DecideError::Refused)?;
            if commit.is_empty() {
                return Ok(None);
            }
            match self.store.commit(commit.unless(self.query.clone(), self.seen)).await {
                Ok(committed) => return Ok(Some(committed)),
                Err(CommitError::Conflict(Conflict::Condition { .. })) => {}
                Err(error) => return Err(DecideError::Commit(error)),
            }
        }
        Err(DecideError::Contended)
    }

    /// Folds in what came since.
    async fn catch_up(&mut self) -> Result<(), ReadError> {
        let filter = LogFilter::matching(self.query.clone());
        // What comes while this reads is for the commit to find.
        let head = self.store.head();
        loop {
            let page = self.store.read_log(self.seen, &filter, PAGE).await?;
            page.events.iter().for_each(|event| (self.fold)(&mut self.state, event));
            let moved = page.through > self.seen;
            self.seen = self.seen.max(page.through);
            if !moved || self.seen >= head {
                return Ok(());
            }
        }
    }
}

/// Nothing was decided, or what was decided was not committed.
#[derive(Debug, thiserror::Error)]
pub enum DecideError<E> {
    /// The decision itself refused.
    #[error(transparent)]
    Refused(E),
    /// The events could not be read.
    #[error("what the decision looks at could not be read")]
    Read(#[from] ReadError),
    /// The store did not take it: a conflict is one of the decision's own expectations.
    #[error("what was decided could not be committed")]
    Commit(#[source] CommitError),
    /// Others were faster, a hundred times in a row.
    #[error("too many others decide on the same")]
    Contended,
}

impl<E: Fault> Fault for DecideError<E> {
    fn kind(&self) -> FaultKind {
        match self {
            Self::Refused(error) => error.kind(),
            Self::Read(error) => error.kind(),
            Self::Commit(error) => error.kind(),
            Self::Contended => FaultKind::Overloaded,
        }
    }

    fn code(&self) -> &str {
        match self {
            Self::Refused(error) => error.code(),
            other => other.kind().as_str(),
        }
    }

    fn is_of_another(&self) -> bool {
        matches!(self, Self::Refused(error) if error.is_of_another())
    }

    fn retry_after(&self) -> Option<std::time::Duration> {
        match self {
            Self::Refused(error) => error.retry_after(),
            _ => None,
        }
    }
}
