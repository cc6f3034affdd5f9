//! Finding orders: who may see which, and which there are.

use purlin::http::{Cursors, Listing, Problem};
use purlin::message::{Fault, FaultKind, Uuid};
use purlin::projection::Rows;
use purlin::store::{Query as Stored, ReadError};

use super::Orders;
use super::order::Status;
use super::view::OrderRow;
use crate::contracts::who::Known;

const CURSORS: Cursors = Cursors::of("orders");

/// Which orders somebody wants to see.
#[derive(Debug, Clone, Default)]
pub struct Wanted {
    /// How far they have come.
    pub status: Option<Status>,
    /// Whose they are.
    pub user_id: Option<Uuid>,
    /// What is in them.
    pub product_id: Option<Uuid>,
    /// How many at most; 0 is the usual number.
    pub limit: usize,
    /// Behind which one.
    pub after: Option<String>,
}

impl Orders {
    /// The newest orders first that somebody may see: a customer his own, an administrator all.
    pub(super) async fn search(&self, known: Known, wanted: Wanted) -> Result<Rows<OrderRow>, SearchError> {
        let user_id = whose(known, wanted.user_id)?;
        let mut query = Stored::all().descending().limit(wanted.limit).after(wanted.after);
        if let Some(status) = wanted.status {
            query = query.and("status", status.as_str());
        }
        if let Some(user_id) = user_id {
            query = query.and("user_id", user_id.to_string());
        }
        if let Some(product_id) = wanted.product_id {
            query = query.and("product_ids", product_id.to_string());
        }
        Ok(self.view.list(query).await?)
    }
}

/// Whose orders somebody sees who asks for these: a customer his own, an administrator those, or all.
pub fn whose(known: Known, user_id: Option<Uuid>) -> Result<Option<Uuid>, SearchError> {
    match user_id {
        Some(other) if !known.is_admin() && other != known.id => Err(SearchError::Forbidden),
        None if !known.is_admin() => Ok(Some(known.id)),
        user_id => Ok(user_id),
    }
}

/// The key that a request's cursor stands behind.
pub fn cursor(given: Option<&str>) -> Result<Option<String>, Problem> {
    CURSORS.read_optional(given)
}

/// A page of orders as it is answered.
pub fn page(rows: Rows<OrderRow>) -> Listing<OrderRow> {
    let next = rows.next.map(|key| CURSORS.write(&key));
    Listing { items: rows.items.into_iter().map(|(_, row)| row).collect(), next }
}

/// Nothing was looked for.
#[derive(Debug, thiserror::Error)]
pub enum SearchError {
    /// They are not his.
    #[error("only administrators may see the orders of others")]
    Forbidden,
    /// The read model cannot be read.
    #[error("the orders cannot be read")]
    Read(#[from] ReadError),
}

impl Fault for SearchError {
    fn kind(&self) -> FaultKind {
        match self {
            Self::Forbidden => FaultKind::Rejected,
            Self::Read(error) => error.kind(),
        }
    }

    fn code(&self) -> &str {
        match self {
            Self::Forbidden => "forbidden",
            Self::Read(error) => error.code(),
        }
    }
}
