//! What benchmarks of appends share: the events, the callers that commit them, and the same rows without a store.

mod load;
mod raw;

pub use load::Load;
pub use raw::{Layout, Raw};

/// What a commit writes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Kind {
    /// Events of one of many streams.
    Spread,
    /// Events of a stream of its own.
    NewStream,
    /// An event, the inbox mark of its consumer, an idempotency reply and a read-model row.
    Handling,
}

/// A kind of commit, how many callers at once, and how many events a commit.
#[derive(Debug, Clone, Copy)]
pub struct Case {
    /// What a commit writes.
    pub kind: Kind,
    /// Who commit at once; each has one commit under way.
    pub callers: usize,
    /// The events of a commit.
    pub events: usize,
}

/// How many streams there are.
pub const STREAMS: u64 = 100_000;

/// How many events there are before anything is measured.
pub const BEFORE: u64 = 300_000;

/// The kind of every event.
pub const KIND: &str = "order.item-added";

/// The data of an event: about 140 bytes of JSON.
pub fn payload(n: u64) -> String {
    format!(
        "{{\"order_id\":\"{}\",\"sku\":\"tea-{n}\",\"quantity\":3,\"price\":{{\"amount\":1299,\"currency\":\"EUR\"}}}}",
        key(n)
    )
}

/// The key of a stream.
pub fn key(n: u64) -> String {
    format!("0190b5f2-7d10-7c3a-9a35-{n:012x}")
}

/// Numbers at random, the same ones in every run.
#[derive(Debug, Clone)]
pub struct Dice(u64);

impl Dice {
    /// The dice of a caller.
    pub fn new(caller: usize) -> Self {
        Self((caller as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// The next number below a limit.
    pub fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit.max(1)
    }

    /// One of the keys that only this caller uses, so that nobody loses a race.
    pub fn own(&mut self, caller: usize, callers: usize, streams: u64) -> u64 {
        let callers = callers as u64;
        self.below(streams / callers) * callers + caller as u64
    }
}
