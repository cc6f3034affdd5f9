//! The framework seen from outside: one file a room.

mod aggregate;
