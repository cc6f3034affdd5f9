//! The integration tests of the crate, one module a room.

mod saga;
