//! The frame of a benchmark: measurements that take turns, medians, a table and a line of JSON for each figure.
//!
//! A figure sets ours beside the raw limit of the machine, or beside a peer, measured in the same run. The rounds
//! interleave: a machine that gets slower in the middle slows all of them, and the ratio stands.
//!
//! ```
//! use purlin_bench::{Figure, Unit};
//!
//! # fn main() -> anyhow::Result<()> {
//! let figure = Figure::new("append", "sqlite commit 128", Unit::PerSecond("events"))
//!     .ours(|| Ok(200_000.0.into()))
//!     .limit(|| Ok(250_000.0.into()))
//!     .measure(5)?;
//! assert_eq!(figure.ratio(), Some(0.8));
//! assert!(figure.json().starts_with(r#"{"bench":"append","case":"sqlite commit 128","ours":200000"#));
//! # Ok(())
//! # }
//! ```

pub mod append;
mod calls;
pub mod cascade;
mod comparison;
pub mod disk;
mod figure;
mod session;
mod table;

pub use calls::{Calls, Tally};
pub use comparison::Comparison;
pub use figure::{Figure, Goal, Measured, Reading, Unit};
pub use session::{Bench, Session};
