//! The streams that are open on a connection of HTTP/2.

use std::time::Duration;

use bytes::Bytes;
use http::Response;
use hyper::body::Body;
use tokio::sync::watch;

use crate::kept::Kept;

use super::stall::Taken;

/// Counts the streams of one connection.
#[derive(Debug, Clone, Default)]
pub(super) struct Open(watch::Sender<usize>);

/// A stream is open until this is dropped.
#[derive(Debug)]
pub(super) struct Stream(watch::Sender<usize>);

impl Open {
    /// A stream begins.
    pub(super) fn begin(&self) -> Stream {
        self.0.send_modify(|open| *open += 1);
        Stream(self.0.clone())
    }

    /// Waits until no stream was open for so long.
    pub(super) async fn idle_for(&self, span: Duration) {
        let mut open = self.0.subscribe();
        loop {
            // The sender lives in `self`: it is never gone.
            let _ = open.wait_for(|open| *open == 0).await;
            if tokio::time::timeout(span, open.changed()).await.is_err() {
                return;
            }
        }
    }
}

impl Stream {
    /// Stays open until the answer's body was sent.
    pub(super) fn until_end_of<B: Body<Data = Bytes> + Unpin>(
        self,
        response: Response<B>,
    ) -> Response<Taken<Kept<B, Self>>> {
        response.map(|body| Taken::new(Kept::new(body, self)))
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.0.send_modify(|open| *open -= 1);
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::Instant;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_connection_is_idle_from_the_end_of_its_last_stream() {
        let (open, start) = (Open::default(), Instant::now());
        let (first, second) = (open.begin(), open.begin());
        let ending = async {
            tokio::time::sleep(Duration::from_secs(3)).await;
            drop(first);
            tokio::time::sleep(Duration::from_secs(30)).await;
            drop(second);
        };
        tokio::join!(ending, open.idle_for(Duration::from_secs(10)));
        assert_eq!(start.elapsed().as_secs(), 43);
    }
}
