//! The PostgreSQL engine on a server of its own.

mod faults;
mod histories;
mod processes;
mod proxy;
mod schemas;
mod server;
mod suite;
