//! Ports for servers that a test starts.

use std::net::{Ipv4Addr, TcpListener};

use crate::message::new_id;

/// A port that is free on this machine, for a server that is told its port and listens there in a moment.
///
/// It is none of those that the system gives to whoever asks for any (from 32,768 on, on Linux): another connection cannot
/// have it meanwhile. Ports are drawn, so that tests which ask at the same time get different ones.
///
/// # Panics
///
/// If of a thousand ports none is free.
pub fn free_port() -> u16 {
    let is_free = |port: &u16| TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok();
    let mut drawn = std::iter::repeat_with(|| 10_000 + new_id().as_u128() as u16 % 20_000);
    drawn.by_ref().take(1000).find(is_free).expect("a port is free")
}
