//! Where a schema lives, so that it is noticed when it was put back.
//!
//! What PostgreSQL restores from a dump has other tables than what was dumped, and a copy of a database is another one. What
//! is moved as it lies on the disk keeps its numbers: a standby that takes over, a base backup, a restart. `pg_upgrade` to
//! PostgreSQL 15 or later makes a new server of the old one, with the same numbers and with the rows as they lie, each with the
//! transaction that wrote it; to an earlier one it gives the database another number, which looks like a copy.
//! So a dump that happens to get the same numbers on another server is told from that: its rows were written there.

use std::time::Duration;

use purlin::message::Uuid;
use purlin::store::LogId;
use tokio::time::{Instant, sleep};
use tokio_postgres::{Client, Error};

use crate::error::OpenError;
use crate::link::BACK_OFF;
use crate::names::{HOLDERS, Schema, listeners};
use crate::options::Options;
use crate::schema::{SchemaError, format, log};
use crate::target::{CONNECT, Reached};

/// The row of `_meta` that says where the schema lived when it was last opened.
const HOME: &str = "home";

/// Nowhere: whoever opens the schema next takes it for put back.
const NOWHERE: &str = "- 0 0";

/// How long it is looked whether somebody has the store open whose connection is just being made again.
const WATCH: Duration = BACK_OFF.saturating_add(CONNECT);

/// How often it is looked meanwhile.
const LOOK: Duration = Duration::from_millis(100);

/// Where a schema lives.
struct Home {
    /// The server's identifier; none if the role may not know it.
    system: Option<String>,
    /// The database's number, and that of `_meta`.
    numbers: [String; 2],
    /// The transaction that wrote the row: the one that it names, or the one that did.
    written: Option<String>,
}

/// What the schema says, and what is so.
struct Homes {
    said: Option<Home>,
    here: Home,
}

impl Homes {
    async fn of(client: &Client, schema: &Schema) -> Result<Self, SchemaError> {
        let system = system(client).await?;
        let table = schema.table("_meta");
        let sql = format!(
            "SELECT (SELECT oid::text FROM pg_database WHERE datname = current_database()), \
             $1::text::regclass::oid::text, m.value, m.xmin::text \
             FROM (SELECT) AS one LEFT JOIN {table} AS m ON m.name = '{HOME}'"
        );
        let row = client.query_one(&sql, &[&table]).await?;
        let said: Option<String> = row.try_get(2)?;
        let said = said.map(|said| Home::read(&said).ok_or(SchemaError::Damaged("where it lives")));
        let here = Home { system, numbers: [row.try_get(0)?, row.try_get(1)?], written: row.try_get(3)? };
        Ok(Self { said: said.transpose()?, here })
    }

    /// Whether the schema was put back since it was last opened. One that says nothing is of a program that did not write
    /// it down.
    fn is_put_back(&self) -> bool {
        let Self { said: Some(said), here } = self else { return false };
        said.numbers != here.numbers || (said.is_elsewhere(here) && said.written != here.written)
    }

    /// Whether what is said is what there is.
    fn is_said(&self) -> bool {
        let same = |said: &Home| {
            said.numbers == self.here.numbers
                && said.written == self.here.written
                && (self.here.system.is_none() || said.system == self.here.system)
        };
        self.said.as_ref().is_some_and(same)
    }
}

impl Home {
    fn read(said: &str) -> Option<Self> {
        let mut words = said.split(' ').map(str::to_owned);
        let system = words.next().filter(|word| !word.is_empty())?;
        let home = Self {
            system: (system != "-").then_some(system),
            numbers: [words.next()?, words.next()?],
            written: Some(words.next()?),
        };
        words.next().is_none().then_some(home)
    }

    /// Whether both are known to be on different servers.
    fn is_elsewhere(&self, other: &Self) -> bool {
        self.system.as_ref().zip(other.system.as_ref()).is_some_and(|(one, other)| one != other)
    }
}

/// The server's identifier. A role may not be allowed to ask, and what is not PostgreSQL itself may have none.
async fn system(client: &Client) -> Result<Option<String>, Error> {
    client.batch_execute("SAVEPOINT system").await?;
    let asked = client.query_one("SELECT system_identifier::text FROM pg_control_system()", &[]).await;
    let system = match asked {
        Ok(row) => Some(row.try_get(0)?),
        Err(error) if error.as_db_error().is_some() => None,
        Err(error) => return Err(error),
    };
    client.batch_execute("ROLLBACK TO SAVEPOINT system; RELEASE SAVEPOINT system").await?;
    Ok(system)
}

