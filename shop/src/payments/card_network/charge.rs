//! What the network does with a card, decided by the card's token.

use std::time::Duration;

use purlin::message::{Timestamp, Uuid};
use purlin::store::Row;
use serde::{Deserialize, Serialize};

use crate::contracts::money::Money;

/// How long `tok_slow` takes to answer.
const SLOW: Duration = Duration::from_secs(3);

/// How often `tok_flaky` fails before it works.
const FLAKY: u32 = 2;

/// What a merchant wants charged.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Order {
    /// The merchant's name for it, which the ledger repeats.
    pub order_id: Uuid,
    /// Which card.
    pub token: String,
    /// How much.
    pub amount: Money,
}

/// What the network says of a card.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// The money has moved; the charge has this id.
    Charged(Uuid),
    /// It will not move, for this reason.
    Declined(String),
    /// Nobody knows yet: ask again with the same key.
    Unavailable(String),
}

/// All that the network remembers of a key.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Charge {
    /// What was asked for under the key; none: its refund came first.
    pub(super) order: Option<Order>,
    /// How often it was asked for.
    pub(super) asked: u32,
    /// What became of it.
    pub(super) outcome: Option<Outcome>,
    /// When the answer is given, not before.
    pub(super) answer_at: Option<Timestamp>,
}

/// What became of a charge, for good.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Outcome {
    /// The money has moved.
    Charged(Uuid),
    /// It will not move.
    Declined(String),
    /// It has moved, and moved back; or its refund came first.
    Refunded(Money),
}

impl Row for Charge {
    const COLLECTION: &'static str = "charges";
}

/// What is to be done when a key is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Decision {
    /// What is said.
    pub(super) answer: Answer,
    /// Whether money moves now.
    pub(super) moves: bool,
    /// Whether what is said gets lost on its way.
    pub(super) lost: bool,
}

impl Charge {
    /// Somebody asks for a charge: `id` is its id if money moves now.
    pub(super) fn ask(&mut self, order: &Order, id: Uuid, now: Timestamp) -> Decision {
        self.asked = self.asked.saturating_add(1);
        if let Some(outcome) = &self.outcome {
            return said(repeat(outcome));
        }
        self.order = Some(order.clone());
        match order.token.as_str() {
            "tok_ok" => self.charge(id),
            "tok_slow" => {
                self.answer_at = now.checked_add(SLOW).ok();
                self.charge(id)
            }
            "tok_timeout" => Decision { lost: true, ..self.charge(id) },
            "tok_flaky" if self.asked > FLAKY => self.charge(id),
            "tok_flaky" => said(unavailable("the card's bank did not answer")),
            "tok_down" => said(unavailable("the card's bank is down")),
            "tok_declined" => self.decline("the card was declined"),
            "tok_insufficient_funds" => self.decline("the card has insufficient funds"),
            _ => self.decline("the card is not known"),
        }
    }

    fn charge(&mut self, id: Uuid) -> Decision {
        self.outcome = Some(Outcome::Charged(id));
        Decision { answer: Answer::Charged(id), moves: true, lost: false }
    }

    fn decline(&mut self, reason: &str) -> Decision {
        self.outcome = Some(Outcome::Declined(reason.to_owned()));
        said(Answer::Declined(reason.to_owned()))
    }

    /// Somebody wants the money back: how much moves back now, and what he is told has moved back in all.
    pub(super) fn refund(&mut self) -> (Option<Money>, Money) {
        let charged = match (&self.outcome, &self.order) {
            (Some(Outcome::Refunded(amount)), _) => return (None, *amount),
            (Some(Outcome::Charged(_)), Some(order)) => Some(order.amount),
            _ => None,
        };
        let amount = charged.unwrap_or(Money::ZERO);
        self.outcome = Some(Outcome::Refunded(amount));
        (charged, amount)
    }
}

fn repeat(outcome: &Outcome) -> Answer {
    match outcome {
        Outcome::Charged(id) => Answer::Charged(*id),
        Outcome::Declined(reason) => Answer::Declined(reason.clone()),
        Outcome::Refunded(_) => Answer::Declined("the charge was withdrawn".to_owned()),
    }
}

fn unavailable(reason: &str) -> Answer {
    Answer::Unavailable(reason.to_owned())
}

fn said(answer: Answer) -> Decision {
    Decision { answer, moves: false, lost: false }
}

#[cfg(test)]
mod tests {
    use purlin::message::new_id;

    use super::*;

    const NOW: Timestamp = Timestamp::UNIX_EPOCH;

    fn order(token: &str) -> Order {
        Order { order_id: new_id(), token: token.into(), amount: Money::eur(700) }
    }

    fn ask(charge: &mut Charge, token: &str) -> Decision {
        charge.ask(&order(token), new_id(), NOW)
    }

    #[test]
    fn money_moves_once_however_often_it_is_asked_for() {
        for token in ["tok_ok", "tok_slow", "tok_timeout", "tok_flaky"] {
            let mut charge = Charge::default();
            let decisions: Vec<_> = (0..6).map(|_| ask(&mut charge, token)).collect();
            assert_eq!(decisions.iter().filter(|decision| decision.moves).count(), 1, "{token}");
            assert!(matches!(decisions[5].answer, Answer::Charged(_)), "{token}");
            assert!(!decisions[5].lost, "{token}");
        }
    }

    #[test]
    fn only_the_first_answer_of_tok_timeout_is_lost() {
        let mut charge = Charge::default();
        let first = ask(&mut charge, "tok_timeout");
        assert!(first.lost && first.moves);
        assert_eq!(ask(&mut charge, "tok_timeout").answer, first.answer);
    }

    #[test]
    fn tok_flaky_fails_twice_for_each_key() {
        let mut charge = Charge::default();
        for _ in 0..2 {
            assert!(matches!(ask(&mut charge, "tok_flaky").answer, Answer::Unavailable(_)));
        }
        assert!(ask(&mut charge, "tok_flaky").moves);
    }

    #[test]
    fn a_refused_card_stays_refused_and_has_nothing_to_give_back() {
        for token in ["tok_declined", "tok_insufficient_funds", "tok_unheard_of"] {
            let mut charge = Charge::default();
            for _ in 0..2 {
                let decision = ask(&mut charge, token);
                assert!(matches!(decision.answer, Answer::Declined(_)) && !decision.moves, "{token}");
            }
            assert_eq!(charge.refund(), (None, Money::ZERO));
        }
    }

    #[test]
    fn a_refund_moves_the_money_back_once() {
        let mut charge = Charge::default();
        ask(&mut charge, "tok_ok");
        assert_eq!(charge.refund(), (Some(Money::eur(700)), Money::eur(700)));
        assert_eq!(charge.refund(), (None, Money::eur(700)));
    }

    #[test]
    fn a_charge_that_comes_after_its_refund_is_refused() {
        let mut charge = Charge::default();
        assert_eq!(charge.refund(), (None, Money::ZERO));
        let decision = ask(&mut charge, "tok_ok");
        assert!(matches!(decision.answer, Answer::Declined(_)) && !decision.moves);
    }
}
