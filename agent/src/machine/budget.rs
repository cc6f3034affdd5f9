//! What a run has cost, and what the next question would cost at least.

use crate::model::Usage;

use super::Limits;

/// Rather too few than too many: English text and JSON have three to four bytes a token.
const BYTES_PER_TOKEN: usize = 3;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Budget {
    spent: Usage,
    /// What the model reads when it is asked next: a conversation is read again from its beginning in each turn.
    next: u64,
}

impl Budget {
    pub(super) fn new(bytes: usize) -> Self {
        Self { spent: Usage::default(), next: tokens(bytes) }
    }

    pub(super) fn spent(&self) -> Usage {
        self.spent
    }

    pub(super) fn spend(&mut self, usage: Usage) {
        self.spent = self.spent.plus(usage);
        self.next = usage.total().max(self.next);
    }

    /// The conversation has grown by so many bytes.
    pub(super) fn read(&mut self, bytes: usize) {
        self.next = self.next.saturating_add(tokens(bytes));
    }

    /// The largest answer that may be asked for; 0 when the question alone costs more than is left.
    pub(super) fn affordable(&self, limits: &Limits) -> u32 {
        let left = limits.max_tokens.saturating_sub(self.spent.total()).saturating_sub(self.next);
        u32::try_from(left).unwrap_or(u32::MAX).min(limits.max_answer_tokens)
    }
}

fn tokens(bytes: usize) -> u64 {
    bytes.div_ceil(BYTES_PER_TOKEN) as u64
}
