//! The functions that sagas run, with their types closed off.

use std::marker::PhantomData;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::message::Fault;
use crate::store::{BoxFuture, Commit};

use super::journal::{Outcome, Payload};
use super::pace::Paces;
use super::{Failure, Saga, SagaError};

/// How a saga ended, for the hook that joins the last commit.
#[derive(Debug, Clone, PartialEq)]
pub enum End<T> {
    /// Its function returned this.
    Completed(T),
    /// It failed, and all it did is undone.
    Failed(SagaError),
}

/// A saga's function with what else there is to say of it.
///
/// ```
/// # use purlin::saga::{End, Function, Saga, SagaError};
/// # use purlin::store::Commit;
/// # use std::{convert::Infallible, time::Duration};
/// async fn greet(_: Saga<()>, name: String) -> Result<String, SagaError> {
///     Ok(format!("hello {name}"))
/// }
/// let greeting = Function::new(greet).deadline(Duration::from_secs(600)).on_end(
///     async |_services, _name, end: End<String>| match end {
///         End::Completed(_) | End::Failed(_) => Ok::<_, Infallible>(Commit::new()),
///     },
/// );
/// # let _ = greeting;
/// ```
pub struct Function<S, I, T> {
    kind: Kind<S>,
    types: PhantomData<fn(I) -> T>,
}

/// What can be registered as a kind of saga: an async function, or a [`Function`]. `M` tells them apart.
pub trait IntoKind<S, M> {
    /// The kind.
    fn into_kind(self) -> Kind<S>;
}

/// A kind of saga.
pub struct Kind<S> {
    pub(super) run: Arc<Run<S>>,
    pub(super) end: Option<Arc<EndWith<S>>>,
    pub(super) deadline: Option<Duration>,
    /// How fast its failed steps are tried again, in this process.
    pub(super) paces: Arc<Paces>,
}

type Run<S> = dyn Fn(Saga<S>, &Payload) -> Result<Running, serde_json::Error> + Send + Sync;
type EndWith<S> =
    dyn Fn(Arc<S>, &Payload, &Outcome) -> BoxFuture<'static, Result<Commit, Failure>> + Send + Sync;

/// A saga's function under way.
pub(super) type Running = BoxFuture<'static, Result<Payload, SagaError>>;

impl<S, I, T> Function<S, I, T>
where
    S: Send + Sync + 'static,
    I: DeserializeOwned + Send + 'static,
    T: Serialize + DeserializeOwned + Send + 'static,
{
    /// A function without a deadline, at whose end nothing else happens.
    pub fn new<F, Fut>(function: F) -> Self
    where
        F: Fn(Saga<S>, I) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<T, SagaError>> + Send + 'static,
    {
        let run = move |saga: Saga<S>, input: &Payload| -> Result<Running, serde_json::Error> {
            let input = input.read()?;
            let begun = catch_unwind(AssertUnwindSafe(|| function(saga, input)));
            Ok(match begun {
                Ok(running) => Box::pin(async move { Ok(Payload::of(&running.await?)?) }),
                Err(panic) => Box::pin(std::future::ready(Err(Failure::panic(&*panic).into()))),
            })
        };
        let kind = Kind { run: Arc::new(run), end: None, deadline: None, paces: Arc::default() };
        Self { kind, types: PhantomData }
    }

    /// How long a saga may take, its compensation not included.
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.kind.deadline = Some(deadline);
        self
    }

    /// What is committed together with the saga's end, once everything is undone that must be.
    ///
    /// A hook that fails is tried again until it succeeds; when its commit conflicts it is called again.
    pub fn on_end<F, Fut, E>(mut self, hook: F) -> Self
    where
        F: Fn(Arc<S>, I, End<T>) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<Commit, E>> + Send + 'static,
        E: Fault,
    {
        let end = move |services: Arc<S>, input: &Payload, outcome: &Outcome| {
            let begun = typed(input, outcome).map(|(input, end)| hook(services, input, end));
            let ended: BoxFuture<'static, Result<Commit, Failure>> = match begun {
                Ok(future) => Box::pin(async move { future.await.map_err(|error| Failure::of(&error)) }),
                Err(error) => Box::pin(std::future::ready(Err(Failure::bug(error.to_string())))),
            };
            ended
        };
        self.kind.end = Some(Arc::new(end));
        self
    }
}

fn typed<I, T>(input: &Payload, outcome: &Outcome) -> Result<(I, End<T>), serde_json::Error>
where
    I: DeserializeOwned,
    T: DeserializeOwned,
{
    let end = match outcome {
        Outcome::Completed(output) => End::Completed(output.read()?),
        Outcome::Failed(error) => End::Failed(error.clone()),
    };
    Ok((input.read()?, end))
}

impl<S, I, T> IntoKind<S, ()> for Function<S, I, T> {
    fn into_kind(self) -> Kind<S> {
        self.kind
    }
}

impl<F, S, I, T, Fut> IntoKind<S, (I, T, Fut)> for F
where
    F: Fn(Saga<S>, I) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<T, SagaError>> + Send + 'static,
    S: Send + Sync + 'static,
    I: DeserializeOwned + Send + 'static,
    T: Serialize + DeserializeOwned + Send + 'static,
{
    fn into_kind(self) -> Kind<S> {
        Function::new(self).into_kind()
    }
}
