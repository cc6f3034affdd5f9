//! Whether a value is just written for a store or read from one, and not for the world outside: what is personal goes
//! into a store alone.

use std::cell::Cell;

thread_local! {
    static STORING: Cell<usize> = const { Cell::new(0) };
}

struct Scope;

impl Drop for Scope {
    fn drop(&mut self) {
        STORING.set(STORING.get() - 1);
    }
}

/// What `work` writes or reads here and now is a store's.
#[inline(always)]
pub(crate) fn storing<T>(work: impl FnOnce() -> T) -> T {
    STORING.set(STORING.get() + 1);
    let _scope = Scope;
    work()
}

/// Whether what is written or read here and now is a store's.
pub(crate) fn is_storing() -> bool {
    STORING.get() > 0
}
