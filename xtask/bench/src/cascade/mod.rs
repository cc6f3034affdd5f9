//! What becomes of everybody else when one service fails under load.
//!
//! Five processes: a gateway, a service in the middle, the callee it needs for one of its routes, another service,
//! and the clients. Capacity is by construction (`plan`): each service does so much at once, each piece by a timer,
//! so that the figures tell of queues and not of the cores that all of them share. Clients ask at fixed times, whether
//! or not they were answered before, and a request's time is counted from when it was due; they hang up after a
//! second, and do not say so beforehand. The callee is needed twice as often as it can answer.
//!
//! # How to read the figures
//!
//! | a figure begins with | what befell whom |
//! |---|---|
//! | `quiet` | nothing, at half of the callee's capacity: what all other p99 are set against |
//! | `crowded` | nothing but twice the load |
//! | `flaky` | one call in six fails at once |
//! | `slow` | the callee's work takes five times as long |
//! | `stopped` | the callee is held (SIGSTOP): its sockets stay open, nothing answers |
//! | `killed` | the callee is killed, and started anew |
//! | `napped` | the middle service itself is held: the callee is well, and its breaker must not open for that |
//! | `hung` | the middle service's own handler hangs, and its clients never hang up; the peer is a gateway that lets a service have as many requests in hand as come |
//! | `metastable` | ten seconds of three times the capacity, by clients who wait 0.3 s and then ask again, four times in all; the peer is the same with timeouts and three attempts in place of all else |
//!
//! Each is at twice the load, for a while before, during and after. `own` is a route of the middle service that does not
//! need the callee, `other` one of another service; what they do not answer well counts as if it had taken a second.
//! `recovery` is from the callee's return until goodput stays, for a second, at 90 % of what it was under the same load
//! before. `attempts a call` may be 1, what the budget gives to each call, and what it had saved. `herd` is the most that
//! the callee receives in any second after its return. A goal that is not met is marked `MISSED`, and nothing else comes
//! of it: on a machine that others share, look at the `quiet` p99 first, which should be a few milliseconds over 40.
//!
//! `--seconds` scales all spans; `--only stopped,killed` leaves the others out.

mod child;
mod findings;
mod load;
mod plan;
mod record;
mod role;
mod sights;
mod trouble;
mod world;

pub use findings::{Quiet, Run, hung, metastable};
pub use role::{ROLE, be};
pub use trouble::Trouble;
