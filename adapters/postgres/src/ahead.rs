//! Pages of the log that are asked for before they are wanted: who goes through the log decodes one page while the server
//! reads the next.
//!
//! With every new connection they are thrown away: the server may be another one, with another end of the log.
//! One is begun only for a reader who was seen to go on where he stood, and only where the log has a whole page: who reads
//! once, or follows the end of the log, causes none.

use std::sync::Arc;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use purlin::store::{ReadError, ahead};
use tokio::sync::{mpsc, oneshot};
use tokio_postgres::Row;

use crate::reader::{Readers, Select};

/// Pages that are on their way at once at the most.
const AT_ONCE: usize = 4;

/// The rows of each statement of a page.
type Rows = Result<Vec<Vec<Row>>, ReadError>;

/// A page that was begun.
pub(crate) type Begun = oneshot::Receiver<Rows>;

/// The next pages of those who read lately.
pub(crate) type Ahead = ahead::Ahead<Begun>;

/// What somebody is expected to ask for.
pub(crate) type Next = ahead::Next<Begun>;

/// A page that is to be read.
pub(crate) struct Wanted {
    selects: Vec<Select>,
    answer: oneshot::Sender<Rows>,
}

/// Where pages are begun.
#[derive(Clone)]
pub(crate) struct Begin(mpsc::Sender<Wanted>);

/// Where pages are begun, and where they are read.
pub(crate) fn begin() -> (Begin, mpsc::Receiver<Wanted>) {
    let (sender, receiver) = mpsc::channel(AT_ONCE);
    (Begin(sender), receiver)
}

impl Begin {
    /// Begins a page; none when too many are on their way.
    pub(crate) fn page(&self, selects: Vec<Select>) -> Option<Begun> {
        let (answer, begun) = oneshot::channel();
        self.0.try_send(Wanted { selects, answer }).ok()?;
        Some(begun)
    }
}

/// Reads what is begun, until nobody can begin anything any more.
pub(crate) async fn serve(readers: Arc<Readers>, mut wanted: mpsc::Receiver<Wanted>) {
    let mut under_way = FuturesUnordered::new();
    loop {
        tokio::select! {
            Some(()) = under_way.next(), if !under_way.is_empty() => {}
            next = wanted.recv(), if under_way.len() < AT_ONCE => {
                let Some(Wanted { selects, mut answer }) = next else { return };
                let readers = Arc::clone(&readers);
                under_way.push(async move {
                    // Whoever was to ask may have gone elsewhere.
                    tokio::select! {
                        rows = readers.ask_all(selects) => drop(answer.send(rows)),
                        () = answer.closed() => {}
                    }
                });
            }
        }
    }
}
