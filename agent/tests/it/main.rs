//! The agent from outside: its tools, its loop, its runs, and its models.

#![allow(clippy::unwrap_used, clippy::needless_pass_by_value, reason = "helpers of tests are tests too")]

mod anthropic;
mod machine;
mod messages_api;
mod run;
mod scripted;
mod tool;
