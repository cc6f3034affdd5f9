//! The SQLite engine on real files.

mod collections;
mod copies;
mod erasure;
mod files;
mod folder;
mod full_disk;
mod suite;
