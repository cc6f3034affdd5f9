//! The command line as an operator uses it: the real binary, on the data of a running and of a stopped process.

mod dead_letters;
mod places;
mod process;
mod sagas;
