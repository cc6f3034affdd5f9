//! The room `http`.

mod idempotency;
mod layers;
mod once;
