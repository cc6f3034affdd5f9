//! A model that follows a script: without network, without cost, and always the same.
//!
//! It plays a fixed list of turns (for tests), or reacts to the prompt by rules (for a program without a model), or
//! is any function of the request. It remembers nothing: which turn it is follows from the conversation, so that one
//! script serves any number of runs at once.
//!
//! ```
//! use purlin_agent::model::scripted::{Rule, Scripted};
//! use serde_json::json;
//!
//! let model = Scripted::rules(
//!     [Rule::when(["order", "orders"]).call("search_orders", |heard| {
//!         match heard.first_of(&["draft", "submitted", "shipped"]) {
//!             Some(status) => json!({"status": status}),
//!             None => json!({}),
//!         }
//!     })],
//!     "Ask me for your orders.",
//! );
//! # let _ = model;
//! ```

mod rule;

use std::fmt;

pub use rule::{Heard, Rule};

use super::{Answer, Block, Delta, Hear, Message, Model, ModelError, Request};

/// A model that follows a script.
pub struct Scripted(Script);

type Script = Box<dyn Fn(&Request<'_>) -> Result<Answer, ModelError> + Send + Sync>;

impl Scripted {
    /// Gives these answers one after the other, in each conversation from the first.
    pub fn turns(answers: impl IntoIterator<Item = Answer>) -> Self {
        let answers: Vec<_> = answers.into_iter().collect();
        Self::reacting(move |request| {
            let given =
                request.messages.iter().filter(|message| matches!(message, Message::Model(_))).count();
            let next = answers.get(given).cloned();
            next.ok_or_else(|| ModelError::malformed(format!("the script ends after {given} turns")))
        })
    }

    /// Follows the first rule whose words are in the prompt; says `otherwise` when there is none.
    pub fn rules(rules: impl IntoIterator<Item = Rule>, otherwise: impl Into<String>) -> Self {
        let (rules, otherwise) = (rules.into_iter().collect::<Vec<_>>(), otherwise.into());
        Self::reacting(move |request| {
            let heard = Heard::in_conversation(request.messages);
            let rule = rules.iter().find(|rule| rule.fits(&heard));
            Ok(rule.map_or_else(|| Answer::text(&otherwise), |rule| rule.answer(&heard)))
        })
    }

    /// Gives the answer that `react` gives.
    pub fn reacting(
        react: impl Fn(&Request<'_>) -> Result<Answer, ModelError> + Send + Sync + 'static,
    ) -> Self {
        Self(Box::new(react))
    }
}

impl Model for Scripted {
    async fn answer(&self, request: Request<'_>, hear: Hear<'_>) -> Result<Answer, ModelError> {
        let answer = (self.0)(&request)?;
        for block in &answer.blocks {
            if let Block::Text(text) = block {
                text.split_inclusive(' ').for_each(|word| hear(Delta::Text(word.to_owned())));
            }
        }
        Ok(answer)
    }
}

impl fmt::Debug for Scripted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Scripted")
    }
}
