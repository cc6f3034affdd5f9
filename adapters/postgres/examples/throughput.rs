//! How fast the engine is beside plain statements on the same server and schema: `cargo run --release --example
//! throughput [SECONDS] [CASE..]`. It starts a PostgreSQL server of its own, with `fsync`.

#[path = "../tests/it/server.rs"]
#[allow(dead_code, unreachable_pub)]
mod server;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use purlin::message::{Envelope, Uuid, new_id};
use purlin::store::{Commit, Expected, Field, LogFilter, Position, Row, Store, StreamId};
use server::Server;
use tokio::task::JoinSet;
use tokio_postgres::Client;

const STREAMS: usize = 100_000;
const DATA: &str = r#"{"type":"item_added","order":"0190f0c0-0000-7000-8000-00000000abcd","sku":"SKU-12345","quantity":3,"price":1999,"currency":"EUR"}"#;

#[derive(serde::Serialize, serde::Deserialize)]
struct Count {
    n: u64,
}

impl Row for Count {
    const COLLECTION: &'static str = "counts";
    const FIELDS: &'static [Field] = &[Field::integer("n")];
}

/// What callers commit.
#[derive(Clone, Copy, PartialEq)]
struct Load {
    callers: usize,
    events: usize,
    records: usize,
}

#[tokio::main(worker_threads = 2)]
async fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let seconds = arguments.first().and_then(|text| text.parse().ok()).unwrap_or(1.0);
    let time = Duration::from_secs_f64(seconds);
    let wanted = |case: &str| arguments.len() < 2 || arguments[1..].iter().any(|one| case.contains(&**one));
    let server = Server::start().expect("PostgreSQL is installed");
    let client = server.client().await;
    client.batch_execute("SET enable_seqscan = off; SET jit = off").await.expect("settings");
    for schema in ["raw", "ours"] {
        let store = purlin_postgres::open(server.url(), schema).await.expect("a store");
        store.define::<Count>().await.expect("a collection");
        store.close().await;
        let fill = format!(
            "INSERT INTO {schema}._hot SELECT n, 'order-' || n - 1, 1, 'order.item_added', gen_random_uuid(), 1, 1, false, \
             NULL, '{DATA}' FROM generate_series(1, {STREAMS}) AS n; ANALYZE {schema}._hot; CHECKPOINT"
        );
        client.batch_execute(&fill).await.expect("filled");
    }
    let mut raw = Raw::new(&client).await;
    let store = purlin_postgres::open(server.url(), "ours").await.expect("a store");
    let mut versions = vec![1_u64; STREAMS];
    for (callers, events, records) in
        [(1, 1, 0), (16, 1, 0), (128, 1, 0), (128, 10, 0), (1, 1, 2), (16, 1, 2), (128, 1, 2)]
    {
        let load = Load { callers, events, records };
        let case = format!("{callers}x{events}+{records}");
        if !wanted(&case) {
            continue;
        }
        for _ in 0..2 {
            let (before, since) = (groups(&client).await, Instant::now());
            let commits = run(&store, load, &mut versions, time).await;
            let took = since.elapsed().as_secs_f64();
            let groups = (groups(&client).await - before).max(1) as f64;
            let size = ((commits as f64 / groups).round() as usize).max(1);
            let ours = (commits * events) as f64 / took;
            let plain = raw.run(size, events, time).await;
            println!(
                "{case:9} {ours:9.0} events/s in groups of {size:4}; plain {plain:9.0}; {:.2}",
                ours / plain
            );
        }
    }
    for limit in [256, 1000, 4096] {
        if wanted(&format!("replay{limit}")) {
            let since = Instant::now();
            let (mut after, mut count) = (Position::START, 0);
            loop {
                let page = store.read_log(after, &LogFilter::all(), limit).await.expect("a page");
                count += page.events.len();
                if page.through == after {
                    break;
                }
                after = page.through;
            }
            println!(
                "replay by {limit}: {:.0} events/s of {count}",
                count as f64 / since.elapsed().as_secs_f64()
            );
        }
    }
    store.close().await;
}

/// Groups that were committed; the numbers of transactions count them.
async fn groups(client: &Client) -> i64 {
    let last = "SELECT coalesce(max(batch), 0) FROM ours._batch";
    client.query_one(last, &[]).await.expect("it is there").get(0)
}

