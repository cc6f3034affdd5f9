//! The breakers of all processes, for administrators to look at and to hold.
//!
//! Each process has those of its own calls, and answers for them [to the others](rpc). The one that has the gateway
//! [asks all](peers) that it knows of, each within a deadline, and answers [administrators](rest): so what calls whom can
//! be seen and held there even when every service is away. A process that does not answer is named with the reason.

mod here;
mod peers;
mod rest;
mod rpc;

pub use here::Here;
pub use peers::{Peer, Peers};
pub use rest::{POOL, router};
pub use rpc::router as answering_others;
