//! What the users service answers to customers.

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post};
use axum::{Json as Answer, Router};
use http::StatusCode;
use purlin::http::{Attempt, Decided, Path, Problem, Write, WriteRequest};
use purlin::message::{Timestamp, Uuid};
use purlin::store::Commit;
use serde::{Deserialize, Serialize};

use super::Users;
use super::user::{Particulars, User, UserError, complaint, subject};
use crate::contracts::who::{Admin, Caller, Known, Role, forbidden};

/// The routes of the users service.
pub fn router(users: Users) -> Router {
    Router::new()
        .route("/users", post(register))
        .route("/users/me", get(me))
        .route("/users/{id}", delete(forget))
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
    Ok(Answer(shown(known.id, user.role, user.particulars()?)))
}

async fn forget(
    State(users): State<Users>,
    Admin(admin): Admin,
    Path(id): Path<Uuid>,
    request: WriteRequest,
) -> Response {
    users.base.keys.run(&admin.caller(), &request, |_| users.forget(admin.id, id)).await
}

async fn keys(State(users): State<Users>) -> Answer<serde_json::Value> {
    Answer(users.tokens.document())
}

impl Users {
    async fn register(&self, attempt: Attempt, new: &NewUser) -> Result<Decided, Problem> {
        if self.addresses.owner(&new.email).await?.is_some() {
            return Err(UserError::EmailTaken.into());
        }
        let hashed = self.passwords.hash(&new.password).await?;
        let person = Particulars { email: new.email.trim(), name: new.name.trim(), password: &hashed };
        let commit = self.registration(attempt.id, Role::User, person).await?;
        let shown = shown(attempt.id, Role::User, person);
        Ok(Decided::new(commit, StatusCode::CREATED, &shown)?.about(&subject(attempt.id)))
    }

    /// Forgets a user at the wish of an administrator: his key, and that the address was his.
    async fn forget(&self, admin: Uuid, id: Uuid) -> Result<Decided, Problem> {
        // A token holds for a while; who is forgotten runs the shop no more.
        if !self.users.load(admin).await?.runs_the_shop() {
            return Err(forbidden("this is for those who run the shop, and you do so no more"));
        }
        let user = self.users.load(id).await?;
        let mut commit = Commit::from(self.users.change(id, User::forget).await?).forget(&subject(id));
        if user.runs_the_shop() {
            let resigned = self.administrators.resign(commit, id).await?;
            commit = resigned.ok_or(UserError::LastAdministrator)?;
        }
        let commit = self.addresses.give_back(commit, user.particulars()?.email, id).await?;
        Decided::new(commit, StatusCode::NO_CONTENT, &())
    }

    async fn log_in(&self, credentials: &Credentials) -> Result<Decided, Problem> {
        let user = match self.addresses.owner(&credentials.email).await? {
            Some(user_id) => Some((user_id, self.users.load(user_id).await?)),
            None => None,
        };
        let hashed = match user.as_ref().map(|(_, user)| user.particulars()) {
            // He was forgotten between the two.
            None | Some(Err(UserError::NotFound)) => None,
            Some(known) => Some(known?.password),
        };
        let right = self.passwords.is_right(&credentials.password, hashed).await?;
        let Some((id, user)) = user.filter(|_| right) else {
            let problem = Problem::new(StatusCode::UNAUTHORIZED, "wrong-credentials");
            return Err(problem.detail("the email or the password is wrong"));
        };
        let (token, expires_at) = self.tokens.issue(id, user.role).map_err(|error| {
            tracing::error!(%error, "a token could not be signed");
            Problem::bug()
        })?;
        let session = Decided::new(Commit::new(), StatusCode::CREATED, &Session { token, expires_at })?;
        Ok(session.about(&subject(id)))
    }
}

fn shown(id: Uuid, role: Role, known: Particulars<'_>) -> Shown {
    Shown { id, email: known.email.to_owned(), name: known.name.to_owned(), role }
}
