//! Connections from outside: accepted while there is room, read strictly, and brought to an end on request.

mod connection;
mod guard;
mod parting;
mod places;
mod sniff;
mod stall;
mod streams;
mod turned_away;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use purlin::telemetry;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::exchange::Exchanges;
use crate::tasks::Tasks;

use connection::Connection;
pub(crate) use guard::{REFUSED, RefusedHead};
use places::Places;

/// Answers the connections of `listener` until `shutdown`, then finishes the requests in hand.
///
/// Returns whether all of them were finished in time.
pub(crate) async fn serve(
    exchanges: Arc<Exchanges>,
    listener: TcpListener,
    shutdown: impl Future<Output = ()>,
) -> bool {
    let limits = exchanges.limits();
    let drain = Duration::from_millis(limits.drain_timeout_ms);
    let room = Arc::new(Semaphore::new(limits.connections));
    let (places, stopping) = (Places::new(limits.connections_per_address), CancellationToken::new());
    let (streams, _end_of_streams) = Tasks::new();
    let told = Arc::new(Semaphore::new(turned_away::AT_ONCE));
    let mut connections = JoinSet::new();
    tokio::select! {
        () = shutdown => {}
        () = exchanges.keep_fresh() => {}
        () = async {
            loop {
                let (stream, peer, permit) = next(&listener, &room).await;
                while connections.try_join_next().is_some() {}
                let Some(place) = places.take(peer.ip()) else {
                    exchanges.connection_refused(peer);
                    // Nothing is kept for who has too much already, but a word.
                    if let Ok(turn) = Arc::clone(&told).try_acquire_owned() {
                        connections.spawn(telemetry::inherit(async move {
                            turned_away::turn_away(stream).await;
                            drop(turn);
                        }));
                    }
                    continue;
                };
                let connection = Connection {
                    exchanges: Arc::clone(&exchanges),
                    peer,
                    stopping: stopping.clone(),
                    streams: streams.clone(),
                };
                connections.spawn(telemetry::inherit(async move {
                    connection.serve(stream).await;
                    drop((place, permit));
                }));
            }
        } => {}
    }
    drop(listener);
    stopping.cancel();
    let drained = tokio::time::timeout(drain, async { while connections.join_next().await.is_some() {} });
    let in_time = drained.await.is_ok();
    connections.shutdown().await;
    in_time
}

/// The next connection, once there is room for it.
async fn next(
    listener: &TcpListener,
    room: &Arc<Semaphore>,
) -> (TcpStream, SocketAddr, OwnedSemaphorePermit) {
    let permit = Arc::clone(room).acquire_owned().await.expect("the semaphore is never closed");
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => return (stream, peer, permit),
            Err(error) => wait_after(&error).await,
        }
    }
}

/// An error of one connection is not the listener's; out of file descriptors, it is, and only time helps.
async fn wait_after(error: &io::Error) {
    let of_one_connection = [
        io::ErrorKind::ConnectionAborted,
        io::ErrorKind::ConnectionReset,
        io::ErrorKind::ConnectionRefused,
        io::ErrorKind::Interrupted,
    ];
    if !of_one_connection.contains(&error.kind()) {
        tracing::error!(%error, "no connection could be accepted");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
