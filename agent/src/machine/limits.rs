//! How much a run may do.

use std::time::Duration;

/// How much a run may do; whatever is reached first ends it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// How often the model is asked.
    pub max_turns: u32,
    /// How many calls it may make in the whole run.
    pub max_calls: u32,
    /// How many calls are at work at the same time.
    pub max_parallel: usize,
    /// What the run may cost: tokens read and written in all turns. The model is not asked when what it would read
    /// alone would be more than is left.
    pub max_tokens: u64,
    /// The largest answer asked for, in tokens.
    pub max_answer_tokens: u32,
    /// The largest prompt.
    pub max_prompt_bytes: usize,
    /// The largest result of a tool, as JSON.
    pub max_result_bytes: usize,
    /// How long a call may take, unless its tool says otherwise.
    pub tool_timeout: Duration,
    /// How long the whole run may take.
    pub deadline: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_turns: 10,
            max_calls: 32,
            max_parallel: 8,
            max_tokens: 200_000,
            max_answer_tokens: 4096,
            max_prompt_bytes: 32 * 1024,
            max_result_bytes: 50 * 1024,
            tool_timeout: Duration::from_secs(10),
            deadline: Duration::from_secs(60),
        }
    }
}
