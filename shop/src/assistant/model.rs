//! Which model the assistant asks.

use purlin::resilience::{CallError, Caller};
use purlin::store::Cause;
use purlin_agent::model::anthropic::{Config, Secret};
use purlin_agent::model::scripted::Rule;
use purlin_agent::model::{Answer, Hear, ModelError, Request};
use purlin_agent::{Agent, Anthropic, Model as Answers, Scripted};
use serde_json::json;

use super::tools::Authority;
use crate::config::Model;

/// An agent of the model that is configured, without tools yet; `line` is how one elsewhere is reached.
pub fn agent(model: &Model, line: Caller) -> Result<Agent<Authority>, Cause> {
    match model {
        Model::Scripted => Ok(Agent::new(scripted())),
        Model::Anthropic { key, url, name } => {
            let config = Config { base_url: url.clone(), ..Config::new(name, Secret::new(key)) };
            Ok(Agent::new(Elsewhere { model: Anthropic::new(config)?, line }))
        }
    }
}

/// A model with all that stands around a call but retries, which are its own.
struct Elsewhere<M> {
    model: M,
    line: Caller,
}

impl<M: Answers> Answers for Elsewhere<M> {
    async fn answer(&self, request: Request<'_>, hear: Hear<'_>) -> Result<Answer, ModelError> {
        let answer = self.line.call_once(|| self.model.answer(request, hear)).await;
        answer.map_err(|error| match error {
            CallError::Failed(error) => error,
            CallError::Open(open) => ModelError::Unavailable {
                reason: if open.is_held() {
                    "an operator holds its circuit breaker open".into()
                } else {
                    "it failed too often".into()
                },
                retry_after: Some(open.retry_after),
                source: Some(Box::new(open)),
            },
            CallError::Full(_) => ModelError::Overloaded { retry_after: None },
            CallError::DeadlineExceeded => ModelError::Timeout,
        })
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
