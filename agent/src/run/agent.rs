//! A model, what it is for, what it may call and how much of it.

use std::fmt;
use std::sync::Arc;

use crate::machine::Limits;
use crate::model::{AnyModel, Model};
use crate::tool::{Definition, InvalidTool, Tool};

use super::{Event, Events, Finished, RunError, engine};

/// A model with tools, whose runs act with an authority `C`: the caller, and the services as that caller sees them.
pub struct Agent<C> {
    pub(super) model: AnyModel,
    pub(super) system: Arc<str>,
    pub(super) tools: Arc<[Tool<C>]>,
    pub(super) definitions: Arc<[Definition]>,
    pub(super) limits: Limits,
}

impl<C: Clone + Send + Sync + 'static> Agent<C> {
    /// An agent without tools, with the usual [`Limits`].
    pub fn new(model: impl Model) -> Self {
        Self {
            model: Arc::new(model),
            system: "".into(),
            tools: [].into(),
            definitions: [].into(),
            limits: Limits::default(),
        }
    }

    /// Tells the model who it is and what it is for.
    pub fn system(self, system: impl Into<Arc<str>>) -> Self {
        Self { system: system.into(), ..self }
    }

    /// Limits other than the usual ones.
    pub fn limits(self, limits: Limits) -> Self {
        Self { limits, ..self }
    }

    /// Adds tools; two of one name are refused.
    pub fn tools(self, tools: impl IntoIterator<Item = Tool<C>>) -> Result<Self, InvalidTool> {
        let tools: Vec<_> = self.tools.iter().cloned().chain(tools).collect();
        let definitions: Vec<_> = tools.iter().map(|tool| tool.definition().clone()).collect();
        let mut names: Vec<_> = definitions.iter().map(Definition::name).collect();
        names.sort_unstable();
        if let Some(pair) = names.windows(2).find(|pair| pair[0] == pair[1]) {
            return Err(InvalidTool::Duplicate { tool: pair[0].to_owned() });
        }
        Ok(Self { tools: tools.into(), definitions: definitions.into(), ..self })
    }

    /// What the model is told of its tools.
    pub fn definitions(&self) -> &[Definition] {
        &self.definitions
    }

    /// Whether there is something to answer, and not too much.
    pub fn check(&self, prompt: &str) -> Result<(), RunError> {
        let max = self.limits.max_prompt_bytes;
        if prompt.trim().is_empty() || prompt.len() > max { Err(RunError::Prompt { max }) } else { Ok(()) }
    }

    /// Answers a prompt on behalf of `caller`, until the running task's deadline at the latest.
    pub async fn run(&self, prompt: impl Into<String>, caller: C) -> Result<Finished, RunError> {
        self.run_with(prompt, caller, |_| {}).await
    }

    /// Answers a prompt and tells what happens while it happens; the last event is [`Event::Finished`] or
    /// [`Event::Failed`].
    pub async fn run_with(
        &self,
        prompt: impl Into<String>,
        caller: C,
        on_event: impl FnMut(Event) + Send,
    ) -> Result<Finished, RunError> {
        engine::run(self, prompt.into(), caller, on_event).await
    }

    /// The events of a run as a stream that does the run's work while it is read: a slow reader slows the run down,
    /// so that nothing piles up, and a dropped stream stops it. The deadline of the task that asks for the stream holds
    /// for the run, wherever it is read.
    pub fn events(&self, prompt: impl Into<String>, caller: C) -> Events {
        Events::of(self.clone(), prompt.into(), caller)
    }
}

impl<C> Clone for Agent<C> {
    fn clone(&self) -> Self {
        Self {
            model: Arc::clone(&self.model),
            system: Arc::clone(&self.system),
            tools: Arc::clone(&self.tools),
            definitions: Arc::clone(&self.definitions),
            limits: self.limits.clone(),
        }
    }
}

impl<C> fmt::Debug for Agent<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Agent")
            .field("tools", &self.definitions)
            .field("limits", &self.limits)
            .finish_non_exhaustive()
    }
}
