//! What the assistant can do.

use std::time::Duration;

use purlin::message::{Fault, FaultKind};
use purlin_agent::Tool;
use purlin_agent::tool::{At, InvalidTool};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::contracts::clients::Orders;
use crate::contracts::line::LineError;

/// On whose behalf a tool works: it shows his own token to the services it asks.
#[derive(Clone)]
pub struct Authority {
    /// His token.
    pub token: String,
    /// The orders service.
    pub orders: Orders,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Search {
    customer_id: Option<String>,
    status: Option<String>,
}

/// Finds orders. Whose may be seen is for the orders service to say.
pub fn search_orders() -> Result<Tool<Authority>, InvalidTool> {
    let schema = json!({
        "type": "object",
        "properties": {
            "customerId": {
                "type": "string",
                "description": "The id of the customer whose orders are looked for; without it, those of who asks. \
                    Only administrators may look for the orders of others.",
            },
            "status": {
                "type": "string",
                "enum": ["draft", "submitted", "confirmed", "shipped", "cancelled"],
                "description": "Only orders in this status.",
            },
        },
        "additionalProperties": false,
    });
    let description = "Finds the newest orders, at most 20, of a customer or in a status.";
    Tool::new("search_orders", description, schema, async |search: Search, at: At<Authority>| {
        let found = at.orders.search(&at.token, search.customer_id, search.status).await?;
        serde_json::from_str::<Value>(&found).map_err(SearchError::Unreadable)
    })
}

/// No orders were found, for another reason than that there are none.
#[derive(Debug, thiserror::Error)]
enum SearchError {
    /// The orders service refused, or cannot be asked.
    #[error(transparent)]
    Line(#[from] LineError),
    /// It answered what is no list of orders.
    #[error("the orders service did not answer with orders")]
    Unreadable(#[source] serde_json::Error),
}

impl Fault for SearchError {
    fn kind(&self) -> FaultKind {
        match self {
            Self::Line(error) => error.kind(),
            Self::Unreadable(_) => FaultKind::Bug,
        }
    }

    fn code(&self) -> &str {
        match self {
            Self::Line(error) => error.code(),
            Self::Unreadable(_) => "bug",
        }
    }

    fn is_of_another(&self) -> bool {
        matches!(self, Self::Line(error) if error.is_of_another())
    }

    fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Line(error) => error.retry_after(),
            Self::Unreadable(_) => None,
        }
    }
}
