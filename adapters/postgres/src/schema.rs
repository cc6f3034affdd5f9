//! The tables of a store, and the version of their format.

use std::time::{Duration, Instant};

use purlin::message::{Uuid, new_id};
use purlin::store::{Cause, LogId};
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, Error};

use crate::archive;
use crate::codec::COLUMNS;
use crate::error::OpenError;
use crate::names::{Schema, older_log_lock, quoted};
use crate::tag;

/// The newest format that this code reads and writes.
pub(crate) const FORMAT: i64 = 4;

/// The row of `_meta` that counts the changes of the collections.
pub(crate) const CHANGES: &str = "generation";

/// The one in which programs of formats before 4 count them.
const OLDER_CHANGES: &str = "collections";

/// What a program reads that knows only older formats, and wants to write.
const NEWER: &str = "\"the store is of a newer format than this program\"";

/// How long an upgrade waits for tables that are being read, before it lets others read them, and how long it does so.
const WAIT: Duration = Duration::from_millis(300);
const PAUSE: Duration = Duration::from_millis(100);

/// How long it tries.
const PATIENCE: Duration = Duration::from_secs(60);

/// Lets a transaction take the time that it needs, whatever the role's settings are; only for what others hold it does
/// not wait longer than it tries.
fn no_hurry() -> String {
    format!(
        "SELECT set_config(name, CASE name WHEN 'lock_timeout' THEN '{}' ELSE '0' END, TRUE) FROM pg_settings WHERE name IN \
         ('statement_timeout', 'lock_timeout', 'idle_in_transaction_session_timeout', 'transaction_timeout')",
        PATIENCE.as_millis()
    )
}