/// Lets callers commit for a time, each to streams of its own in an order of its own.
async fn run(store: &Store, load: Load, versions: &mut [u64], time: Duration) -> usize {
    let done = Arc::new(AtomicUsize::new(0));
    let mut tasks = JoinSet::new();
    for (caller, mine) in versions.chunks(STREAMS.div_ceil(load.callers)).enumerate() {
        let (store, done, mut mine) = (store.clone(), Arc::clone(&done), mine.to_vec());
        let first = caller * STREAMS.div_ceil(load.callers);
        tasks.spawn(async move {
            let since = Instant::now();
            let mut random = 88_172_645_463_325_252_u64 + caller as u64 * 7919;
            while since.elapsed() < time {
                random ^= random << 13;
                random ^= random >> 7;
                random ^= random << 17;
                let which = (random % mine.len() as u64) as usize;
                let stream = StreamId::new("order", first + which).expect("a name");
                let events = (0..load.events).map(|_| Envelope::raw("order.item_added", DATA));
                let mut commit = Commit::new().append(stream, Expected::Version(mine[which]), events);
                for n in 0..load.records {
                    let key = format!("{n}-{}", first + which);
                    commit = commit.put(key, &Count { n: mine[which] });
                }
                store.commit(commit).await.expect("no rival writes this stream");
                mine[which] += load.events as u64;
                done.fetch_add(1, Ordering::Relaxed);
            }
            (first, mine)
        });
    }
    while let Some(ended) = tasks.join_next().await {
        let (first, mine) = ended.expect("no panic");
        versions[first..first + mine.len()].copy_from_slice(&mine);
    }
    done.load(Ordering::Relaxed)
}

/// Plain statements, into the same tables and indexes.
struct Raw<'a> {
    client: &'a Client,
    one: tokio_postgres::Statement,
    many: tokio_postgres::Statement,
    position: i64,
    version: i64,
    random: u64,
}

impl<'a> Raw<'a> {
    async fn new(client: &'a Client) -> Self {
        let columns = "position, stream, version, kind, id, at, schema, public, meta, data";
        let one = format!("INSERT INTO raw._hot({columns}) VALUES($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)");
        let many = format!(
            "INSERT INTO raw._hot({columns}) SELECT $1::bigint + n, s, v, k, i, $2::bigint, c, p, m, d FROM unnest(\
             $3::text[], $4::bigint[], $5::text[], $6::uuid[], $7::integer[], $8::boolean[], $9::bytea[], $10::text[]\
             ) WITH ORDINALITY AS u(s, v, k, i, c, p, m, d, n)"
        );
        Self {
            client,
            one: client.prepare(&one).await.expect("it is taken"),
            many: client.prepare(&many).await.expect("it is taken"),
            position: STREAMS as i64,
            version: 1_000_000,
            random: 88_172_645_463_325_252,
        }
    }

    async fn run(&mut self, commits: usize, events: usize, time: Duration) -> f64 {
        let (since, mut count) = (Instant::now(), 0);
        let (at, none) = (1_i64, None::<Vec<u8>>);
        while since.elapsed() < time {
            let n = commits * events;
            let (mut streams, mut versions) = (Vec::with_capacity(n), Vec::with_capacity(n));
            for _ in 0..commits {
                self.random ^= self.random << 13;
                self.random ^= self.random >> 7;
                self.random ^= self.random << 17;
                let stream = format!("order-{}", self.random % STREAMS as u64);
                for _ in 0..events {
                    self.version += 1;
                    streams.push(stream.clone());
                    versions.push(self.version);
                }
            }
            let ids: Vec<Uuid> = (0..n).map(|_| new_id()).collect();
            let kind = "order.item_added";
            if n == 1 {
                let position = self.position + 1;
                let (stream, version, id) = (&streams[0], &versions[0], &ids[0]);
                self.client
                    .execute(
                        &self.one,
                        &[&position, stream, version, &kind, id, &at, &1_i32, &false, &none, &DATA],
                    )
                    .await
                    .expect("inserted");
            } else {
                let (kinds, schemas, publics) = (vec![kind; n], vec![1_i32; n], vec![false; n]);
                let (metas, data) = (vec![none.clone(); n], vec![DATA; n]);
                self.client
                    .execute(
                        &self.many,
                        &[
                            &self.position,
                            &at,
                            &streams,
                            &versions,
                            &kinds,
                            &ids,
                            &schemas,
                            &publics,
                            &metas,
                            &data,
                        ],
                    )
                    .await
                    .expect("inserted");
            }
            self.position += n as i64;
            count += n;
        }
        count as f64 / since.elapsed().as_secs_f64()
    }
}
