//! The connection to the server.

use std::pin::Pin;

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, FromRedisValue, RedisError, ScriptInvocation};
use tokio::net::TcpStream;

use crate::url::Place;

/// A connection, which lives as long as somebody waits for an answer on it: no task stands behind it.
pub(crate) struct Line {
    connection: MultiplexedConnection,
    driver: Pin<Box<dyn Future<Output = ()> + Send>>,
}

impl Line {
    /// Connects and says who we are.
    pub(crate) async fn open(place: &Place) -> Result<Self, RedisError> {
        let stream = TcpStream::connect((place.host.as_str(), place.port)).await?;
        stream.set_nodelay(true)?;
        let config = AsyncConnectionConfig::new();
        let (connection, driver) =
            MultiplexedConnection::new_with_config(&place.greeting, stream, config).await?;
        Ok(Self { connection, driver: Box::pin(driver) })
    }

    /// Runs a script; the server is told what it is if it does not know it.
    pub(crate) async fn run<T: FromRedisValue>(
        &mut self,
        script: &ScriptInvocation<'_>,
    ) -> Result<T, RedisError> {
        let Self { connection, driver } = self;
        tokio::select! {
            biased;
            answer = script.invoke_async(connection) => answer,
            () = driver => Err(std::io::Error::from(std::io::ErrorKind::ConnectionReset).into()),
        }
    }
}
