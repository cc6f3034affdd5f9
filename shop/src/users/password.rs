//! Passwords: hashed with argon2id, a few at a time, off the threads that serve requests.

use std::sync::Arc;

use argon2::Argon2;
use argon2::password_hash::phc::PasswordHash;
use argon2::password_hash::{PasswordHasher, PasswordVerifier};
use purlin::message::{Fault, FaultKind};
use tokio::sync::Semaphore;

/// How many wait for their turn at most: more than one address may send at once. Each waits for as long as his request
/// may take, and no longer.
const WAITING: usize = 256;

/// How many are worked on at once at most, whatever the cores: each takes 19 MiB.
const MOST: usize = 8;

/// Hashes and checks passwords; cheap to clone.
#[derive(Clone)]
pub struct Passwords {
    turns: Arc<Semaphore>,
    /// For those who work and those who wait for their turn.
    places: Arc<Semaphore>,
    /// The hash that a password is checked against when there is no such user, so that both take as long.
    nobody: Arc<str>,
}

impl Passwords {
    /// One at once for each core.
    pub fn for_cores() -> Result<Self, PasswordError> {
        Self::new(std::thread::available_parallelism().map_or(1, std::num::NonZero::get).min(MOST))
    }

    /// At most so many at once; further ones wait, but not many.
    fn new(at_once: usize) -> Result<Self, PasswordError> {
        let nobody = hash("nobody has this password")?.into();
        let (turns, places) = (Semaphore::new(at_once), Semaphore::new(at_once + WAITING));
        Ok(Self { turns: Arc::new(turns), places: Arc::new(places), nobody })
    }

    /// A password as it may be kept.
    pub async fn hash(&self, password: &str) -> Result<String, PasswordError> {
        let password = password.to_owned();
        self.work(move || hash(&password)).await?
    }

    /// Whether this is the password that was hashed; without a hash it never is, and takes as long to say.
    pub async fn is_right(&self, password: &str, hashed: Option<&str>) -> Result<bool, PasswordError> {
        let (password, known) = (password.to_owned(), hashed.is_some());
        let hashed = hashed.unwrap_or(&self.nobody).to_owned();
        let right = self.work(move || check(&password, &hashed)).await??;
        Ok(right && known)
    }

    async fn work<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, PasswordError> {
        let _place = self.places.try_acquire().map_err(|_| PasswordError::Overloaded)?;
        let turn = Arc::clone(&self.turns).acquire_owned().await.map_err(|_| PasswordError::Stopped)?;
        // The turn goes with the work: a request that is given up does not stop it.
        let work = move || {
            let _turn = turn;
            work()
        };
        tokio::task::spawn_blocking(work).await.map_err(|_| PasswordError::Stopped)
    }
}

fn hash(password: &str) -> Result<String, PasswordError> {
    let hashed = Argon2::default().hash_password(password.as_bytes());
    Ok(hashed.map_err(|error| PasswordError::Hash(error.to_string()))?.to_string())
}

fn check(password: &str, hashed: &str) -> Result<bool, PasswordError> {
    let hashed = PasswordHash::new(hashed).map_err(|error| PasswordError::Hash(error.to_string()))?;
    Ok(Argon2::default().verify_password(password.as_bytes(), &hashed).is_ok())
}

/// A password was neither hashed nor checked.
#[derive(Debug, thiserror::Error)]
pub enum PasswordError {
    /// The hash is none, or could not be made.
    #[error("a password cannot be hashed or checked: {0}")]
    Hash(String),
    /// Too many wait for their turn.
    #[error("too many passwords are checked at this moment: try again in a moment")]
    Overloaded,
    /// The process is stopping.
    #[error("the process is stopping")]
    Stopped,
}

impl Fault for PasswordError {
    fn kind(&self) -> FaultKind {
        match self {
            Self::Hash(_) => FaultKind::Bug,
            Self::Overloaded => FaultKind::Overloaded,
            Self::Stopped => FaultKind::Unavailable,
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    #[tokio::test]
    async fn a_request_that_is_given_up_keeps_its_turn_until_its_work_is_done() {
        let passwords = Passwords::new(1).unwrap();
        let (go_on, waits) = std::sync::mpsc::channel::<()>();
        let mut work = Box::pin(passwords.work(move || waits.recv()));
        assert!(work.as_mut().now_or_never().is_none());
        drop(work);
        assert_eq!(passwords.turns.available_permits(), 0);
        go_on.send(()).unwrap();
        assert!(passwords.is_right("nobody has this password", None).await.is_ok());
    }

    #[tokio::test]
    async fn those_who_find_too_many_waiting_are_sent_away() {
        let passwords = Passwords::new(1).unwrap();
        let _taken = passwords.places.acquire_many(1 + WAITING as u32).await.unwrap();
        assert!(matches!(passwords.hash("correct horse").await, Err(PasswordError::Overloaded)));
    }

    #[tokio::test]
    async fn only_the_right_password_is_right() {
        let passwords = Passwords::new(2).unwrap();
        let hashed = passwords.hash("correct horse").await.unwrap();
        assert!(hashed.starts_with("$argon2id$"), "{hashed}");
        assert!(passwords.is_right("correct horse", Some(&hashed)).await.unwrap());
        assert!(!passwords.is_right("battery staple", Some(&hashed)).await.unwrap());
        assert!(!passwords.is_right("nobody has this password", None).await.unwrap());
    }
}
