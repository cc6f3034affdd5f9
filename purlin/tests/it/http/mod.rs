//! The room `http`.

mod hops;
mod idempotency;
mod layers;
mod once;
