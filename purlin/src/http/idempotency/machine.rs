//! What a request may do, given what is remembered of its key. Pure: the time is an argument.

use std::time::Duration;

use uuid::Uuid;

use crate::message::Timestamp;

use super::entry::{Answer, Entry, Lease, State};

/// A request that asks for a key.
pub(super) struct Asked<'a> {
    pub(super) fingerprint: &'a str,
    pub(super) now: Timestamp,
    pub(super) lease: Duration,
    pub(super) holder: Uuid,
    /// No other process uses the store: what another holder had in hand died with it.
    pub(super) sole: bool,
}

/// What it may do.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Claim {
    /// Work, once this entry is stored in place of what was there.
    Take(Entry),
    /// Give this answer again.
    Replay(Answer),
    /// Come back later: somebody works on it.
    InProgress,
    /// Choose another key: this one stands for another request.
    Reused,
    /// Nothing: the request was taken back.
    Undone,
}

/// What a key stands for, whichever the request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyState {
    /// Nothing, as far as is known here.
    Unknown,
    /// A request that is being worked on, and may still come to nothing.
    Running,
    /// A request that is decided.
    Decided,
}

impl Asked<'_> {
    /// May the request be done?
    pub(super) fn to_do(&self, found: Option<Entry>) -> Claim {
        let Some(entry) = found else { return Claim::Take(self.first(State::Running(self.new_lease()))) };
        let same = entry.fingerprint == self.fingerprint;
        match entry.state {
            State::Answered(answer) if same => Claim::Replay(answer),
            State::Answered(_) => Claim::Reused,
            State::Running(lease) if self.holds(&lease) && same => Claim::InProgress,
            State::Running(lease) if self.holds(&lease) => Claim::Reused,
            // The same request goes on under the same ids; another one begins anew.
            State::Running(_) | State::Free if same => {
                Claim::Take(Entry { state: State::Running(self.new_lease()), ..entry })
            }
            State::Running(_) | State::Free => Claim::Take(self.first(State::Running(self.new_lease()))),
            State::Undoing { .. } | State::Undone(_) => Claim::Undone,
        }
    }

    /// What does the key stand for?
    pub(super) fn state(&self, found: Option<Entry>) -> KeyState {
        match found.map(|entry| entry.state) {
            Some(State::Running(lease)) if self.holds(&lease) => KeyState::Running,
            None | Some(State::Free | State::Running(_)) => KeyState::Unknown,
            Some(State::Answered(_) | State::Undoing { .. } | State::Undone(_)) => KeyState::Decided,
        }
    }

    /// May the request be taken back? That overtakes whoever is doing it.
    pub(super) fn to_undo(&self, found: Option<Entry>) -> Claim {
        let lease = self.new_lease();
        let Some(entry) = found else {
            return Claim::Take(self.first(State::Undoing { lease, answer: None }));
        };
        let answer = match entry.state {
            State::Running(_) | State::Free => None,
            State::Answered(answer) => Some(answer).filter(Answer::is_success),
            State::Undoing { lease, .. } if self.holds(&lease) => return Claim::InProgress,
            State::Undoing { answer, .. } => answer,
            State::Undone(answer) => return Claim::Replay(answer),
        };
        Claim::Take(Entry { state: State::Undoing { lease, answer }, ..entry })
    }

    /// The lease that somebody who works now gets.
    pub(super) fn new_lease(&self) -> Lease {
        let until = self.now.checked_add(self.lease).unwrap_or(Timestamp::MAX);
        Lease { until, holder: self.holder }
    }

    fn holds(&self, lease: &Lease) -> bool {
        lease.until > self.now && (!self.sole || lease.holder == self.holder)
    }

    fn first(&self, state: State) -> Entry {
        Entry { fingerprint: self.fingerprint.to_owned(), started_at: self.now, state }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    const LEASE: Duration = Duration::from_secs(5);

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn asked(fingerprint: &str, second: i64) -> Asked<'_> {
        Asked { fingerprint, now: at(second), lease: LEASE, holder: Uuid::nil(), sole: false }
    }

    fn answer(status: u16) -> Answer {
        Answer::new(status, vec![], Bytes::new())
    }

    fn taken(claim: Claim) -> Entry {
        match claim {
            Claim::Take(entry) => entry,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_running_request_holds_its_key_until_its_lease_is_over() {
        let running = taken(asked("a", 10).to_do(None));
        assert_eq!(asked("a", 14).to_do(Some(running.clone())), Claim::InProgress);
        assert_eq!(asked("b", 14).to_do(Some(running.clone())), Claim::Reused);
        let taken_over = taken(asked("a", 15).to_do(Some(running.clone())));
        assert_eq!(taken_over.started_at, at(10), "the same request keeps its ids");
        let other = taken(asked("b", 15).to_do(Some(running)));
        assert_eq!((other.started_at, &*other.fingerprint), (at(15), "b"));
    }

    #[test]
    fn what_another_process_had_in_hand_is_free_when_it_must_be_dead() {
        let running = taken(asked("a", 10).to_do(None));
        let sole = Asked { holder: Uuid::max(), sole: true, ..asked("a", 11) };
        assert_eq!(taken(sole.to_do(Some(running.clone()))).started_at, at(10));
        let same_process = Asked { sole: true, ..asked("a", 11) };
        assert_eq!(same_process.to_do(Some(running)), Claim::InProgress);
    }

    #[test]
    fn an_answer_belongs_to_its_request_alone() {
        let entry = Entry { state: State::Answered(answer(201)), ..taken(asked("a", 1).to_do(None)) };
        assert_eq!(asked("a", 9999).to_do(Some(entry.clone())), Claim::Replay(answer(201)));
        assert_eq!(asked("b", 9999).to_do(Some(entry)), Claim::Reused);
    }

    #[test]
    fn a_key_stands_for_what_is_decided_or_being_worked_on() {
        let running = taken(asked("a", 10).to_do(None));
        assert_eq!(asked("", 14).state(Some(running.clone())), KeyState::Running);
        assert_eq!(asked("", 15).state(Some(running.clone())), KeyState::Unknown, "its worker has died");
        let free = Entry { state: State::Free, ..running.clone() };
        assert_eq!(asked("", 11).state(Some(free)), KeyState::Unknown);
        let decided = Entry { state: State::Answered(answer(404)), ..running };
        assert_eq!(asked("", 99).state(Some(decided)), KeyState::Decided);
        assert_eq!(asked("", 11).state(None), KeyState::Unknown);
    }

    #[test]
    fn what_is_taken_back_is_never_done() {
        let undoing = taken(asked("", 1).to_undo(None));
        assert_eq!(undoing.state, State::Undoing { lease: asked("", 1).new_lease(), answer: None });
        assert_eq!(asked("a", 2).to_do(Some(undoing.clone())), Claim::Undone);
        assert_eq!(asked("", 2).to_undo(Some(undoing.clone())), Claim::InProgress);
        assert!(matches!(asked("", 7).to_undo(Some(undoing.clone())), Claim::Take(_)));
        let undone = Entry { state: State::Undone(answer(200)), ..undoing };
        assert_eq!(asked("a", 2).to_do(Some(undone.clone())), Claim::Undone);
        assert_eq!(asked("", 2).to_undo(Some(undone)), Claim::Replay(answer(200)));
    }

    #[test]
    fn an_undo_sees_the_answer_of_an_effect_only() {
        let entry = taken(asked("a", 1).to_do(None));
        for (state, seen) in [
            (State::Running(asked("a", 1).new_lease()), None),
            (State::Free, None),
            (State::Answered(answer(200)), Some(answer(200))),
            (State::Answered(answer(409)), None),
        ] {
            let undoing = taken(asked("", 2).to_undo(Some(Entry { state, ..entry.clone() })));
            assert_eq!(undoing.state, State::Undoing { lease: asked("", 2).new_lease(), answer: seen });
            assert_eq!(undoing.started_at, at(1));
        }
    }
}
