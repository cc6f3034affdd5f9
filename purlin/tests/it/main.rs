//! The integration tests of purlin: one file a room.

mod http;
