//! Which model the assistant asks.

use purlin::store::Cause;
use purlin_agent::model::anthropic::{Config, Secret};
use purlin_agent::model::scripted::Rule;
use purlin_agent::{Agent, Anthropic, Scripted};
use serde_json::json;

use super::tools::Authority;
use crate::config::Model;

/// An agent of the model that is configured, without tools yet.
pub fn agent(model: &Model) -> Result<Agent<Authority>, Cause> {
    match model {
        Model::Scripted => Ok(Agent::new(scripted())),
        Model::Anthropic { key, url, name } => {
            let config = Config { base_url: url.clone(), ..Config::new(name, Secret::new(key)) };
            Ok(Agent::new(Anthropic::new(config)?))
        }
    }
}

/// Looks for orders when orders are spoken of: of the customer whose id is in the prompt, in the status that is.
fn scripted() -> Scripted {
    let orders = Rule::when(["order", "orders", "bought", "purchase", "purchases"]);
    let orders = orders.call("search_orders", |heard| {
        let statuses = ["draft", "submitted", "confirmed", "shipped", "cancelled"];
        let mut arguments = serde_json::Map::new();
        if let Some(status) = heard.first_of(&statuses) {
            arguments.insert("status".into(), json!(status));
        }
        if let Some(customer) = heard.first_id() {
            arguments.insert("customerId".into(), json!(customer));
        }
        arguments.into()
    });
    Scripted::rules([orders], "I can look up orders: ask me, for example, which of your orders have shipped.")
}
