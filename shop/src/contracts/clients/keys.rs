//! Asking a service for the idempotency keys that it knows.

use purlin::http::KeyState;

use crate::contracts::line::{Line, LineError};
use crate::contracts::rpc::keys::FindKey;
use crate::contracts::rpc::keys::keys_client::KeysClient;

/// A service's keys, as others see them.
#[derive(Clone)]
pub struct Keys(pub Line);

impl Keys {
    /// What a caller's key stands for at that service.
    pub async fn find(&self, caller: &str, key: &str) -> Result<KeyState, LineError> {
        let asked = FindKey { caller: caller.to_owned(), key: key.to_owned() };
        let send = async |channel, request| KeysClient::new(channel).find(request).await;
        let found = self.0.call(None, asked, send).await?;
        Ok(match (found.found, found.running) {
            (false, _) => KeyState::Unknown,
            (true, true) => KeyState::Running,
            (true, false) => KeyState::Decided,
        })
    }
}
