//! How much it hurts if a request is refused.
//!
//! Whoever begins a request says its class; it travels along as `x-criticality`, like the deadline, and every
//! [`Bulkhead`](super::Bulkhead) on the way refuses the lower classes first. The names are those of Google's *Site
//! Reliability Engineering*, chapter 21.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

tokio::task_local! {
    static CURRENT: Criticality;
}

/// The header, and the metadata of a gRPC call, that says a request's class.
pub const HEADER: &str = "x-criticality";

/// How much it hurts if a request is refused, least first.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Criticality {
    /// Nobody waits for it: a batch, a prefetch. Takes at most half of the places, and of the queue.
    Sheddable,
    /// It will be tried again: a reminder, a report. Takes at most three quarters of the places, and of the queue.
    SheddablePlus,
    /// Somebody waits for it; so it is with every request that does not say otherwise. May take every place.
    #[default]
    Critical,
}

impl Criticality {
    /// Every class, the lowest first.
    pub const ALL: [Self; 3] = [Self::Sheddable, Self::SheddablePlus, Self::Critical];

    /// Its name, as headers say it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Sheddable => "sheddable",
            Self::SheddablePlus => "sheddable-plus",
            Self::Critical => "critical",
        }
    }

    /// How many of `capacity` places the class may take: its part, rounded up.
    pub fn share(self, capacity: usize) -> usize {
        match self {
            Self::Sheddable => capacity.div_ceil(2),
            Self::SheddablePlus => capacity - capacity / 4,
            Self::Critical => capacity,
        }
    }
}

impl fmt::Display for Criticality {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Criticality {
    type Err = UnknownCriticality;

    /// Reads a name; `critical-plus`, which others have besides, is critical here.
    fn from_str(name: &str) -> Result<Self, UnknownCriticality> {
        match name {
            "sheddable" => Ok(Self::Sheddable),
            "sheddable-plus" => Ok(Self::SheddablePlus),
            "critical" | "critical-plus" => Ok(Self::Critical),
            _ => Err(UnknownCriticality),
        }
    }
}

/// There is no such class.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a criticality is `critical`, `sheddable-plus` or `sheddable`")]
pub struct UnknownCriticality;

/// The class of the request that the running task answers.
pub fn current() -> Criticality {
    CURRENT.try_with(|class| *class).unwrap_or_default()
}

/// Does `work` as part of a request of this class, or of the present one if that is lower: who works for a batch is
/// no more critical than the batch.
pub async fn within<F: Future>(class: Criticality, work: F) -> F::Output {
    CURRENT.scope(class.min(current()), work).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_class_comes_back_by_its_name_and_takes_its_part() {
        for class in Criticality::ALL {
            assert_eq!(class.to_string().parse(), Ok(class));
            assert_eq!(class.share(1), 1, "of one place everybody has one");
        }
        assert_eq!(Criticality::ALL.map(|class| class.share(10)), [5, 8, 10]);
        assert_eq!("urgent".parse::<Criticality>(), Err(UnknownCriticality));
    }

    #[tokio::test]
    async fn a_class_inside_another_never_rises() {
        assert_eq!(current(), Criticality::Critical);
        let inner = async { within(Criticality::Critical, async { current() }).await };
        assert_eq!(within(Criticality::Sheddable, inner).await, Criticality::Sheddable);
    }
}
