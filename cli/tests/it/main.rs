//! The command line as an operator uses it: the real binary, on the data of a running and of a stopped process.

mod accept;
mod audit;
mod breakers;
mod dead_letters;
mod doctor;
mod personal;
mod places;
mod process;
mod projections;
mod put_back;
mod sagas;
#[path = "../../../adapters/postgres/tests/it/server.rs"]
#[allow(dead_code, reason = "the adapter's tests ask more of a server")]
mod server;
mod stores;
mod streams;
