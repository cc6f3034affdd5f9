//! Shared rate limits on a Redis server of their own.

mod counting;
mod faults;
mod processes;
mod server;
mod together;
