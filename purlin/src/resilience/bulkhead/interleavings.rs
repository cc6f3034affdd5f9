//! Every order in which a few threads may come to a bulkhead, wait, leave and give up, and every value that a load may
//! then see.
//!
//! loom runs each test once for each of them. `door.rs`, `crowd.rs` and `queue.rs` are compiled once more for it, with
//! its atomics and its mutex.

use loom::sync::Arc;
use loom::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use loom::thread;

use crate::resilience::Criticality::{self, Critical, Sheddable};

#[allow(dead_code, clippy::duplicate_mod, reason = "compiled once more, for the model checker")]
#[path = "crowd.rs"]
mod crowd;
#[allow(dead_code, clippy::duplicate_mod, reason = "compiled once more, for the model checker")]
#[path = "door.rs"]
mod door;
#[allow(dead_code, clippy::duplicate_mod, reason = "compiled once more, for the model checker")]
#[path = "queue.rs"]
mod queue;

mod sync {
    pub(super) use loom::sync::Mutex;
    pub(super) use loom::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
}

use crowd::Came;
use door::Door;

/// A bulkhead, and who is inside as those who come see it.
struct House {
    door: Door<Arc<AtomicUsize>>,
    places: usize,
    inside: AtomicUsize,
}

/// One who came.
enum Guest {
    Inside,
    Waits { class: Criticality, number: u64, called: Arc<AtomicUsize> },
    Refused,
}

impl House {
    fn new(places: usize, max_waiting: usize) -> Self {
        let door = Door::new();
        door.set_max_waiting(max_waiting);
        let house = Self { door, places, inside: AtomicUsize::new(0) };
        house.set_places(places);
        house
    }

    fn set_places(&self, places: usize) {
        self.tell(self.door.set_places(places));
    }

    fn tell(&self, called: door::Called<Arc<AtomicUsize>>) {
        called.each(|called| {
            assert_eq!(called.fetch_add(1, SeqCst), 0, "nobody is called twice");
        });
    }

    fn comes(&self, class: Criticality) -> Guest {
        match self.door.enter(class) {
            Came::In => self.is_inside(),
            Came::Refused => Guest::Refused,
            Came::Waits => {
                let called = Arc::new(AtomicUsize::new(0));
                match self.door.line_up(class, Arc::clone(&called)) {
                    Ok(number) => Guest::Waits { class, number, called },
                    Err(Came::In) => self.is_inside(),
                    Err(_) => Guest::Refused,
                }
            }
        }
    }

    /// Whoever is inside by himself counts himself; those who are called are seen at the end.
    fn is_inside(&self) -> Guest {
        assert!(self.inside.fetch_add(1, SeqCst) < self.places, "one too many");
        Guest::Inside
    }

    fn leaves(&self) {
        self.inside.fetch_sub(1, SeqCst);
        self.tell(self.door.leave());
    }

    /// Goes away, from wherever he is.
    fn goes(&self, guest: &Guest) {
        match guest {
            Guest::Inside => self.leaves(),
            Guest::Waits { class, number, .. } => self.tell(self.door.give_up(*class, *number)),
            Guest::Refused => {}
        }
    }

    fn now(&self) -> (usize, usize) {
        let now = self.door.now();
        (now.inside, now.waiting)
    }
}

impl Guest {
    /// Whether he has a place.
    fn has_place(&self) -> bool {
        match self {
            Self::Inside => true,
            Self::Waits { called, .. } => called.load(SeqCst) == 1,
            Self::Refused => false,
        }
    }

    fn is_refused(&self) -> bool {
        matches!(self, Self::Refused)
    }
}

/// Does `work` on another thread while `meanwhile` is done on this one.
fn beside<T: 'static, U>(
    house: &Arc<House>,
    work: impl FnOnce(&House) -> T + 'static,
    meanwhile: impl FnOnce(&House) -> U,
) -> (T, U) {
    let there = Arc::clone(house);
    let other = thread::spawn(move || work(&there));
    let here = meanwhile(house);
    (other.join().expect("no thread panics"), here)
}

fn house(places: usize, max_waiting: usize) -> Arc<House> {
    Arc::new(House::new(places, max_waiting))
}