/// The identity that a log goes on with: a new incarnation if its schema was put back. What is so now is written down. Part
/// of the transaction that opens the store, under the schema's lock: of several that open one, the first draws.
pub(crate) async fn settle(client: &Client, schema: &Schema, id: LogId) -> Result<LogId, SchemaError> {
    let homes = Homes::of(client, schema).await?;
    if homes.is_said() {
        return Ok(id);
    }
    let is_put_back = homes.is_put_back();
    if !is_put_back && !may_write(client, schema).await? {
        return Ok(id);
    }
    let id = if is_put_back { id.restored() } else { id };
    if is_put_back {
        tracing::warn!(
            schema = schema.name(),
            log = %id.log,
            incarnation = id.incarnation,
            "the schema was put back, from a dump or as a copy: its log begins a new incarnation"
        );
        let sql = format!("UPDATE {} SET value = $1 WHERE name = 'incarnation'", schema.table("_meta"));
        client.execute(&sql, &[&id.incarnation.to_string()]).await?;
    }
    let Home { system, numbers: [database, table], .. } = &homes.here;
    say(client, schema, &format!("{} {database} {table}", system.as_deref().unwrap_or("-"))).await?;
    Ok(id)
}

/// Whether the role may write down where the schema is; one that only reads goes without.
async fn may_write(client: &Client, schema: &Schema) -> Result<bool, Error> {
    let sql = "SELECT has_table_privilege($1, 'INSERT') AND has_table_privilege($1, 'UPDATE')";
    client.query_one(sql, &[&schema.table("_meta")]).await?.try_get(0)
}

/// Writes down where the schema is, with the transaction that does so.
async fn say(client: &Client, schema: &Schema, place: &str) -> Result<(), Error> {
    let sql = format!(
        "INSERT INTO {}(name, value) VALUES('{HOME}', concat($1::text, ' ', txid_current() % 4294967296)) \
         ON CONFLICT (name) DO UPDATE SET value = EXCLUDED.value",
        schema.table("_meta")
    );
    client.execute(&sql, &[&place]).await.map(drop)
}

/// Whether a schema was put back, and nobody has opened it since.
pub(crate) async fn is_put_back(client: &Client, schema: &Schema) -> Result<bool, SchemaError> {
    client.batch_execute("BEGIN READ ONLY").await?;
    let homes = Homes::of(client, schema).await;
    client.batch_execute("ROLLBACK").await?;
    Ok(homes?.is_put_back())
}

/// Says that a store was put back by means that it does not notice by itself: its database was recovered to a point in time,
/// or its server's disk set back. Its log begins a new incarnation when it is opened next, as after a dump was restored.
///
/// Nobody may have it open, because whoever has goes on as the log that was. It is looked for six seconds, because one whose
/// connection was lost makes it again in that time; a process that cannot reach the server for longer is not seen.
pub async fn mark_restored(url: impl Into<String>, name: impl Into<String>) -> Result<(), OpenError> {
    let options = Options::new(url, name);
    let schema = Schema::new(&options.name)?;
    let target = options.target()?;
    let Reached { client, line } = target.connect("").await?;
    let marked = target.during(&client, line, options.patience, mark(&client, &schema)).await?;
    match marked.map_err(|error| error.of(&schema))? {
        true => Ok(()),
        false => Err(OpenError::InUse { schema: options.name }),
    }
}

/// Whether it was marked: nobody has it open.
async fn mark(client: &Client, schema: &Schema) -> Result<bool, SchemaError> {
    client.batch_execute("BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE").await?;
    client.execute("SELECT pg_advisory_xact_lock($1)", &[&schema.lock()]).await?;
    format(client, schema).await?;
    if is_open(client, log(client, schema).await?).await? {
        return Ok(false);
    }
    say(client, schema, NOWHERE).await?;
    client.batch_execute("COMMIT").await?;
    Ok(true)
}

/// Whether somebody has the store open, or is back within the [time](WATCH) in which a lost connection is made again.
async fn is_open(client: &Client, log: Uuid) -> Result<bool, Error> {
    let until = Instant::now() + WATCH;
    loop {
        let open: i64 = client.query_one(HOLDERS, &[&listeners(log)]).await?.try_get(0)?;
        if open > 0 || Instant::now() >= until {
            return Ok(open > 0);
        }
        sleep(LOOK).await;
    }
}
