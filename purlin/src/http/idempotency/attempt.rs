//! One try at a request, and the names that stay the same from try to try.

use uuid::{Builder, Uuid};

use crate::message::{Timestamp, derived_id};

/// One try at deciding a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attempt {
    /// An id for what the request makes: a UUIDv7 that derives from (caller, key), so that every try at the same
    /// request names the same thing. Without a key it is the same only within this one request.
    pub id: Uuid,
    /// Counts the tries of this process from 1; more than one when the commit met a conflict.
    pub number: u32,
}

impl Attempt {
    /// The key under which this request calls somebody else, for the same purpose at every try.
    pub fn key(&self, purpose: &str) -> String {
        format!("{}/{purpose}", self.id)
    }

    /// A further id that is the same at every try.
    pub fn derived(&self, name: &str) -> Uuid {
        derived_id(self.id, name)
    }
}

/// The id of a request that first came at a time, of bits that derive from its caller and key.
pub(super) fn id_of(started_at: Timestamp, bits: &[u8]) -> Uuid {
    let mut random = [0; 10];
    random.copy_from_slice(&bits[..10]);
    let millis = u64::try_from(started_at.as_millisecond()).unwrap_or(0);
    Builder::from_unix_timestamp_millis(millis, &random).into_uuid()
}
