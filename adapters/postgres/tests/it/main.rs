//! The PostgreSQL engine on a server of its own.

mod faults;
mod processes;
mod schemas;
mod server;
mod suite;
