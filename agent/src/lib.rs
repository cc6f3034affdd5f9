//! Tool-using agents: a model, tools, and the loop between them.
//!
//! A person asks in plain words; the *model* answers with text or with calls of *tools*; the loop runs the calls of
//! a turn in parallel, gives their results back in the order of the calls, and asks again until the model ends its
//! turn. What the loop decides is a pure [`machine`]; [`run`] does the IO around it. Tools act with the authority of
//! the caller and with no other, whatever the model asks for.
//!
//! ```
//! # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
//! use purlin_agent::{Agent, Scripted, Tool, model::Answer, tool::At};
//! use serde::Deserialize;
//! use serde_json::json;
//!
//! #[derive(Clone)]
//! struct Caller { name: String }
//! #[derive(Deserialize)]
//! struct Search { status: String }
//!
//! let search = Tool::new(
//!     "search_orders",
//!     "Finds orders of the caller",
//!     json!({"type": "object", "required": ["status"], "additionalProperties": false,
//!            "properties": {"status": {"type": "string", "enum": ["draft", "shipped"]}}}),
//!     async |search: Search, at: At<Caller>| {
//!         Ok::<_, std::convert::Infallible>(json!({"of": at.name, "status": search.status, "found": 2}))
//!     },
//! )?;
//! let model = Scripted::turns([
//!     Answer::calling([("search_orders", json!({"status": "shipped"}))]),
//!     Answer::text("Two of your orders have shipped."),
//! ]);
//! let agent = Agent::new(model).tools([search])?;
//! let run = agent.run("Which orders have shipped?", Caller { name: "ada".into() }).await?;
//! assert_eq!(run.result, "Two of your orders have shipped.");
//! assert_eq!(serde_json::to_value(&run.steps[0])?["result"], json!({"of": "ada", "status": "shipped", "found": 2}));
//! # Ok::<_, Box<dyn std::error::Error>>(())
//! # }).unwrap();
//! ```

pub mod machine;
pub mod model;
pub mod run;
pub mod tool;

pub use machine::Limits;
pub use model::{Anthropic, Model, Scripted};
pub use run::Agent;
pub use tool::Tool;
