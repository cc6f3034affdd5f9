//! Numbers that are checked where they come in.

use serde::de::Error as _;
use serde::{Deserialize, Deserializer};

/// Characters that a password has at least.
pub const SHORTEST_PASSWORD: usize = 8;

/// The most lines of one order.
pub const MOST_LINES: usize = 100;

/// How many of a product somebody wants: 1 to 10,000.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quantity(pub u32);

impl<'de> Deserialize<'de> for Quantity {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        integer(deserializer, 1, 10_000).map(|n| Self(n as u32))
    }
}

/// How many of a product come into stock: 1 to a thousand million.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Addition(pub i64);

/// The most that is taken into stock at once.
pub const MOST_STOCK: i64 = 1_000_000_000;

impl<'de> Deserialize<'de> for Addition {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        integer(deserializer, 1, MOST_STOCK).map(Self)
    }
}

/// How many of a product there are at first: 0 to a thousand million.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FirstStock(pub i64);

impl<'de> Deserialize<'de> for FirstStock {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        integer(deserializer, 0, MOST_STOCK).map(Self)
    }
}

fn integer<'de, D: Deserializer<'de>>(deserializer: D, least: i64, most: i64) -> Result<i64, D::Error> {
    let number = i64::deserialize(deserializer)?;
    if (least..=most).contains(&number) {
        return Ok(number);
    }
    Err(D::Error::custom(format_args!("{number} is not from {least} to {most}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quantity_is_from_1_to_10000() {
        for good in ["1", "10000"] {
            assert!(serde_json::from_str::<Quantity>(good).is_ok(), "{good}");
        }
        for bad in ["0", "-1", "10001", "1.5", "\"1\"", "99999999999999999999", "null"] {
            assert!(serde_json::from_str::<Quantity>(bad).is_err(), "{bad}");
        }
    }
}
