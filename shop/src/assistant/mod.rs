//! The assistant: answers questions in plain words, with tools that can do no more than who asks.

mod model;
mod rest;
mod tools;

use axum::{Extension, Router};
use purlin::resilience::Caller;
use purlin::store::Cause;
use purlin_agent::Agent;
use purlin_gateway::auth::Verifier;

use crate::config::Model;
use crate::contracts::clients::Orders;
use tools::Authority;

/// The assistant at work; cheap to clone.
#[derive(Clone)]
struct Assistant {
    agent: Agent<Authority>,
    orders: Orders,
}

/// What it answers.
pub fn router(model: &Model, line: Caller, orders: Orders, verifier: Verifier) -> Result<Router, Cause> {
    let agent = model::agent(model, line)?.system(SYSTEM).tools([tools::search_orders()?])?;
    Ok(rest::router(Assistant { agent, orders }).layer(Extension(verifier)))
}

const SYSTEM: &str = "You help the customers and administrators of a shop. Answer briefly, from what your tools \
    tell you and from nothing else. Amounts are in minor units of the currency (cents).";