#[test]
fn no_place_is_free_while_somebody_waits_for_it_however_one_leaves_as_another_comes() {
    loom::model(|| {
        let house = house(1, 1);
        let first = house.comes(Critical);
        let (second, ()) = beside(&house, |house| house.comes(Critical), |house| house.goes(&first));
        assert!(second.has_place(), "he came before the other left, and was called, or after it");
        assert_eq!(house.now(), (1, 0));
    });
}

#[test]
fn of_two_who_come_at_once_one_has_the_place_and_the_other_waits_or_is_refused() {
    for (max_waiting, waiting) in [(1, 1), (0, 0)] {
        loom::model(move || {
            let house = house(1, max_waiting);
            let comes = |house: &House| house.comes(Critical);
            let (one, other) = beside(&house, comes, comes);
            assert!(one.has_place() ^ other.has_place());
            assert_eq!(one.is_refused() || other.is_refused(), waiting == 0);
            assert_eq!(house.now(), (1, waiting));
        });
    }
}

#[test]
fn a_place_that_one_was_called_to_who_gave_up_is_the_next_ones() {
    loom::model(|| {
        let house = house(1, 2);
        let inside = house.comes(Critical);
        let (second, third) = (house.comes(Critical), house.comes(Critical));
        beside(&house, move |house: &House| house.goes(&second), |house| house.goes(&inside));
        assert!(third.has_place(), "whether the second was called before or not");
        assert_eq!(house.now(), (1, 0));
        house.goes(&third);
        assert_eq!(house.now(), (0, 0));
    });
}

#[test]
fn nobody_overtakes_one_who_waits() {
    loom::model(|| {
        let house = house(1, 2);
        let inside = house.comes(Critical);
        let second = house.comes(Critical);
        let (third, ()) = beside(&house, |house| house.comes(Critical), |house| house.goes(&inside));
        assert!(second.has_place() && !third.has_place() && !third.is_refused());
        assert_eq!(house.now(), (1, 1));
    });
}

#[test]
fn a_limit_that_grows_lets_in_whoever_waits_or_is_about_to() {
    loom::model(|| {
        let house = Arc::new(House { places: 2, ..House::new(1, 1) });
        let _inside = house.comes(Critical);
        let (second, ()) = beside(&house, |house| house.comes(Critical), |house| house.set_places(2));
        assert!(second.has_place());
        assert_eq!(house.now(), (2, 0));
    });
}

#[test]
fn a_limit_that_shrinks_while_one_leaves_lets_in_none_too_many() {
    loom::model(|| {
        let house = house(2, 1);
        let (one, _other) = (house.comes(Critical), house.comes(Critical));
        let third = house.comes(Critical);
        beside(&house, |house| house.set_places(1), |house| house.goes(&one));
        let (inside, waiting) = house.now();
        assert_eq!(inside, 1 + usize::from(third.has_place()), "let in before it shrank, or not");
        assert_eq!(waiting, usize::from(!third.has_place()));
    });
}

#[test]
fn a_low_class_never_exceeds_its_share_and_is_called_when_it_may() {
    loom::model(|| {
        let house = house(2, 2);
        let (one, other) = (house.comes(Sheddable), house.comes(Critical));
        // Of two places a low one may have one.
        let low = house.comes(Sheddable);
        assert!(!low.has_place() && !low.is_refused());
        let (high, ()) = beside(&house, |house| house.comes(Critical), |house| house.goes(&one));
        assert!(high.has_place(), "nobody who goes before him waits");
        assert!(!low.has_place(), "with him all places are taken");
        house.goes(&high);
        assert!(!low.has_place(), "the one place that he might have is still taken");
        house.goes(&other);
        assert!(low.has_place());
        assert_eq!(house.now(), (1, 0));
    });
}

#[test]
fn three_who_come_and_go_leave_nothing_behind() {
    let mut model = loom::model::Builder::new();
    // All orders with up to two switches in the middle of something; there are too many of all.
    model.preemption_bound = Some(2);
    model.check(|| {
        let house = house(1, 1);
        let come_and_go = |house: &House| {
            let guest = house.comes(Critical);
            house.goes(&guest);
        };
        let there = Arc::clone(&house);
        let third = thread::spawn(move || come_and_go(&there));
        beside(&house, come_and_go, come_and_go);
        third.join().expect("no thread panics");
        assert_eq!(house.now(), (0, 0));
        assert!(house.comes(Critical).has_place());
    });
}
