//! What cannot be done with an order.

use purlin::message::{Fault, FaultKind};

use crate::contracts::numbers::MOST_LINES;

/// What cannot be done with an order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum OrderError {
    /// There is no such order.
    #[error("there is no such order")]
    NotFound,
    /// There is one already.
    #[error("the order exists already")]
    Exists,
    /// Nothing is in it.
    #[error("cannot submit an empty order")]
    Empty,
    /// It was submitted or cancelled before.
    #[error("the order is not a draft any more")]
    NotDraft,
    /// It is on its way.
    #[error("the order is shipped and cannot be cancelled any more")]
    Shipped,
    /// It was cancelled, or is about to be.
    #[error("the order is being cancelled")]
    Ending,
    /// Its total cannot be written down.
    #[error("the order's total is more than can be charged")]
    TooExpensive,
    /// It has too many lines.
    #[error("an order has at most {MOST_LINES} lines")]
    TooManyLines,
}

impl Fault for OrderError {
    fn kind(&self) -> FaultKind {
        match self {
            Self::NotFound => FaultKind::NotFound,
            Self::Exists | Self::Empty | Self::NotDraft | Self::Shipped | Self::Ending => FaultKind::Conflict,
            Self::TooExpensive | Self::TooManyLines => FaultKind::Rejected,
        }
    }

    fn code(&self) -> &str {
        match self {
            Self::NotFound => "not-found",
            Self::Exists => "order-exists",
            Self::Empty => "empty-order",
            Self::NotDraft => "order-not-draft",
            Self::Shipped => "order-shipped",
            Self::Ending => "order-ending",
            Self::TooExpensive => "order-too-expensive",
            Self::TooManyLines => "order-too-large",
        }
    }
}
