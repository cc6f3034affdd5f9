//! What the users service answers to customers.

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json as Answer, Router};
use http::StatusCode;
use purlin::http::{Attempt, Decided, Problem, Write};
use purlin::message::{Timestamp, Uuid};
use purlin::store::Commit;
use serde::{Deserialize, Serialize};

use super::user::{User, UserError, complaint, normal};
use super::{Address, Users};
use crate::contracts::who::{Caller, Known, Role};

/// The routes of the users service.
pub fn router(users: Users) -> Router {
    Router::new()
        .route("/users", post(register))
        .route("/users/me", get(me))
        .route("/sessions", post(log_in))
        .route("/.well-known/jwks.json", get(keys))
        .with_state(users)
}

#[derive(Debug, Deserialize)]
struct NewUser {
    email: String,
    name: String,
    password: String,
}

#[derive(Debug, Deserialize)]
struct Credentials {
    email: String,
    password: String,
}

/// A user as he is shown.
#[derive(Debug, Serialize)]
struct Shown {
    id: Uuid,
    email: String,
    name: String,
    role: Role,
}

#[derive(Debug, Serialize)]
struct Session {
    token: String,
    expires_at: Timestamp,
}

async fn register(State(users): State<Users>, caller: Caller, write: Write<NewUser>) -> Response {
    let Write { request, body } = write;
    if let Some((field, why)) = complaint(&body.email, &body.name, &body.password) {
        let problem = Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid-user");
        return problem.detail(format!("`{field}`: {why}")).with("field", field).into_response();
    }
    users.base.keys.run(&caller, &request, |attempt| users.register(attempt, &body)).await
}

async fn log_in(State(users): State<Users>, caller: Caller, write: Write<Credentials>) -> Response {
    let Write { request, body } = write;
    users.base.keys.run(&caller, &request, |_| users.log_in(&body)).await
}

async fn me(State(users): State<Users>, known: Known) -> Result<Answer<Shown>, Problem> {
    let user = users.users.load(known.id).await?;
    if !user.exists() {
        return Err(UserError::NotFound.into());
    }
    Ok(Answer(shown(known.id, user.state())))
}

async fn keys(State(users): State<Users>) -> Answer<serde_json::Value> {
    Answer(users.tokens.document())
}

impl Users {
    async fn register(&self, attempt: Attempt, new: &NewUser) -> Result<Decided, Problem> {
        let email = normal(&new.email);
        if self.base.store.get::<Address>(&email).await?.is_some() {
            return Err(UserError::EmailTaken.into());
        }
        let person = User {
            email: new.email.trim().to_owned(),
            name: new.name.trim().to_owned(),
            role: Role::User,
            password: self.passwords.hash(&new.password).await?,
        };
        let commit = self.registration(attempt.id, &person).await?;
        Decided::new(commit, StatusCode::CREATED, &shown(attempt.id, &person))
    }

    async fn log_in(&self, credentials: &Credentials) -> Result<Decided, Problem> {
        let email = normal(&credentials.email);
        // A key has at most 512 bytes; an address that long is nobody's.
        let address = match email.len() {
            1..=254 => self.base.store.get::<Address>(&email).await?,
            _ => None,
        };
        let user = match &address {
            Some(address) => Some((address.user_id, self.users.load(address.user_id).await?)),
            None => None,
        };
        let hashed = user.as_ref().map(|(_, user)| user.password.as_str());
        let right = self.passwords.is_right(&credentials.password, hashed).await?;
        let Some((id, user)) = user.filter(|_| right) else {
            let problem = Problem::new(StatusCode::UNAUTHORIZED, "wrong-credentials");
            return Err(problem.detail("the email or the password is wrong"));
        };
        let (token, expires_at) = self.tokens.issue(id, user.role).map_err(|error| {
            tracing::error!(%error, "a token could not be signed");
            Problem::bug()
        })?;
        Decided::new(Commit::new(), StatusCode::CREATED, &Session { token, expires_at })
    }
}

fn shown(id: Uuid, user: &User) -> Shown {
    Shown { id, email: user.email.clone(), name: user.name.clone(), role: user.role }
}
