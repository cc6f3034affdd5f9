//! The framework seen from outside: one file a room.

mod aggregate;
mod layers;
mod source;
mod store;
