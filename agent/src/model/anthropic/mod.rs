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

use bytes::Bytes;
use http::Uri;
use purlin::message::Fault as _;
use purlin::resilience::{Retry, RetryBudget, RetryBudgetConfig};
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
    retry: Retry,
    budget: RetryBudget,
}

impl Anthropic {
    /// A client that connects when it is asked something.
    pub fn new(config: Config) -> Result<Self, ConfigError> {
        let uri: Uri = config.endpoint()?;
        let exchange = Exchange::new(uri, &config)?;
        let (retry, budget) = (retry(&config), RetryBudget::new(BUDGET, Instant::now()));
        Ok(Self { config, exchange, retry, budget })
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
            let now = Instant::now();
            let again = failed.again && self.retry.allows(attempts);
            let left = request.deadline.saturating_duration_since(now);
            let pause = self.retry.random_pause(attempts, failed.wait).filter(|pause| again && *pause < left);
            let Some(pause) = pause.filter(|_| self.budget.spend(now)) else {
                return Err(failed.error);
            };
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

/// How often a request is sent, and after which pauses: half of each by chance, so that clients do not come back all at once.
fn retry(config: &Config) -> Retry {
    Retry {
        max_attempts: config.max_attempts,
        first_delay: config.first_pause,
        max_delay: config.max_pause,
        jitter: 0.5,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn pauses_double_up_to_a_cap_and_come_behind_what_was_asked_for() {
        let config = Config {
            first_pause: Duration::from_millis(100),
            max_pause: Duration::from_millis(300),
            ..Config::new("m", Secret::new("k"))
        };
        let retry = retry(&config);
        let pauses = [1, 2, 3, 40].map(|failed| retry.pause(failed, None, 0.0).unwrap().as_millis());
        assert_eq!(pauses, [100, 200, 300, 300]);
        assert_eq!(retry.pause(1, None, 1.0).unwrap().as_millis(), 50);
        assert_eq!(retry.pause(1, Some(Duration::from_secs(7)), 0.0).unwrap().as_millis(), 7_100);
    }
}
