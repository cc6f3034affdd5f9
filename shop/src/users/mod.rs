//! The users service: who somebody is and what he may do.
//!
//! It keeps users as streams, one address for one user by a record in the same commit, passwords as argon2id
//! hashes, and the key that tokens are signed with. Everybody else verifies tokens by the key's public half.
//!
//! Who somebody is (his address, his name, his password) is personal: it is kept under a key of his own, and destroying
//! that key forgets him.

mod addresses;
mod administrator;
mod administrators;
mod password;
mod rest;
mod rpc;
mod tokens;
mod user;

use std::path::PathBuf;

use axum::Router;
use purlin::aggregate::Repository;
use purlin::store::Cause;

use crate::contracts::service::{Base, Service};
use addresses::Addresses;
use administrators::Administrators;
use password::Passwords;
use tokens::Tokens;
use user::User;

/// The users service at work; cheap to clone.
#[derive(Clone)]
struct Users {
    base: Base,
    users: Repository<User>,
    addresses: Addresses,
    administrators: Administrators,
    passwords: Passwords,
    tokens: Tokens,
}

/// How the first administrator is made.
#[derive(Debug, Clone)]
pub struct FirstAdministrator {
    /// His password; none: one is made up and written to the file.
    pub password: Option<String>,
    /// Where a made-up password is written.
    pub file: PathBuf,
}

/// Makes the service, and on first start its administrator.
pub async fn service(base: Base, first: &FirstAdministrator) -> Result<Service, Cause> {
    let addresses = Addresses::open(&base.store).await?;
    let administrators = Administrators::open(&base.store).await?;
    let tokens = Tokens::open(&base.store, &base.clock).await?;
    let (users, passwords) = (Repository::new(&base.store), Passwords::for_cores()?);
    let users = Users { base: base.clone(), users, addresses, administrators, passwords, tokens };
    users.first_administrator(first).await?;
    let doors = Router::new().merge(rest::router(users.clone())).merge(rpc::router(users));
    Ok(base.service(doors))
}
