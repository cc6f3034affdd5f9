//! What a model may do: a name, a description, a schema of the arguments, and an async function.
//!
//! [`Tool::new`] is the typed door: the function takes a type of yours and answers with another. Behind it stands an
//! erased corridor, so that an agent holds tools of any types. Arguments come from a model, that is from outside:
//! they are checked against the schema before the function sees them, and a schema that says more than is checked is
//! refused when the tool is made.
//!
//! ```
//! use purlin_agent::tool::{InvalidTool, SchemaError, Tool};
//! use serde_json::{Value, json};
//!
//! let tool = Tool::<()>::new(
//!     "find",
//!     "Finds things by name",
//!     json!({"type": "object", "properties": {"name": {"type": "string", "pattern": "^[a-z]+$"}}}),
//!     async |arguments: Value, _| Ok::<_, std::convert::Infallible>(arguments),
//! );
//! let Err(InvalidTool::Schema { source: SchemaError::Unsupported { keyword, .. }, .. }) = tool else { panic!() };
//! assert_eq!(keyword, "pattern");
//! ```

mod at;
mod check;
mod definition;
mod failure;
mod schema;
mod typed;

pub use at::At;
pub use definition::{Definition, InvalidTool};
pub(crate) use failure::shortened;
pub use failure::{Failure, Outcome};
pub use schema::{Schema, SchemaError};
pub use typed::Tool;
