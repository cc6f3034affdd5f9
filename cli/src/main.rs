//! `purlin`: what an operator does with the data of a running process, or of one that is stopped.
//!
//! A running process answers on a socket in its data folder; the stores of a stopped one are opened here. Both are
//! asked the same questions, by the same router of `purlin::service::operator`.

mod arguments;
mod command;
mod failure;
mod operator;
mod place;
mod progress;
mod table;

use std::process::ExitCode;

use arguments::Arguments;

fn main() -> ExitCode {
    let arguments = Arguments::read();
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("purlin: the machine gives no more threads or files: {error}");
            return ExitCode::FAILURE;
        }
    };
    match runtime.block_on(command::run(&arguments)) {
        Ok(status) => status,
        Err(failure) => {
            eprintln!("purlin: {}", failure.told());
            failure.status()
        }
    }
}
