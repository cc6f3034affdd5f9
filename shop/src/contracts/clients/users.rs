//! Asking the users service.

use purlin::message::Uuid;

use crate::contracts::line::{Line, LineError};
use crate::contracts::rpc::users::GetUser;
use crate::contracts::rpc::users::users_client::UsersClient;

/// The users service, as others see it.
#[derive(Clone)]
pub struct Users(pub Line);

impl Users {
    /// Makes sure that there is such a user; else not found.
    pub async fn exists(&self, id: Uuid) -> Result<(), LineError> {
        let asked = GetUser { id: id.to_string() };
        let send = async |channel, request| UsersClient::new(channel).get(request).await;
        self.0.call(None, asked, send).await.map(|_| ())
    }
}
