//! What stands beside the store on SQLite.

mod fjall;
mod upserts;

pub(crate) use fjall::Fjall;
pub(crate) use upserts::Upserts;
