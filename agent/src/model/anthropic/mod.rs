//! Claude, by Anthropic's Messages API (version 2023-06-01).
//!
//! Answers are streamed, so that text is heard as it is made; a server that answers with one JSON body instead is
//! understood too. What the API may refuse of a conversation cannot arise: results follow their calls at once, one
//! for each, and nothing is empty. Overload (429, 529), a server's errors and broken connections are tried again, no
//! earlier than the server says, within the request's deadline and a budget of all requests together; the rest is not.
//!
//! ```
//! use purlin_agent::model::anthropic::{Anthropic, Config, Secret};
//!
//! let model = Anthropic::new(Config::new("claude-sonnet-4-5", Secret::new("sk-ant-..."))).unwrap();
//! assert!(format!("{model:?}").contains("[hidden]"));
//! ```

mod config;
mod decode;
mod encode;
mod exchange;
mod refusal;
mod sse;
mod stream;

use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use http::Uri;
use purlin::message::{Fault as _, new_id};
use purlin::resilience::{RetryBudget, RetryBudgetConfig};
use tokio::time::{Instant, sleep, timeout_at};

pub use config::{Config, ConfigError, Secret, Transfer};

use exchange::{Attempt, Exchange};

use super::{Answer, Delta, Hear, Model, ModelError, Request};

/// How often all requests together are sent again: a fifth of them, and one each two seconds, of which ten are saved up. A
/// vendor who is overloaded hears no more than that from all who ask at once.
const BUDGET: RetryBudgetConfig = RetryBudgetConfig { ratio: 0.2, per_second: 0.5, saved: 10.0 };

/// A model behind the Messages API.
pub struct Anthropic {
    config: Config,
    exchange: Exchange,
    budget: RetryBudget,
}

impl Anthropic {
    /// A client that connects when it is asked something.
    pub fn new(config: Config) -> Result<Self, ConfigError> {
        let uri: Uri = config.endpoint()?;
        let exchange = Exchange::new(uri, &config)?;
        Ok(Self { config, exchange, budget: RetryBudget::new(BUDGET, Instant::now()) })
    }

    async fn attempt(&self, body: &Bytes, deadline: Instant, hear: Hear<'_>) -> Result<Answer, Attempt> {
        let deadline = deadline.min(Instant::now() + self.config.attempt_timeout);
        match timeout_at(deadline, self.exchange.answer(body.clone(), hear)).await {
            Ok(answered) => answered,
            Err(_) => Err(Attempt::again(ModelError::Timeout)),
        }
    }
}

impl Model for Anthropic {
    async fn answer(&self, request: Request<'_>, hear: Hear<'_>) -> Result<Answer, ModelError> {
        let body = Bytes::from(encode::body(&self.config, &request));
        let mut attempts = 0;
        self.budget.earn();
        loop {
            attempts += 1;
            let mut heard = false;
            let mut listen = |delta| {
                heard = true;
                hear(delta);
            };
            let failed = match self.attempt(&body, request.deadline, &mut listen).await {
                Ok(answer) => return Ok(answer),
                Err(failed) => failed,
            };
            // 0 to 1, from the random part of an id.
            let dice = (new_id().as_u128() as u32) as f64 / f64::from(u32::MAX);
            let (now, pause) = (Instant::now(), pause(&self.config, attempts, failed.wait, dice));
            let in_time = pause < request.deadline.saturating_duration_since(now);
            if !failed.again || attempts >= self.config.max_attempts || !in_time || !self.budget.spend(now) {
                return Err(failed.error);
            }
            tracing::warn!(attempts, error = failed.error.code(), "the model is asked again");
            if heard {
                hear(Delta::Restart);
            }
            sleep(pause).await;
        }
    }
}

impl fmt::Debug for Anthropic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Anthropic").field("config", &self.config).finish_non_exhaustive()
    }
}

/// How long to wait after the attempt of this number (from 1): doubling, half of it by chance so that clients do not
/// come back all at once, and what the server asked for before it.
fn pause(config: &Config, attempt: u32, asked: Option<Duration>, dice: f64) -> Duration {
    let doubled = config.first_pause.saturating_mul(2_u32.saturating_pow(attempt.saturating_sub(1)));
    let capped = doubled.min(config.max_pause);
    let own = capped / 2 + capped.mul_f64(dice / 2.0);
    own.saturating_add(asked.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_a_cap_and_come_behind_what_was_asked_for() {
        let config = Config {
            first_pause: Duration::from_millis(100),
            max_pause: Duration::from_millis(300),
            ..Config::new("m", Secret::new("k"))
        };
        let pauses = [1, 2, 3, 40].map(|attempt| pause(&config, attempt, None, 1.0).as_millis());
        assert_eq!(pauses, [100, 200, 300, 300]);
        assert_eq!(pause(&config, 1, None, 0.0).as_millis(), 50);
        assert_eq!(pause(&config, 1, Some(Duration::from_secs(7)), 1.0), Duration::from_millis(7_100));
        assert_eq!(pause(&config, 1, Some(Duration::MAX), 1.0), Duration::MAX);
    }
}
