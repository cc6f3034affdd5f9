//! The SQLite engine on real files.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod archive;
#[cfg(target_os = "linux")]
mod archive_power;
mod beside;
mod collections;
mod copies;
mod damage;
#[cfg(target_os = "linux")]
mod doubt;
#[cfg(target_os = "linux")]
mod durability;
mod files;
mod folder;
mod full_disk;
mod histories;
mod older;
mod personal;
#[cfg(target_os = "linux")]
mod read_only;
#[cfg(target_os = "linux")]
mod shim;
mod suite;
