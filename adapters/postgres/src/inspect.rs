//! What can be said of a database and the stores in it from outside, beside the processes that use them.

use purlin::message::{Timestamp, Uuid};
use purlin::store::{LogId, Position};
use tokio_postgres::{Client, Error};

use crate::codec::unsigned;
use crate::error::{OpenError, Unreached};
use crate::home;
use crate::names::{HOLDERS, Schema};
use crate::options::Options;
use crate::schema::FORMAT;
use crate::target::Reached;

/// A database as the server shows it.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Inspection {
    /// The server's version, as it writes it.
    pub version: String,
    /// The server's version as a number: 170002.
    pub version_number: i64,
    /// The database's encoding.
    pub encoding: String,
    /// The server's settings that decide what a commit is worth, and how many sessions there may be, by name.
    pub settings: Vec<(String, String)>,
    /// Sessions that there are.
    pub sessions: i64,
    /// What the server's clock shows.
    pub now: Timestamp,
    /// Bytes of the database.
    pub bytes: u64,
    /// Whether it is a standby, which takes no commits.
    pub standby: bool,
    /// The stores.
    pub stores: Vec<InspectedStore>,
}

/// A store as its schema shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct InspectedStore {
    /// The schema, which bears the name of the service.
    pub name: String,
    /// Its format.
    pub format: i64,
    /// The newest format that this program knows.
    pub known: i64,
    /// Which log; none when the schema does not say so.
    pub log: Option<LogId>,
    /// The last event's position.
    pub head: Position,
    /// The last event's time.
    pub last: Option<Timestamp>,
    /// The names of the collections.
    pub collections: Vec<String>,
    /// It was put back, from a dump or as a copy, and nobody has opened it since: the log begins a new incarnation with the
    /// first opening.
    pub restored: bool,
    /// Whether a process has it open for itself alone ([`Options::sole`]).
    pub in_use: bool,
}

const SETTINGS: [&str; 5] = [
    "fsync",
    "full_page_writes",
    "synchronous_commit",
    "max_connections",
    "idle_in_transaction_session_timeout",
];

const STORES: &str = "SELECT n.nspname::text FROM pg_namespace n \
     WHERE has_schema_privilege(n.oid, 'USAGE') AND (SELECT count(*) FROM pg_class c \
     WHERE c.relnamespace = n.oid AND c.relkind IN ('r', 'v') AND c.relname IN ('_meta', '_event', '_collection')) = 3 ORDER BY 1";

/// Looks at a database, and changes nothing.
pub async fn inspect(url: &str) -> Result<Inspection, OpenError> {
    let options = Options::new(url, "inspection");
    let target = options.target()?;
    let Reached { client, line } = target.connect("").await?;
    let read = target.during(&client, line, options.patience, read(&client)).await?;
    read.map_err(|error| Unreached::Failed(error).into())
}

async fn read(client: &Client) -> Result<Inspection, Error> {
    let asked = "SELECT current_setting('server_version'), current_setting('server_version_num')::bigint, \
                 current_setting('server_encoding'), pg_is_in_recovery(), \
                 (extract(epoch FROM clock_timestamp()) * 1000000)::bigint, \
                 pg_database_size(current_database()), \
                 (SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend')";
    let row = client.query_one(asked, &[]).await?;
    let mut settings = Vec::new();
    for name in SETTINGS {
        let value = client.query_one("SELECT current_setting($1)", &[&name]).await?.try_get(0)?;
        settings.push((name.to_owned(), value));
    }
    let mut stores = Vec::new();
    for found in client.query(STORES, &[]).await? {
        let name: String = found.try_get(0)?;
        if let Ok(schema) = Schema::new(&name) {
            stores.push(store(client, &schema).await?);
        }
    }
    let now: i64 = row.try_get(4)?;
    Ok(Inspection {
        version: row.try_get(0)?,
        version_number: row.try_get(1)?,
        encoding: row.try_get(2)?,
        standby: row.try_get(3)?,
        now: Timestamp::from_microsecond(now).unwrap_or_default(),
        bytes: unsigned(row.try_get(5)?),
        sessions: row.try_get(6)?,
        settings,
        stores,
    })
}

async fn store(client: &Client, schema: &Schema) -> Result<InspectedStore, Error> {
    let sql = format!("SELECT name, value FROM {}", schema.table("_meta"));
    let rows = client.query(&sql, &[]).await?;
    let meta = |name: &str| {
        let row = rows.iter().find(|row| row.try_get::<_, &str>(0).is_ok_and(|found| found == name));
        row.and_then(|row| row.try_get::<_, String>(1).ok())
    };
    let log = meta("log").and_then(|log| Uuid::parse_str(&log).ok());
    let incarnation = meta("incarnation").and_then(|number| number.parse().ok());
    let last = format!("SELECT position, at FROM {} ORDER BY position DESC LIMIT 1", schema.table("_event"));
    let last = client.query_opt(&last, &[]).await?;
    let last: Option<(i64, i64)> =
        last.map(|row| Ok::<_, Error>((row.try_get(0)?, row.try_get(1)?))).transpose()?;
    let names = format!("SELECT name FROM {} ORDER BY name", schema.table("_collection"));
    let names = client.query(&names, &[]).await?;
    let held: i64 = client.query_one(HOLDERS, &[&schema.sole_lock()]).await?.try_get(0)?;
    // What is damaged there is told when the store is opened.
    let restored = home::is_put_back(client, schema).await.unwrap_or_default();
    Ok(InspectedStore {
        name: schema.name().to_owned(),
        format: meta("format").and_then(|format| format.parse().ok()).unwrap_or_default(),
        known: FORMAT,
        log: log.zip(incarnation).map(|(log, incarnation)| LogId { log, incarnation }),
        head: Position(last.map_or(0, |(position, _)| unsigned(position))),
        last: last.and_then(|(_, at)| Timestamp::from_microsecond(at).ok()),
        collections: names.iter().map(|row| row.try_get(0)).collect::<Result<_, _>>()?,
        restored,
        in_use: held > 0,
    })
}
