//! The counter, as purlin asks for it.

use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use purlin::resilience::lease::{Answer, Ask, Counter, Grant};
use redis::{RedisError, Script, ScriptInvocation};
use uuid::Uuid;

use crate::line::Line;
use crate::url::{Place, UrlError};

/// Counts for all processes that ask the same server.
pub struct Redis {
    place: Place,
    script: Script,
    /// The connection, while nobody uses it.
    line: Mutex<Option<Line>>,
}

impl Redis {
    /// After how many seconds a process that says nothing is not counted any more.
    const GONE: u64 = 5;

    /// The server at `redis://user:password@host:port/database`, which is not asked anything yet.
    pub fn new(url: &str) -> Result<Self, UrlError> {
        let script = Script::new(include_str!("count.lua"));
        Ok(Self { place: Place::parse(url)?, script, line: Mutex::new(None) })
    }

    fn question(&self, process: Uuid, asks: &[Ask]) -> ScriptInvocation<'_> {
        let mut question = self.script.prepare_invoke();
        question.key("{purlin}:processes").arg(process.to_string()).arg(Self::GONE);
        for ask in asks {
            question.key(format!("{{purlin}}:limit:{}", ask.key));
            question.arg(micros(ask.interval)).arg(ask.burst).arg(ask.spent).arg(ask.wanted);
        }
        question
    }

    /// A line that nobody uses, or a new one. It comes back only if all went well on it: one that was given up in the
    /// middle is closed.
    async fn line(&self) -> Result<Line, RedisError> {
        let idle = self.idle().take();
        match idle {
            Some(line) => Ok(line),
            None => Line::open(&self.place).await,
        }
    }

    fn idle(&self) -> MutexGuard<'_, Option<Line>> {
        self.line.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Counter for Redis {
    type Error = CountError;

    async fn lease(&self, process: Uuid, asks: Vec<Ask>) -> Result<Answer, CountError> {
        let question = self.question(process, &asks);
        let mut line = self.line().await.map_err(CountError::Connect)?;
        let numbers: Vec<i64> = line.run(&question).await.map_err(CountError::Ask)?;
        *self.idle() = Some(line);
        read(&numbers).ok_or(CountError::Answer)
    }
}

/// The script's answer.
fn read(numbers: &[i64]) -> Option<Answer> {
    let (processes, grants) = numbers.split_first()?;
    let (grants, []) = grants.as_chunks::<2>() else { return None };
    let grant = |[granted, micros]: &[i64; 2]| {
        let full_in = Duration::from_micros(u64::try_from(*micros).ok()?);
        Some(Grant { granted: u32::try_from(*granted).ok()?, full_in })
    };
    let grants = grants.iter().map(grant).collect::<Option<_>>()?;
    Some(Answer { processes: u32::try_from(*processes).ok()?, grants })
}

/// Microseconds with three decimals, as the script reads them.
fn micros(span: Duration) -> String {
    let nanos = span.as_nanos();
    format!("{}.{:03}", nanos / 1000, nanos % 1000)
}

impl fmt::Debug for Redis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Place { host, port, .. } = &self.place;
        f.debug_struct("Redis").field("host", host).field("port", port).finish_non_exhaustive()
    }
}

/// The server did not count, or did and did not say so.
#[derive(Debug, thiserror::Error)]
pub enum CountError {
    /// It could not be reached, or does not let us in.
    #[error("cannot connect to Redis")]
    Connect(#[source] RedisError),
    /// The connection broke, or the server refused.
    #[error("Redis did not answer")]
    Ask(#[source] RedisError),
    /// Something else answers there.
    #[error("Redis answered something else than was asked")]
    Answer,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_that_does_not_fit_is_none() {
        assert_eq!(read(&[2]), Some(Answer { processes: 2, grants: Vec::new() }));
        let grant = Grant { granted: 3, full_in: Duration::from_millis(7) };
        assert_eq!(read(&[1, 3, 7000]), Some(Answer { processes: 1, grants: vec![grant] }));
        for wrong in [&[][..], &[1, 2], &[1, -1, 0], &[1, 1, -1], &[-1]] {
            assert_eq!(read(wrong), None, "{wrong:?}");
        }
    }

    #[test]
    fn a_cost_is_written_to_the_nanosecond() {
        assert_eq!(micros(Duration::from_nanos(1)), "0.001");
        assert_eq!(micros(Duration::from_nanos(333_333_334)), "333333.334");
    }
}
