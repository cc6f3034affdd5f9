//! Whether a server that takes connections answers too.
//!
//! A server may hold what it is asked, for ever, and keep the connection: it is stopped, or a pool before it is. TCP sees
//! nothing of that. A statement that takes long looks the same on its own connection; so who has no answer asks on another
//! one.

use std::pin::pin;
use std::time::Duration;

use tokio::time::{sleep, timeout};
use tokio_postgres::Client;

use crate::address::Address;
use crate::error::Unreached;
use crate::target::Target;

/// How long after an answer it is asked again.
const PERIOD: Duration = Duration::from_secs(1);

/// How long it is waited at the most until it is asked again, on another connection, about a statement that takes long.
const LONG: Duration = Duration::from_secs(30);

/// What is asked: nothing, so that it costs nothing. It comes behind whatever is under way on the connection.
const ASK: &str = "-- does the server answer?";

/// Ends once a server does not answer on a connection for so long, nor on a new one in the time that one may take, or there
/// is no way to its machine any more.
///
/// Whatever else becomes of the new connection says nothing of this one: that there is no room for it, say.
pub(crate) async fn silence(client: &Client, target: &Target, at: &Address, patience: Duration) -> Unreached {
    let target = target.clone().lenient();
    loop {
        sleep(PERIOD).await;
        let mut asked = pin!(client.batch_execute(ASK));
        let mut wait = patience.max(PERIOD);
        // Also an error is an answer. (When the connection has ended, who moves its bytes tells.)
        while timeout(wait, asked.as_mut()).await.is_err() {
            tokio::select! {
                biased;
                _ = asked.as_mut() => break,
                another = target.reach(at, ASK) => {
                    if let Err(silent) = another
                        && silent.is_silence()
                    {
                        return silent;
                    }
                }
            }
            wait = (wait * 2).min(LONG);
        }
    }
}
