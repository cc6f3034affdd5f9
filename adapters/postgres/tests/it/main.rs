//! The PostgreSQL engine on a server of its own.

mod archive;
mod encrypted;
mod failover;
mod faults;
mod groups;
mod histories;
mod master_keys;
mod pages;
mod processes;
mod proxy;
mod restored;
mod schemas;
mod server;
mod silent;
mod suite;
