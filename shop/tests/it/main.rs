//! The shop from outside: the real program as a child process, driven over HTTP.

mod access;
mod apart;
mod assistant;
mod breakers;
mod cancel;
mod checkout;
mod client;
#[cfg(feature = "crash-points")]
mod crash_points;
mod crash_random;
mod dice;
mod forgetting;
mod idempotency;
mod input;
mod invariants;
mod operator;
mod process;
mod reading;
mod shop;
