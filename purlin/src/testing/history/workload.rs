//! Clients that do random operations at the same time.

use tokio::task::JoinSet;

use super::client::{Client, Marked, Written, all_marks, all_records, whole_log};
use super::{Ask, Entry, Expect, Journal, Left, Wanted};
use crate::store::{CommitError, ReadError, Store};
use crate::testing::Dice;

/// What clients do: a few of them on a few streams and records, so that they meet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Workload {
    /// What the clients' throws come from.
    pub seed: u64,
    /// How many clients there are.
    pub clients: u32,
    /// How many operations each does.
    pub operations: u32,
    /// How many streams there are.
    pub streams: u32,
    /// How many records there are.
    pub records: u32,
    /// How many tags there are.
    pub tags: u32,
    /// How many ids of commits there are, which clients share.
    pub ids: u64,
}

impl Workload {
    /// A small one, drawn from a seed.
    pub fn drawn(seed: u64) -> Self {
        let mut dice = Dice::new(seed ^ 0x776f_726b);
        Self {
            seed,
            clients: 2 + dice.below(8) as u32,
            operations: 5 + dice.below(16) as u32,
            streams: 1 + dice.below(5) as u32,
            records: 1 + dice.below(4) as u32,
            tags: 1 + dice.below(3) as u32,
            ids: 1 + dice.below(8),
        }
    }

    /// Makes the collections that clients write to; before they begin.
    pub async fn prepare(store: &Store) -> Result<(), CommitError> {
        store.define::<Written>().await?;
        store.define::<Marked>().await
    }

    /// Lets the clients of one process do their operations.
    pub async fn run(&self, store: &Store, journal: &Journal) {
        self.run_until(store, journal, std::future::pending()).await;
    }

    /// As [`Workload::run`], but who is not through when `stop` comes is cut off where he is.
    pub async fn run_until(&self, store: &Store, journal: &Journal, stop: impl Future<Output = ()>) {
        let mut clients = JoinSet::new();
        for n in 0..self.clients {
            let mut client = Client::new(store.clone(), journal.clone());
            let mut throws = Throws {
                dice: Dice::new(self.seed ^ u64::from(journal.process()) << 40 ^ u64::from(n) << 20),
                shape: self.clone(),
            };
            clients.spawn(async move {
                for _ in 0..throws.shape.operations {
                    let ask = throws.ask(&client);
                    client.ask(ask).await;
                }
            });
        }
        let mut stop = std::pin::pin!(stop);
        loop {
            tokio::select! {
                biased;
                () = &mut stop => break,
                ended = clients.join_next() => match ended {
                    Some(ended) => ended.expect("a client does not panic"),
                    None => return,
                },
            }
        }
        clients.shutdown().await;
    }

    /// Reads what is left when nobody asks any more, and writes it down: the last entry of a history.
    pub async fn finish(store: &Store, journal: &Journal) -> Result<(), ReadError> {
        let (log, records) = (whole_log(store).await?, all_records(store).await?);
        let marks = all_marks(store).await?;
        journal.write(Entry::Left(Left { log, records, marks }));
        Ok(())
    }
}

/// What a client does next.
struct Throws {
    dice: Dice,
    shape: Workload,
}

impl Throws {
    fn ask(&mut self, client: &Client) -> Ask {
        match self.dice.below(100) {
            0..60 => Ask::Commit(self.commit(client)),
            60..72 => Ask::Stream {
                stream: self.stream(),
                from: 1 + self.dice.below(4),
                limit: 1 + self.dice.below(60) as usize,
            },
            72..84 => {
                // On from where it was, or once more from an earlier place.
                let after =
                    if self.dice.percent(70) { client.read } else { self.dice.below(client.read + 1) };
                let tag = self.dice.percent(30).then(|| self.tag());
                Ask::Log { after, limit: 1 + self.dice.below(60) as usize, tag }
            }
            84..95 => Ask::Record(self.record()),
            _ => Ask::Records,
        }
    }

    fn commit(&mut self, client: &Client) -> Wanted {
        let (appends, requires, writes) = match self.dice.below(100) {
            0..40 => (1, 0, 0),
            40..60 => (1 + self.dice.below(3), self.dice.below(2), 0),
            60..75 => (0, self.dice.below(2), 1 + self.dice.below(2)),
            75..97 => (1 + self.dice.below(2), self.dice.below(2), 1 + self.dice.below(2)),
            _ => (0, 1, 0),
        };
        Wanted {
            appends: (0..appends).map(|_| self.append(client)).collect(),
            requires: (0..requires).map(|_| self.expected(client)).collect(),
            writes: (0..writes).map(|_| self.write(client)).collect(),
            unless: if self.dice.percent(15) { vec![self.excluded(client)] } else { Vec::new() },
            tag: self.dice.percent(30).then(|| self.tag()),
            id: self.dice.percent(10).then(|| self.dice.below(self.shape.ids)),
        }
    }

    /// Nothing with a tag behind what is known, or behind an earlier place.
    fn excluded(&mut self, client: &Client) -> (u32, u64) {
        let tag = self.tag();
        let after = if self.dice.percent(80) { client.read } else { self.dice.below(client.read + 1) };
        (tag, after)
    }

    fn append(&mut self, client: &Client) -> (u32, Expect, u32) {
        let stream = self.stream();
        let known = client.versions.get(&stream).copied().map(Some);
        (stream, self.expect(known), 1 + self.dice.below(3) as u32)
    }

    fn write(&mut self, client: &Client) -> (u32, Expect, bool) {
        let (key, expect) = self.expected(client);
        (key, expect, !self.dice.percent(25))
    }

    fn expected(&mut self, client: &Client) -> (u32, Expect) {
        let key = self.record();
        (key, self.expect(client.revisions.get(&key).copied()))
    }

    /// Nothing in particular, or what is known of it, or what was true before or will be true soon.
    fn expect(&mut self, known: Option<Option<u64>>) -> Expect {
        match (self.dice.below(100), known) {
            (0..45, _) | (0..80, None) => Expect::Any,
            (45..90, Some(Some(known))) => Expect::Exactly(known),
            (90..95, Some(Some(known))) => Expect::Exactly(known + 1),
            (95..98, Some(Some(known))) => Expect::Exactly(known.saturating_sub(1)),
            _ => Expect::Nothing,
        }
    }

    fn stream(&mut self) -> u32 {
        self.dice.below(u64::from(self.shape.streams)) as u32
    }

    fn tag(&mut self) -> u32 {
        self.dice.below(u64::from(self.shape.tags)) as u32
    }

    fn record(&mut self) -> u32 {
        self.dice.below(u64::from(self.shape.records)) as u32
    }
}
