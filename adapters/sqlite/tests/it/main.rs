//! The SQLite engine on real files.

mod files;
mod folder;
mod suite;
