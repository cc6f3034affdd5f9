//! The SQLite engine on real files.

mod files;
mod folder;
mod full_disk;
mod suite;
