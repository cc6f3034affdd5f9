//! The store on SQLite and on PostgreSQL, beside what the engine under it gives, and beside other event stores.
//!
//! One kind of event everywhere, about 140 bytes of JSON; 100,000 streams in random order, 300,000 events before. What
//! a limit leaves out it says where it is made; a peer is used as its documentation shows, with the settings that suit
//! it best.

mod appends;
mod archive;
pub(crate) mod growth;
mod loading;
mod order;
mod postgres;
mod projection;
mod replay;
mod sqlite;
mod tail;
mod versions;

use anyhow::Result;
use purlin_bench::{Bench, Session};
use tokio::runtime::Runtime;

use postgres::Postgres;

pub(crate) const BENCH: Bench = Bench {
    name: "store",
    about: "the store on SQLite and PostgreSQL, beside raw inserts, cqrs-es, disintegrate and fjall",
    run,
};

fn run(session: &mut Session) -> Result<()> {
    let runtime = runtime()?;
    let mut postgres = Postgres::default();
    appends::on_sqlite(session, &runtime)?;
    appends::on_postgres(session, &runtime, &mut postgres)?;
    replay::run(session, &runtime, &mut postgres)?;
    loading::run(session, &runtime, &mut postgres)?;
    projection::run(session, &runtime, &mut postgres)?;
    tail::run(session, &runtime, &mut postgres)?;
    archive::run(session, &runtime)
}

fn runtime() -> Result<Runtime> {
    Ok(tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?)
}
