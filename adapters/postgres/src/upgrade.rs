//! Stores of older formats: what they lack, made in the transaction that opens them.

use std::time::{Duration, Instant};

use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, Error};

use crate::archive;
use crate::names::{Schema, older_log_lock, quoted};
use crate::schema::{
    CHANGES, FORMAT, NEWER, PATIENCE, SchemaError, guard, log, seed, stream_function, streams, version,
};
use crate::tag;

/// The one in which programs of formats before 4 count them.
const OLDER_CHANGES: &str = "collections";

/// How long an upgrade waits for tables that are being read, before it lets others read them, and how long it does so.
const WAIT: Duration = Duration::from_millis(300);
const PAUSE: Duration = Duration::from_millis(100);

/// Gives a store of an older format what it lacks. Programs of older formats that run go on to read, and cannot commit
/// any more.
pub(crate) async fn upgrade(
    client: &Client,
    schema: &Schema,
    format: i64,
    tablespace: Option<&str>,
) -> Result<(), SchemaError> {
    // Whoever commits is between two groups, or has not begun. What they do with this lock later delays nobody else.
    let lock = older_log_lock(log(client, schema).await?);
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
