//! The room `http`.

mod idempotency;
mod once;
