//! Whether the process can be told at which commit to die: only in builds with the feature `crash-points`.
//!
//! Such a build reads `SHOP_CRASH_AT` (`before:17`, `after:17`), counts the commits of all its files from its start,
//! and shows the count as `purlin_chaos_commits`. A build without it has no such switch, and nothing in the way of a
//! commit.

#[cfg(not(feature = "crash-points"))]
mod off;
#[cfg(feature = "crash-points")]
mod on;

#[cfg(not(feature = "crash-points"))]
pub use off::Crash;
#[cfg(feature = "crash-points")]
pub use on::Crash;
