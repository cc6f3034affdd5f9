//! What the users service answers to other services.

use axum::Router;
use purlin::http::grpc;
use tonic::{Request, Response, Status};

use super::Users;
use crate::contracts::line::{door, id};
use crate::contracts::rpc::users::users_server::{self, UsersServer};
use crate::contracts::rpc::users::{GetUser, User};

/// The methods of the users service.
pub fn router(users: Users) -> Router {
    door(UsersServer::new(users))
}

#[tonic::async_trait]
impl users_server::Users for Users {
    async fn get(&self, request: Request<GetUser>) -> Result<Response<User>, Status> {
        let id = id(&request.into_inner().id)?;
        let user = self.users.load(id).await.map_err(|error| grpc::status_from_fault(&error))?;
        let known = user.particulars().map_err(|error| grpc::status_from_fault(&error))?;
        let (email, name) = (known.email.to_owned(), known.name.to_owned());
        Ok(Response::new(User { id: id.to_string(), email, name, role: user.role.as_str().to_owned() }))
    }
}
