//! The typed door to the erased corridor.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use purlin::message::Fault;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::{At, Definition, Failure, InvalidTool, Outcome};

/// A tool whose calls carry an authority `C`.
pub struct Tool<C> {
    definition: Definition,
    corridor: Corridor<C>,
}

type Corridor<C> = Arc<dyn Fn(Value, At<C>) -> BoxFuture<'static, Outcome> + Send + Sync>;

impl<C: Send + 'static> Tool<C> {
    /// A tool that runs `run` with arguments that fit `schema`.
    ///
    /// An error of `run` is told to the model, which may try something else; one of kind
    /// [`Bug`](purlin::message::FaultKind::Bug) only goes to the log. What `run` needs besides the arguments it takes
    /// from the caller (`at`), or it is a `move |args, at| { let x = x.clone(); async move { .. } }`.
    pub fn new<Args, T, E, F, Fut>(
        name: &str,
        description: &str,
        schema: Value,
        run: F,
    ) -> Result<Self, InvalidTool>
    where
        Args: DeserializeOwned,
        T: Serialize,
        E: Fault,
        F: Fn(Args, At<C>) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<T, E>> + Send + 'static,
    {
        let definition = Definition::new(name, description, schema)?;
        let name = definition.name().to_owned();
        let corridor = move |arguments: Value, at: At<C>| {
            let limit = at.max_result_bytes();
            let arguments = match serde_json::from_value(arguments) {
                Ok(arguments) => arguments,
                Err(error) => {
                    let failure = Failure::bad_arguments(vec![error.to_string()]);
                    return std::future::ready(Outcome::Error(failure)).boxed();
                }
            };
            let (work, name) = (run(arguments, at), name.clone());
            async move {
                match work.await {
                    Ok(result) => encoded(&name, &result, limit),
                    Err(fault) => Outcome::Error(Failure::of_fault(&name, &fault)),
                }
            }
            .boxed()
        };
        Ok(Self { definition, corridor: Arc::new(corridor) })
    }

    /// The same tool, with another limit for how long a call may take than the agent's.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.definition.timeout = Some(timeout);
        self
    }

    /// What a model is told of the tool.
    pub fn definition(&self) -> &Definition {
        &self.definition
    }

    pub(crate) fn call(&self, arguments: Value, at: At<C>) -> BoxFuture<'static, Outcome> {
        (self.corridor)(arguments, at)
    }
}

impl<C> Clone for Tool<C> {
    fn clone(&self) -> Self {
        Self { definition: self.definition.clone(), corridor: Arc::clone(&self.corridor) }
    }
}

impl<C> fmt::Debug for Tool<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tool").field("definition", &self.definition).finish_non_exhaustive()
    }
}

/// The result as JSON, written no further than the limit.
fn encoded(tool: &str, result: &impl Serialize, limit: usize) -> Outcome {
    let mut json = Bounded { bytes: Vec::new(), limit };
    match serde_json::to_writer(&mut json, result) {
        Ok(()) => match serde_json::from_slice(&json.bytes) {
            Ok(value) => Outcome::Result(value),
            Err(error) => unreadable(tool, &error),
        },
        Err(error) if error.is_io() => Outcome::Error(Failure::too_large(limit)),
        Err(error) => unreadable(tool, &error),
    }
}

#[cold]
fn unreadable(tool: &str, error: &serde_json::Error) -> Outcome {
    tracing::error!(tool, %error, "a tool's result cannot be written as JSON");
    Outcome::Error(Failure::new("internal", "the tool failed"))
}

struct Bounded {
    bytes: Vec<u8>,
    limit: usize,
}

impl io::Write for Bounded {
    fn write(&mut self, part: &[u8]) -> io::Result<usize> {
        if self.bytes.len() + part.len() > self.limit {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        self.bytes.extend_from_slice(part);
        Ok(part.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
