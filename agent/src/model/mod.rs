//! Models behind one trait: a conversation and tools go in, text or calls of tools come out.
//!
//! [`Scripted`] needs no network and always answers the same, [`Anthropic`] speaks the Messages API. What a vendor's
//! API looks like is known in its own folder only. A model of your own is one async function:
//!
//! ```
//! use purlin_agent::Agent;
//! use purlin_agent::model::{Answer, Hear, Message, Model, ModelError, Request};
//!
//! struct Parrot;
//!
//! impl Model for Parrot {
//!     async fn answer(&self, request: Request<'_>, hear: Hear<'_>) -> Result<Answer, ModelError> {
//!         let Some(Message::User(prompt)) = request.messages.first() else { return Ok(Answer::text("?")) };
//!         Ok(Answer::text(prompt.as_str()))
//!     }
//! }
//!
//! # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
//! let run = Agent::new(Parrot).run("hello", ()).await.unwrap();
//! assert_eq!(run.result, "hello");
//! # });
//! ```

mod answer;
mod error;
mod message;

pub mod anthropic;
pub mod scripted;

use std::sync::Arc;

use futures_util::future::BoxFuture;
use tokio::time::Instant;

use crate::tool::Definition;

pub use answer::{Answer, Stop, Usage};
pub use anthropic::Anthropic;
pub use error::ModelError;
pub use message::{Block, Message, ToolCall, ToolResult};
pub use scripted::Scripted;

/// Answers conversations.
pub trait Model: Send + Sync + 'static {
    /// The next answer in a conversation.
    ///
    /// A model that gets its answer piece by piece tells `hear` each piece of text as it comes; the answer holds all
    /// of it once more. It keeps to the request's deadline and owns the retries of this hop: whoever asks does not
    /// ask again.
    fn answer(
        &self,
        request: Request<'_>,
        hear: Hear<'_>,
    ) -> impl Future<Output = Result<Answer, ModelError>> + Send;
}

/// What a model is asked.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// Who the model is and what it is for; empty when nobody said.
    pub system: &'a str,
    /// What was said so far; the first message is the user's.
    pub messages: &'a [Message],
    /// What it may call.
    pub tools: &'a [Definition],
    /// The largest answer that is wanted.
    pub max_tokens: u32,
    /// When the answer is no longer waited for.
    pub deadline: Instant,
}

/// Whoever wants to hear an answer while it is made.
pub type Hear<'a> = &'a mut (dyn FnMut(Delta) + Send);

/// A piece of an answer that is still being made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Delta {
    /// More text.
    Text(String),
    /// The answer broke off and is made anew: what was heard of it is void.
    Restart,
}

/// A model of any type, behind a pointer.
pub(crate) type AnyModel = Arc<dyn DynModel>;

/// The twin of [`Model`] that can stand behind a pointer.
pub(crate) trait DynModel: Send + Sync {
    fn answer<'a>(
        &'a self,
        request: Request<'a>,
        hear: Hear<'a>,
    ) -> BoxFuture<'a, Result<Answer, ModelError>>;
}

impl<M: Model> DynModel for M {
    fn answer<'a>(
        &'a self,
        request: Request<'a>,
        hear: Hear<'a>,
    ) -> BoxFuture<'a, Result<Answer, ModelError>> {
        Box::pin(Model::answer(self, request, hear))
    }
}
