//! Records by key: those that are asked for while others are on their way come together, in one statement.
//!
//! Whoever folds a page of events asks for some hundred records at once, one by one. Each statement costs the server more
//! than the record.

use std::collections::HashMap;
use std::sync::Arc;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use purlin::store::{ReadError, Record};
use tokio::sync::{mpsc, oneshot};
use tokio_postgres::Error;

use crate::codec::read_record;
use crate::collection::Table;
use crate::error::said;
use crate::link::{Link, session};

/// Records that are asked for by one statement at the most.
const MOST: usize = 1024;

/// Statements that are on their way at once at the most.
const AHEAD: usize = 2;

/// A record that somebody waits for.
struct Get {
    table: Arc<Table>,
    key: String,
    answer: oneshot::Sender<Option<Record>>,
}

/// Where one asks.
pub(crate) struct Gets {
    queue: mpsc::Sender<Get>,
}

/// Where it is asked for.
pub(crate) struct Asked {
    queue: mpsc::Receiver<Get>,
}

/// Both ends of a queue.
pub(crate) fn gets() -> (Gets, Asked) {
    let (sender, receiver) = mpsc::channel(MOST);
    (Gets { queue: sender }, Asked { queue: receiver })
}

impl Gets {
    /// The record of a key, if there is one; an error, which tells nothing, when it has to be asked for alone.
    pub(crate) async fn get(&self, table: Arc<Table>, key: String) -> Result<Option<Record>, ()> {
        let (answer, answered) = oneshot::channel();
        self.queue.try_send(Get { table, key, answer }).map_err(drop)?;
        answered.await.map_err(drop)
    }
}

/// Asks for what is waited for, by each connection in turn, until nobody can wait any more.
pub(crate) async fn serve(links: Vec<Link>, mut asked: Asked) {
    let mut under_way = FuturesUnordered::new();
    let (mut turn, mut waited_for) = (0, vec![0; links.len()]);
    loop {
        let mut gets = Vec::new();
        tokio::select! {
            Some(link) = under_way.next(), if !under_way.is_empty() => waited_for[link] -= 1,
            count = asked.queue.recv_many(&mut gets, MOST), if under_way.len() < AHEAD => {
                if count == 0 {
                    return;
                }
                let mut by_table: HashMap<usize, Vec<Get>> = HashMap::new();
                for get in gets {
                    by_table.entry(Arc::as_ptr(&get.table).addr()).or_default().push(get);
                }
                for gets in by_table.into_values() {
                    // One that has not answered yet may be busy with somebody's long page.
                    let others = (1..=links.len()).map(|n| (turn + n) % links.len());
                    turn = others.min_by_key(|link| waited_for[*link]).unwrap_or_default();
                    waited_for[turn] += 1;
                    let (link, number) = (links[turn].clone(), turn);
                    under_way.push(async move {
                        ask(link, gets).await;
                        number
                    });
                }
            }
        }
    }
}

/// Whoever gets no answer asks alone.
async fn ask(link: Link, gets: Vec<Get>) {
    match read(link, &gets).await {
        Ok(found) => {
            for Get { key, answer, .. } in gets {
                // Others may have asked for the same.
                let _ = answer.send(found.get(&key).cloned());
            }
        }
        Err(Some(error)) => {
            tracing::debug!(error = said(&error), "records could not be read together");
        }
        Err(None) => {}
    }
}

async fn read(mut link: Link, gets: &[Get]) -> Result<HashMap<String, Record>, Option<Error>> {
    let Some(first) = gets.first() else { return Ok(HashMap::new()) };
    let session = session(&mut link, None).await.map_err(|_| None::<Error>)?;
    let rows = match gets {
        [one] => {
            let statement = session.statement(&first.table.one).await?;
            session.client.query(&statement, &[&one.key]).await?
        }
        _ => {
            let keys: Vec<&str> = gets.iter().map(|get| get.key.as_str()).collect();
            let statement = session.statement(&first.table.many).await?;
            session.client.query(&statement, &[&keys]).await?
        }
    };
    let records: Result<Vec<Record>, ReadError> = rows.iter().map(read_record).collect();
    let records = records.map_err(|_| None::<Error>)?;
    Ok(records.into_iter().map(|record| (record.key.clone(), record)).collect())
}
