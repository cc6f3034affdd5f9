//! The SQLite engine on real files.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod collections;
mod copies;
mod damage;
mod files;
mod folder;
mod full_disk;
mod suite;
