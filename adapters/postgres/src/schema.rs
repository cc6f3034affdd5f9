//! The tables of a store, and the version of their format.

use std::time::Duration;

use purlin::message::{Uuid, new_id};
use purlin::store::{Cause, LogId};
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, Error};

use crate::archive;
use crate::codec::COLUMNS;
use crate::error::OpenError;
use crate::home;
use crate::names::Schema;
use crate::tag;
use crate::upgrade::upgrade;

/// The newest format that this code reads and writes.
pub(crate) const FORMAT: i64 = 4;

/// The row of `_meta` that counts the changes of the collections.
pub(crate) const CHANGES: &str = "generation";

/// What a program reads that knows only older formats, and wants to write.
pub(crate) const NEWER: &str = "\"the store is of a newer format than this program\"";

/// How long one waits for what others hold while a store is opened, or upgraded.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

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
pub(crate) enum SchemaError {
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
/// became of a group. Of one that did not happen, and was asked for, the row has a revision below zero. The greatest revision in it is the last that was given out. Its column `format` has no default:
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
pub(crate) fn streams(schema: &Schema, events: &str) -> String {
    format!("CREATE INDEX ON {}({}, version);", schema.table(events), schema.hash("stream"))
}

/// Lets no program commit that knows only older formats; one of them may still find out what became of a group. (So the
/// row of a change of collections is let through too: what such a program must not change is in `_meta`.)
pub(crate) fn guard() -> String {
    format!("CONSTRAINT {NEWER} CHECK (format >= {FORMAT} OR revision = 0)")
}

/// The function by which others find a stream's events.
pub(crate) fn stream_function(schema: &Schema, version: i64) -> String {
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
    prepare_now(client, schema, log, tablespace).await.map_err(|error| error.of(schema))
}

impl SchemaError {
    /// The same, said of a schema that was to be opened.
    pub(crate) fn of(self, schema: &Schema) -> OpenError {
        let schema = schema.name().to_owned();
        match self {
            Self::Newer(found) => OpenError::Newer { schema, found, known: FORMAT },
            other => OpenError::Database { schema, source: Cause::from(other) },
        }
    }
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
    let id = home::settle(client, schema, prepared.id).await?;
    client.batch_execute("COMMIT").await?;
    Ok(Prepared { id, ..prepared })
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
pub(crate) async fn version(client: &Client) -> Result<i64, Error> {
    client.query_one("SELECT current_setting('server_version_num')::bigint", &[]).await?.try_get(0)
}

/// A seed that nobody can guess.
pub(crate) fn seed() -> i64 {
    let (high, low) = new_id().as_u64_pair();
    // The upper halves are the time; of an id's random bits, 74 are left.
    (low ^ (high << 52)).cast_signed()
}

/// The format of a schema that is known here.
pub(crate) async fn format(client: &Client, schema: &Schema) -> Result<i64, SchemaError> {
    let format = meta(client, schema, "format").await?.and_then(|format| format.parse().ok());
    let format = format.ok_or(SchemaError::Damaged("no format"))?;
    if format > FORMAT { Err(SchemaError::Newer(format)) } else { Ok(format) }
}

async fn read(client: &Client, schema: &Schema, tablespace: Option<&str>) -> Result<Prepared, SchemaError> {
    let format = format(client, schema).await?;
    if format < FORMAT {
        upgrade(client, schema, format, tablespace).await?;
    }
    let log = log(client, schema).await?;
    let incarnation = meta(client, schema, "incarnation").await?.and_then(|number| number.parse().ok());
    let seed = meta(client, schema, "seed").await?.and_then(|seed| seed.parse().ok());
    let id = LogId { log, incarnation: incarnation.ok_or(SchemaError::Damaged("no incarnation"))? };
    Ok(Prepared { id, seed: seed.ok_or(SchemaError::Damaged("no seed of the streams' hash"))? })
}

/// Which log it is.
pub(crate) async fn log(client: &Client, schema: &Schema) -> Result<Uuid, SchemaError> {
    let log = meta(client, schema, "log").await?.and_then(|log| Uuid::parse_str(&log).ok());
    log.ok_or(SchemaError::Damaged("no log id"))
}

pub(crate) async fn meta(client: &Client, schema: &Schema, name: &str) -> Result<Option<String>, Error> {
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
