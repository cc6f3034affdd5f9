//! How many files and connections a process may have open at once.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// More than a process has use for: what a kernel that knows no limit is asked for.
const MOST: u64 = 1 << 20;

/// Raises the limit of open files and connections as far as the process may, and says what it is then.
///
/// Shells and service managers give 1,024 by habit, for programs of another age, and allow many more to who asks.
pub fn raise_descriptors() -> u64 {
    let limit = getrlimit(Resource::Nofile);
    let (current, most) = (limit.current.unwrap_or(MOST), limit.maximum.unwrap_or(MOST).min(MOST));
    if current >= most {
        return current;
    }
    let raised = Rlimit { current: Some(most), maximum: limit.maximum };
    match setrlimit(Resource::Nofile, raised) {
        Ok(()) => most,
        Err(error) => {
            tracing::warn!(%error, current, most, "the limit of open files was not raised");
            current
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_is_raised_as_far_as_it_goes() {
        let raised = raise_descriptors();
        let limit = getrlimit(Resource::Nofile);
        assert_eq!(limit.current.unwrap_or(raised), raised);
        assert!(raised >= limit.maximum.unwrap_or(MOST).min(MOST));
    }
}
