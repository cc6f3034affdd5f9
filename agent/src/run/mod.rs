//! An agent, and its runs: the IO around the [`machine`](crate::machine).
//!
//! [`Agent::run`] answers with the result and the steps. [`Agent::run_with`] also tells each event as it happens, and
//! [`Agent::events`] is the same as a stream, for `text/event-stream`. All three run the one loop. Dropping a run
//! stops it and its tools.
//!
//! ```
//! use futures_util::StreamExt as _;
//! use purlin_agent::{Agent, Scripted, model::Answer, run::Event};
//!
//! # tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap().block_on(async {
//! let agent = Agent::new(Scripted::turns([Answer::text("It is late.")]));
//! let told: Vec<Event> = agent.events("What time is it?", ()).collect().await;
//! let names: Vec<_> = told.iter().map(Event::name).collect();
//! assert_eq!(names, ["turn", "text", "text", "text", "step", "finished"]);
//! # });
//! ```

mod agent;
mod calls;
mod engine;
mod error;
mod event;
mod stream;

pub use agent::Agent;
pub use error::RunError;
pub use event::{Event, Finished};
pub use stream::Events;
