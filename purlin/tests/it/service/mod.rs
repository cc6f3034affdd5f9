//! The room `service`.

mod operator;
mod probes;
mod serve;
mod supervisor;
mod tail;
