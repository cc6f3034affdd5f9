//! Who waits for a place, by class and in order.

use std::collections::VecDeque;

use crate::resilience::Criticality;

/// Those who wait, each class in the order in which they came, and what each is called by.
#[derive(Debug)]
pub(super) struct Queue<C> {
    classes: [VecDeque<(u64, C)>; Criticality::ALL.len()],
    next: u64,
}

impl<C> Queue<C> {
    pub(super) fn new() -> Self {
        Self { classes: std::array::from_fn(|_| VecDeque::new()), next: 0 }
    }

    /// Stands at the end of its class; its number.
    pub(super) fn push(&mut self, class: Criticality, call: C) -> u64 {
        self.next += 1;
        self.classes[class as usize].push_back((self.next, call));
        self.next
    }

    /// Takes the one out who has waited longest in the highest class that has a place; `has_place` takes it.
    pub(super) fn pop(&mut self, has_place: impl FnOnce(Criticality) -> bool) -> Option<C> {
        let class =
            Criticality::ALL.into_iter().rev().find(|class| !self.classes[*class as usize].is_empty())?;
        has_place(class).then(|| self.classes[class as usize].pop_front()).flatten().map(|(_, call)| call)
    }

    /// Leaves the queue; whether it still stood there.
    pub(super) fn remove(&mut self, class: Criticality, number: u64) -> bool {
        let waiting = &mut self.classes[class as usize];
        let found = waiting.binary_search_by_key(&number, |(number, _)| *number);
        found.is_ok_and(|index| waiting.remove(index).is_some())
    }

    /// Whether somebody waits who goes before a newcomer of this class.
    pub(super) fn goes_before(&self, class: Criticality) -> bool {
        self.classes[class as usize..].iter().any(|waiting| !waiting.is_empty())
    }
}
