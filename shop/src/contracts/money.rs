//! Money: an amount in minor units and its currency, with arithmetic that is checked.

use serde::{Deserialize, Serialize};

/// An amount of a currency, in its minor units.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Money {
    /// Minor units (cents).
    pub amount: i64,
    /// Which currency.
    pub currency: Currency,
}

/// The currencies that the shop deals in.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Currency {
    /// The euro.
    #[default]
    #[serde(rename = "EUR")]
    Eur,
}

impl Money {
    /// Nothing.
    pub const ZERO: Self = Self::eur(0);

    /// An amount in cents.
    pub const fn eur(amount: i64) -> Self {
        Self { amount, currency: Currency::Eur }
    }

    /// So many of it; none when that is more than can be written down.
    pub fn times(self, quantity: u32) -> Option<Self> {
        self.amount.checked_mul(i64::from(quantity)).map(|amount| Self { amount, ..self })
    }

    /// Both together; none when that is more than can be written down.
    pub fn plus(self, other: Self) -> Option<Self> {
        self.amount.checked_add(other.amount).map(|amount| Self { amount, ..self })
    }

    /// The sum of price times quantity.
    pub fn total(lines: impl IntoIterator<Item = (Self, u32)>) -> Option<Self> {
        lines.into_iter().try_fold(Self::ZERO, |sum, (price, quantity)| sum.plus(price.times(quantity)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_total_is_the_sum_of_price_times_quantity() {
        assert_eq!(Money::total([(Money::eur(250), 3), (Money::eur(1), 1)]), Some(Money::eur(751)));
        assert_eq!(Money::total([]), Some(Money::ZERO));
    }

    #[test]
    fn a_total_that_cannot_be_written_down_is_none() {
        assert_eq!(Money::total([(Money::eur(i64::MAX), 2)]), None);
        assert_eq!(Money::total([(Money::eur(i64::MAX), 1), (Money::eur(1), 1)]), None);
    }

    #[test]
    fn money_in_another_currency_is_not_read() {
        assert!(serde_json::from_str::<Money>(r#"{"amount":1,"currency":"USD"}"#).is_err());
        assert!(serde_json::from_str::<Money>(r#"{"amount":1.5,"currency":"EUR"}"#).is_err());
    }
}
