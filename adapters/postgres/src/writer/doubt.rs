//! Whether guesses pay: one that is wrong costs a group a round trip, and the one behind it too.

/// So many groups are not guessed after one was guessed wrongly, and so many at the most.
const FEW: u32 = 4;
const MANY: u32 = 64;

/// What is thought of guesses.
#[derive(Debug)]
pub(super) struct Doubt {
    /// Groups that could be guessed and are asked.
    left: u32,
    /// As many as there will be after the next wrong guess.
    next: u32,
}

impl Default for Doubt {
    fn default() -> Self {
        Self { left: 0, next: FEW }
    }
}

impl Doubt {
    /// Whether the next group may be guessed.
    pub(super) fn is_over(&self) -> bool {
        self.left == 0
    }

    /// A group was sent, perhaps as one that `guesses`. Each wrong guess in a row makes the doubt twice as long.
    pub(super) fn guessed(&mut self, guesses: bool, right: bool) {
        match (guesses, right) {
            (false, _) => {}
            (true, true) => self.next = FEW,
            (true, false) => {
                self.left = self.next;
                self.next = (self.next * 2).min(MANY);
            }
        }
    }

    /// A group was asked that could have been guessed.
    pub(super) fn wane(&mut self) {
        self.left = self.left.saturating_sub(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many groups are asked until the next is guessed.
    fn asked(doubt: &mut Doubt) -> u32 {
        let mut asked = 0;
        while !doubt.is_over() {
            doubt.wane();
            asked += 1;
        }
        asked
    }

    #[test]
    fn wrong_guesses_in_a_row_are_paid_ever_more_seldom_and_a_right_one_is_believed() {
        let mut doubt = Doubt::default();
        let lengths: Vec<u32> = (0..7)
            .map(|_| {
                doubt.guessed(true, false);
                asked(&mut doubt)
            })
            .collect();
        assert_eq!(lengths, [4, 8, 16, 32, 64, 64, 64]);
        doubt.guessed(true, true);
        doubt.guessed(true, false);
        assert_eq!(asked(&mut doubt), 4);
        doubt.guessed(false, false);
        assert!(doubt.is_over(), "that was no guess");
    }
}