/// Why a schema is not a store.
#[derive(Debug, thiserror::Error)]
enum SchemaError {
    #[error("the schema was written by a newer version (format {0})")]
    Newer(i64),
    #[error("there are tables in the schema, but not those of a store")]
    Foreign,
    #[error(
        "the database's encoding is {0}, and a store needs UTF8: CREATE DATABASE .. ENCODING 'UTF8' TEMPLATE template0"
    )]
    Encoding(String),
    #[error("the schema's own description is damaged: {0}")]
    Damaged(&'static str),
    #[error(
        "another session holds what is needed to open or upgrade it, for more than {} s: \
         SELECT pid, query, pg_blocking_pids(pid) FROM pg_stat_activity shows which",
        PATIENCE.as_secs()
    )]
    Held(#[source] Error),
    #[error("PostgreSQL refuses")]
    Postgres(#[source] Error),
}

impl From<Error> for SchemaError {
    fn from(error: Error) -> Self {
        match error.code() {
            Some(code) if *code == SqlState::LOCK_NOT_AVAILABLE => Self::Held(error),
            _ => Self::Postgres(error),
        }
    }
}

/// A log, and the seed of the hash of its streams' names.
pub(crate) struct Prepared {
    pub(crate) id: LogId,
    pub(crate) seed: i64,
}

/// Everything but the collections. Names begin with `_`, so that no collection has one of them.
///
/// `_batch` has a row for each group of commits that happened, until its writer is at a later one: by it one sees what
/// became of a group. The greatest revision in it is the last that was given out. Its column `format` has no default:
/// a program that does not know the format that it writes for cannot commit.
fn tables(schema: &Schema, tablespace: Option<&str>, version: i64) -> String {
    let [meta, hot, batch, collection] =
        ["_meta", "_hot", "_batch", "_collection"].map(|name| schema.table(name));
    format!(
        "CREATE TABLE {meta}(name text COLLATE \"C\" PRIMARY KEY, value text NOT NULL);
         CREATE TABLE {hot}(
             position bigint PRIMARY KEY,
             stream text COLLATE \"C\" NOT NULL,
             version bigint NOT NULL,
             kind text COLLATE \"C\" NOT NULL,
             id uuid NOT NULL,
             at bigint NOT NULL,
             schema integer NOT NULL,
             public boolean NOT NULL,
             meta bytea,
             data text COLLATE \"C\" NOT NULL
         );
         {}
         CREATE TABLE {batch}(
             writer uuid NOT NULL,
             batch bigint NOT NULL,
             at bigint NOT NULL,
             revision bigint NOT NULL,
             format smallint NOT NULL,
             {},
             PRIMARY KEY (writer, batch)
         );
         CREATE INDEX ON {batch}(revision);
         CREATE TABLE {collection}(name text COLLATE \"C\" PRIMARY KEY, fields text NOT NULL);
         {}{}{}",
        streams(schema, "_hot"),
        guard(),
        tag::table(schema),
        archive::tables(schema, tablespace),
        stream_function(schema, version),
    )
}

/// The index by which a stream's events are found.
///
/// It is a third as large as one of names, and nothing in it is unique: versions are given out under the log's lock, to
/// heads that were read under it, and a position is there once. The seed is the store's own and random, so that who
/// chooses names cannot choose them to have one hash.
fn streams(schema: &Schema, events: &str) -> String {
    format!("CREATE INDEX ON {}({}, version);", schema.table(events), schema.hash("stream"))
}

/// Lets no program commit that knows only older formats; one of them may still find out what became of a group. (So the
/// row of a change of collections is let through too: what such a program must not change is in `_meta`.)
fn guard() -> String {
    format!("CONSTRAINT {NEWER} CHECK (format >= {FORMAT} OR revision = 0)")
}

/// The function by which others find a stream's events.
fn stream_function(schema: &Schema, version: i64) -> String {
    let event = schema.table("_event");
    let select = format!("SELECT {COLUMNS} FROM {event} AS e WHERE {}", schema.of_stream("e", "name"));
    let body = if version >= 140_000 {
        format!("BEGIN ATOMIC {select}; END")
    } else {
        // A text, with the name that the schema has now: who gives it another has to make the function anew. Nothing
        // that a schema may be named can end it.
        let quote = format!("$purlin_{}$", new_id().simple());
        format!("AS {quote} {select} {quote}")
    };
    format!(
        "CREATE FUNCTION {}(name text) RETURNS SETOF {event} LANGUAGE sql STABLE ROWS 100 {body};",
        schema.table("_stream"),
    )
}

/// Said at the begin of every session.
///
/// Every statement here looks up what an index knows, and the plans are kept: they must not depend on how small a
/// table was when they were made. (Costs of a scan that is not wanted would look like a reason to compile.)
pub(crate) fn session() -> &'static str {
    "SET client_encoding = 'UTF8'; SET enable_seqscan = off; SET jit = off; SET plan_cache_mode = auto; \
     SET statement_timeout = 0; SET lock_timeout = 0; SET default_transaction_isolation = 'read committed'; "
}

/// Said at the begin of a session that writes. Who holds the lock and is not heard of is ended by the server, so that
/// the others go on. The one process that may have the store open holds the lock of this number as long as it writes.
pub(crate) fn writing_session(sole: Option<i64>) -> String {
    let sole = sole.map(|lock| {
        format!("; SET lock_timeout = '1s'; SELECT pg_advisory_lock({lock}); SET lock_timeout = 0")
    });
    format!(
        "{}SET idle_in_transaction_session_timeout = '15s'; \
         SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') = 'off'{}",
        session(),
        sole.unwrap_or_default()
    )
}

/// Makes the tables when the schema is new, for a log that is named or a new one; the log's id otherwise too.
pub(crate) async fn prepare(
    client: &Client,
    schema: &Schema,
    log: Option<LogId>,
    tablespace: Option<&str>,
) -> Result<Prepared, OpenError> {
    prepare_now(client, schema, log, tablespace).await.map_err(|error| {
        let schema = schema.name().to_owned();
        match error {
            SchemaError::Newer(found) => OpenError::Newer { schema, found, known: FORMAT },
            other => OpenError::Database { schema, source: Cause::from(other) },
        }
    })
}

async fn prepare_now(
    client: &Client,
    schema: &Schema,
    log: Option<LogId>,
    tablespace: Option<&str>,
) -> Result<Prepared, SchemaError> {
    let encoding: String = client.query_one("SHOW server_encoding", &[]).await?.try_get(0)?;
    if encoding != "UTF8" {
        return Err(SchemaError::Encoding(encoding));
    }
    client.batch_execute("BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE").await?;
    client.batch_execute(&no_hurry()).await?;
    client.execute("SELECT pg_advisory_xact_lock($1)", &[&schema.lock()]).await?;
    let names = "SELECT c.relname::text FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = $1";
    let there = client.query(names, &[&schema.name()]).await?;
    let there: Vec<String> = there.iter().map(|row| row.try_get(0)).collect::<Result<_, _>>()?;
    let prepared = if there.is_empty() {
        make(client, schema, log.unwrap_or_default(), tablespace).await?
    } else if there.iter().any(|name| name == "_meta") && there.iter().any(|name| name == "_event") {
        read(client, schema, tablespace).await?
    } else {
        return Err(SchemaError::Foreign);
    };
    client.batch_execute("COMMIT").await?;
    Ok(prepared)
}

async fn make(
    client: &Client,
    schema: &Schema,
    id: LogId,
    tablespace: Option<&str>,
) -> Result<Prepared, SchemaError> {
    let seed = seed();
    let schema = &schema.clone().with_seed(seed);
    let known = "SELECT 1 FROM pg_namespace WHERE nspname = $1";
    if client.query_opt(known, &[&schema.name()]).await?.is_none() {
        client.batch_execute(&format!("CREATE SCHEMA {}", schema.quoted())).await?;
    }
    client.batch_execute(&tables(schema, tablespace, version(client).await?)).await?;
    let insert = format!("INSERT INTO {}(name, value) VALUES($1, $2)", schema.table("_meta"));
    let values = [
        ("format", FORMAT.to_string()),
        ("log", id.log.to_string()),
        ("incarnation", id.incarnation.to_string()),
        (CHANGES, "0".to_owned()),
        ("seed", seed.to_string()),
    ];
    for (name, value) in values {
        client.execute(&insert, &[&name, &value]).await?;
    }
    Ok(Prepared { id, seed })
}

/// The server's version as a number: 170002.
async fn version(client: &Client) -> Result<i64, Error> {
    client.query_one("SELECT current_setting('server_version_num')::bigint", &[]).await?.try_get(0)
}

/// A seed that nobody can guess.
fn seed() -> i64 {
    let (high, low) = new_id().as_u64_pair();
    // The upper halves are the time; of an id's random bits, 74 are left.
    (low ^ (high << 52)).cast_signed()
}

async fn read(client: &Client, schema: &Schema, tablespace: Option<&str>) -> Result<Prepared, SchemaError> {
    let format = meta(client, schema, "format").await?.and_then(|format| format.parse().ok());
    let format: i64 = format.ok_or(SchemaError::Damaged("no format"))?;
    if format > FORMAT {
        return Err(SchemaError::Newer(format));
    }
    if format < FORMAT {
        upgrade(client, schema, format, tablespace).await?;
    }
    let log = meta(client, schema, "log").await?.and_then(|log| Uuid::parse_str(&log).ok());
    let incarnation = meta(client, schema, "incarnation").await?.and_then(|number| number.parse().ok());
    let seed = meta(client, schema, "seed").await?.and_then(|seed| seed.parse().ok());
    let id = LogId {
        log: log.ok_or(SchemaError::Damaged("no log id"))?,
        incarnation: incarnation.ok_or(SchemaError::Damaged("no incarnation"))?,
    };
    Ok(Prepared { id, seed: seed.ok_or(SchemaError::Damaged("no seed of the streams' hash"))? })
}

/// Gives a store of an older format what it lacks. Programs of older formats that run go on to read, and cannot commit
/// any more.
async fn upgrade(
    client: &Client,
    schema: &Schema,
    format: i64,
    tablespace: Option<&str>,
) -> Result<(), SchemaError> {
    // Whoever commits is between two groups, or has not begun. What they do with this lock later delays nobody else.
    let log = meta(client, schema, "log").await?.and_then(|log| Uuid::parse_str(&log).ok());
    let lock = older_log_lock(log.ok_or(SchemaError::Damaged("no log id"))?);
    client.execute("SELECT pg_advisory_xact_lock($1)", &[&lock]).await?;
    // What takes long comes first, while others read.
    let seed = seed();
    let schema = &schema.clone().with_seed(seed);
    let events = if format < 3 { "_event" } else { "_hot" };
    client.batch_execute(&streams(schema, events)).await?;
    have_alone(client, &[events, "_batch", "_meta"].map(|name| schema.table(name))).await?;
    if format < 3 {
        archived(client, schema, tablespace).await?;
    }
    hashed(client, schema, seed).await?;
    let sql = format!("UPDATE {} SET value = $1 WHERE name = 'format'", schema.table("_meta"));
    client.execute(&sql, &[&FORMAT.to_string()]).await?;
    Ok(())
}

/// Locks tables so that nobody else has them, in the order in which those who read do. Whoever reads long is not waited
/// for without a pause, as all others would wait behind.
async fn have_alone(client: &Client, tables: &[String]) -> Result<(), Error> {
    let lock = format!(
        "SAVEPOINT alone; SET LOCAL lock_timeout = {}; LOCK TABLE {} IN ACCESS EXCLUSIVE MODE; \
         SET LOCAL lock_timeout = {}; RELEASE SAVEPOINT alone",
        WAIT.as_millis(),
        tables.join(", "),
        PATIENCE.as_millis()
    );
    let since = Instant::now();
    loop {
        let Err(error) = client.batch_execute(&lock).await else { return Ok(()) };
        let passing = [SqlState::LOCK_NOT_AVAILABLE, SqlState::T_R_DEADLOCK_DETECTED];
        if !error.code().is_some_and(|code| passing.contains(code)) || since.elapsed() > PATIENCE {
            return Err(error);
        }
        client.batch_execute("ROLLBACK TO SAVEPOINT alone; RELEASE SAVEPOINT alone").await?;
        tokio::time::sleep(PAUSE).await;
    }
}

/// From format 1 or 2 to 3.
async fn archived(client: &Client, schema: &Schema, tablespace: Option<&str>) -> Result<(), SchemaError> {
    // 2: events may have tags.
    client.batch_execute(&tag::table(schema)).await?;
    // 3: events may be archived. Programs of older formats that run go on to read, by the view, and cannot write: one
    // does not insert into a view, nor into `_batch` without saying for which format.
    let (event, batch) = (schema.table("_event"), schema.table("_batch"));
    let split = format!(
        "ALTER TABLE {event} RENAME TO _hot; {} \
         ALTER TABLE {batch} ADD COLUMN format smallint NOT NULL DEFAULT 3; \
         ALTER TABLE {batch} ALTER COLUMN format DROP DEFAULT",
        archive::tables(schema, tablespace)
    );
    client.batch_execute(&split).await?;
    Ok(())
}

/// From format 3 to 4: streams are found by a hash. Programs of format 3 that run go on to read, streams of `_hot` only
/// slowly; also those that look for one in order to commit, under a lock for which nobody else waits.
async fn hashed(client: &Client, schema: &Schema, seed: i64) -> Result<(), SchemaError> {
    let [hot, batch, meta] = ["_hot", "_batch", "_meta"].map(|name| schema.table(name));
    // The older count stays, for those who read; nobody can write it any more, nor change collections by it.
    let insert = format!(
        "INSERT INTO {meta}(name, value) \
         SELECT 'seed', $1::text UNION ALL SELECT '{CHANGES}', value FROM {meta} WHERE name = '{OLDER_CHANGES}'"
    );
    client.execute(&insert, &[&seed.to_string()]).await?;
    // It is called after the name that the table had when it was made.
    let unique =
        "SELECT conname::text FROM pg_constraint WHERE conrelid = $1::text::regclass AND contype = 'u'";
    for row in client.query(unique, &[&hot]).await? {
        let name = quoted(row.try_get(0)?);
        client.batch_execute(&format!("ALTER TABLE {hot} DROP CONSTRAINT {name}")).await?;
    }
    let (guard, function) = (guard(), stream_function(schema, version(client).await?));
    let hashed = format!(
        "ALTER TABLE {batch} ADD {guard} NOT VALID; \
         ALTER TABLE {meta} ADD CONSTRAINT {NEWER} CHECK (name <> '{OLDER_CHANGES}') NOT VALID; {function}"
    );
    client.batch_execute(&hashed).await?;
    Ok(())
}

async fn meta(client: &Client, schema: &Schema, name: &str) -> Result<Option<String>, Error> {
    let sql = format!("SELECT value FROM {} WHERE name = $1", schema.table("_meta"));
    client.query_opt(&sql, &[&name]).await?.map(|row| row.try_get(0)).transpose()
}

/// What is last in the store: the statement of [`Last`].
pub(crate) fn last_sql(schema: &Schema) -> String {
    format!(
        "SELECT (SELECT value::bigint FROM {} WHERE name = '{CHANGES}'), \
         coalesce(e.position, 0), greatest(b.revision, 0), greatest(e.at, b.at), e.at \
         FROM (SELECT) AS one \
         LEFT JOIN LATERAL (SELECT position, at FROM {} ORDER BY position DESC LIMIT 1) AS e ON TRUE \
         LEFT JOIN LATERAL (SELECT revision, at FROM {} ORDER BY revision DESC LIMIT 1) AS b ON TRUE",
        schema.table("_meta"),
        schema.table("_hot"),
        schema.table("_batch"),
    )
}

/// What is last in the store, as of one instant.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Last {
    pub(crate) generation: i64,
    pub(crate) position: u64,
    pub(crate) revision: u64,
    /// When the last commit happened.
    pub(crate) at: Option<i64>,
    /// When the last event happened.
    pub(crate) event_at: Option<i64>,
}

impl Last {
    pub(crate) fn of(row: &tokio_postgres::Row) -> Result<Self, Error> {
        use crate::codec::unsigned;
        Ok(Self {
            generation: row.try_get(0)?,
            position: unsigned(row.try_get(1)?),
            revision: unsigned(row.try_get(2)?),
            at: row.try_get(3)?,
            event_at: row.try_get(4)?,
        })
    }
}
