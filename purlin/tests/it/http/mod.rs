//! The room `http`.

mod grpc;
mod hops;
mod idempotency;
mod layers;
mod once;
