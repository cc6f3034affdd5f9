//! What a model is told of a tool.

use std::time::Duration;

use purlin::message::{Fault, FaultKind};
use serde_json::Value;

use super::{Schema, SchemaError};

const MAX_NAME: usize = 64;
const MAX_DESCRIPTION: usize = 4096;

/// A tool as a model sees it: without its function.
#[derive(Debug, Clone, PartialEq)]
pub struct Definition {
    name: String,
    description: String,
    schema: Schema,
    pub(super) timeout: Option<Duration>,
}

impl Definition {
    pub(super) fn new(name: &str, description: &str, schema: Value) -> Result<Self, InvalidTool> {
        let allowed = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
        if name.is_empty() || name.len() > MAX_NAME || !name.chars().all(allowed) {
            return Err(InvalidTool::Name { tool: name.to_owned() });
        }
        if description.is_empty() || description.len() > MAX_DESCRIPTION {
            return Err(InvalidTool::Description { tool: name.to_owned() });
        }
        let schema = Schema::of_arguments(schema)
            .map_err(|source| InvalidTool::Schema { tool: name.to_owned(), source })?;
        Ok(Self { name: name.to_owned(), description: description.to_owned(), schema, timeout: None })
    }

    /// The name that a model calls it by.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What it does and when to use it.
    pub fn description(&self) -> &str {
        &self.description
    }

    /// What its arguments must look like.
    pub fn schema(&self) -> &Schema {
        &self.schema
    }

    /// How long a call may take, when the tool says something else than the agent.
    pub fn timeout(&self) -> Option<Duration> {
        self.timeout
    }
}

/// The tool cannot be offered to a model.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidTool {
    /// Models only take such names.
    #[error("`{tool}` is no name for a tool: 1 to 64 letters, digits, `_` and `-`")]
    Name {
        /// The name that was given.
        tool: String,
    },
    /// A model chooses a tool by its description.
    #[error("tool `{tool}` needs a description of at most 4096 bytes")]
    Description {
        /// The tool's name.
        tool: String,
    },
    /// The schema cannot be checked, or says nothing that makes sense.
    #[error("the schema of tool `{tool}` cannot be used")]
    Schema {
        /// The tool's name.
        tool: String,
        /// What is wrong with it, and where.
        #[source]
        source: SchemaError,
    },
    /// An agent has one tool of a name.
    #[error("there are two tools named `{tool}`")]
    Duplicate {
        /// The name of both.
        tool: String,
    },
}

impl Fault for InvalidTool {
    fn kind(&self) -> FaultKind {
        FaultKind::Bug
    }
}
