//! A small number for each thread, which is its own for as long as it lives.
//!
//! Where each thread has a counter of its own, it can count with a load and a store: no other writes there.

use std::sync::{Mutex, PoisonError};

/// Numbers of threads that have ended, and the first that was never given.
struct Free {
    returned: Vec<usize>,
    next: usize,
}

static FREE: Mutex<Free> = Mutex::new(Free { returned: Vec::new(), next: 0 });

struct Place(usize);

thread_local! {
    static PLACE: Place = Place::take();
}

/// This thread's number; none while it is being torn down.
pub(super) fn place() -> Option<usize> {
    PLACE.try_with(|place| place.0).ok()
}

impl Place {
    /// The lowest number that no living thread has. The lock hands what an earlier owner wrote to the next.
    fn take() -> Self {
        let mut free = FREE.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(lowest) = (0..free.returned.len()).min_by_key(|index| free.returned[*index]) {
            return Self(free.returned.swap_remove(lowest));
        }
        free.next += 1;
        Self(free.next - 1)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        FREE.lock().unwrap_or_else(PoisonError::into_inner).returned.push(self.0);
    }
}
