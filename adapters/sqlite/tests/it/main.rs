//! The SQLite engine on real files.

mod collections;
mod copies;
mod files;
mod folder;
mod full_disk;
mod histories;
mod suite;
