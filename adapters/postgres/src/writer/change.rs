//! Makes, renames and drops collections between two groups of commits, under the same lock.

use std::sync::Arc;
use std::time::{Duration, Instant};

use purlin::store::{Collection, CommitError, Field};
use tokio::sync::oneshot;
use tokio_postgres::error::SqlState;
use tokio_postgres::{Error, Row};

use super::settle::Lost;
use super::{Change, Job, Writer, away};
use crate::collection::{Column, Table};
use crate::error::{is_lost, unavailable};
use crate::link::Session;
use crate::names::{self, Schema, column};
use crate::reader::{collections_sql, read_collections};
use crate::schema::CHANGES;
use crate::shared::Shared;

/// How long a change waits for a table that is being read, with the log's lock in hand.
const LOCK_TIMEOUT: &str = "SET LOCAL lock_timeout = '1s'";

/// How long the others may go on before a change that met such a reader is tried again.
const RETRY: Duration = Duration::from_millis(200);

/// Records whose fields are filled in at once.
const FILL: i64 = 1000;

/// Why a change was not made.
enum Failed {
    NotSent(Error),
    Unknown(Error),
}

impl From<Error> for Failed {
    fn from(error: Error) -> Self {
        Self::NotSent(error)
    }
}

impl Writer {
    /// Reads the collections again.
    pub(super) async fn read_collections(&self, session: &Session) -> Result<(), Error> {
        let rows = session.client.query(&collections_sql(&self.shared.schema), &[]).await?;
        self.shared.replace_tables(read_collections(&self.shared, &rows)?);
        Ok(())
    }

    /// Makes, renames or drops a collection, and answers.
    pub(super) async fn change(
        &mut self,
        session: &Arc<Session>,
        change: Change,
        since: Instant,
        answer: oneshot::Sender<Result<(), CommitError>>,
    ) {
        let mut session = Arc::clone(session);
        let changed = loop {
            self.batch += 1;
            let (shared, batch, now) = (Arc::clone(&self.shared), self.batch, self.clock.now());
            let begin = &self.sql.begin;
            let row = (&*self.sql.batch, batch, now.as_microsecond());
            let made = make(&shared, &session, begin, row, &change);
            let error = match self.waiting.beside(made).await {
                Ok(changed) => break changed,
                Err(Failed::Unknown(error)) => {
                    session.discard();
                    match self.settle(Lost { batch, at: now.as_microsecond() }, || answer.is_closed()).await {
                        Some(true) => break Ok(()),
                        Some(false) => error,
                        None => return self.set_aside([Job::Change { change, since, answer }]),
                    }
                }
                Err(Failed::NotSent(error)) => {
                    if is_lost(&error) {
                        session.discard();
                    } else {
                        self.waiting.beside(Self::roll_back(&session)).await;
                    }
                    error
                }
            };
            let passing = is_lost(&error) || error.code() == Some(&SqlState::LOCK_NOT_AVAILABLE);
            if !passing || since.elapsed() > self.waiting.patience() {
                break Err(unavailable(error));
            }
            self.waiting.beside(tokio::time::sleep(RETRY)).await;
            match self.session().await {
                Some(another) => session = another,
                None => break Err(away()),
            }
        };
        if changed.is_ok()
            && let Err(error) = self.read_collections(&session).await
        {
            self.lose(&session, &error);
        }
        let _ = answer.send(changed);
    }
}

/// One transaction.
async fn make(
    shared: &Shared,
    session: &Session,
    begin: &str,
    (number, batch, now): (&str, i64, i64),
    change: &Change,
) -> Result<Result<(), CommitError>, Failed> {
    let (client, schema) = (&session.client, &shared.schema);
    client.batch_execute(begin).await?;
    client.batch_execute(LOCK_TIMEOUT).await?;
    let tables = read_collections(shared, &client.query(&collections_sql(schema), &[]).await?)?;
    match change {
        Change::Define(definition)
            if tables.named.get(&*definition.name).is_some_and(|table| table.definition == *definition) =>
        {
            // Another process has made it; nobody else need look again.
            client.batch_execute("ROLLBACK").await?;
            return Ok(Ok(()));
        }
        Change::Define(definition) => {
            define(session, schema, tables.named.get(&*definition.name).map(Arc::as_ref), definition).await?;
        }
        Change::Swap(pairs) => {
            if let Some((from, _)) = pairs.iter().find(|(from, _)| !tables.named.contains_key(from)) {
                client.batch_execute("ROLLBACK").await?;
                let why = format!("the collection `{from}` is not defined in this store");
                return Ok(Err(CommitError::Invalid(why)));
            }
            for (from, to) in pairs {
                rename(session, schema, from, to).await?;
            }
        }
        Change::Drop(name) => drop_table(session, schema, name).await?,
    }
    let meta = schema.table("_meta");
    let count = format!("UPDATE {meta} SET value = (value::bigint + 1)::text WHERE name = '{CHANGES}'");
    client.batch_execute(&count).await?;
    client.execute(number, &[&shared.writer, &batch, &now, &0_i64]).await?;
    client.batch_execute("COMMIT").await.map_err(Failed::Unknown)?;
    Ok(Ok(()))
}

/// Makes the table, or gives it exactly the columns of the definition.
async fn define(
    session: &Session,
    schema: &Schema,
    before: Option<&Table>,
    definition: &Collection,
) -> Result<(), Error> {
    let (client, table) = (&session.client, schema.table(&definition.name));
    if before.is_none() {
        let (key, due) = (names::index(), names::index());
        client
            .batch_execute(&format!(
                "CREATE TABLE {table}(_key text COLLATE \"C\" CONSTRAINT {key} PRIMARY KEY, _revision bigint NOT NULL, \
                 _position bigint NOT NULL, _due bigint, _value json NOT NULL);
                 CREATE INDEX {due} ON {table}(_due, _key) WHERE _due IS NOT NULL;"
            ))
            .await?;
    }
    let old: &[Field] = before.map_or(&[], |table| &table.definition.fields);
    for field in old.iter().filter(|field| !definition.fields.contains(field)) {
        client.batch_execute(&format!("ALTER TABLE {table} DROP COLUMN {}", column(field.name))).await?;
    }
    let new: Vec<Field> = definition.fields.iter().copied().filter(|field| !old.contains(field)).collect();
    for field in &new {
        let (column, kind) = (column(field.name), Column::of(field.kind));
        client.batch_execute(&format!("ALTER TABLE {table} ADD COLUMN {column} {kind}")).await?;
    }
    if before.is_some() && !new.is_empty() {
        fill(session, &table, &new).await?;
    }
    for field in &new {
        client.batch_execute(&Column::index(*field, &names::index(), &table)).await?;
    }
    let fields: Vec<String> = definition.fields.iter().map(Field::to_string).collect();
    let write = format!(
        "INSERT INTO {}(name, fields) VALUES($1, $2) ON CONFLICT (name) DO UPDATE SET fields = excluded.fields",
        schema.table("_collection")
    );
    client.execute(&write, &[&&*definition.name, &fields.join(" ")]).await.map(drop)
}

/// Fills in new fields of the records that are there.
async fn fill(session: &Session, table: &str, fields: &[Field]) -> Result<(), Error> {
    let client = &session.client;
    let page = format!("SELECT _key, _value::text FROM {table} WHERE _key > $1 ORDER BY _key LIMIT $2");
    let page = client.prepare(&page).await?;
    let names: Vec<String> = fields.iter().map(|field| column(field.name)).collect();
    let (mut sets, mut arrays, mut aliases) = (Vec::new(), String::new(), String::new());
    for (n, (field, name)) in fields.iter().zip(&names).enumerate() {
        sets.push(format!("{name} = {}", Column::value(field.kind, &format!("u.f{n}"))));
        arrays.push_str(&format!(", ${}::{}[]", n + 2, Column::transport(field.kind)));
        aliases.push_str(&format!(", f{n}"));
    }
    let update = format!(
        "UPDATE {table} AS t SET {} FROM unnest($1::text[]{arrays}) AS u(k{aliases}) WHERE t._key = u.k",
        sets.join(", ")
    );
    let update = client.prepare(&update).await?;
    let mut after = String::new();
    loop {
        let rows: Vec<Row> = client.query(&page, &[&after, &FILL]).await?;
        let Some(last) = rows.last() else { return Ok(()) };
        after = last.try_get(0)?;
        let keys = rows.iter().map(|row| row.try_get(0)).collect::<Result<Vec<&str>, _>>()?;
        let values = rows.iter().map(|row| row.try_get(1)).collect::<Result<Vec<&str>, _>>()?;
        let columns = Column::read(fields, values.iter().map(|value| value.as_bytes()));
        let mut all: Vec<&(dyn tokio_postgres::types::ToSql + Sync)> = vec![&keys];
        all.extend(columns.iter().map(Column::as_sql));
        client.execute(&update, &all).await?;
    }
}

/// Removes a table.
async fn drop_table(session: &Session, schema: &Schema, name: &str) -> Result<(), Error> {
    let client = &session.client;
    client.batch_execute(&format!("DROP TABLE IF EXISTS {}", schema.table(name))).await?;
    let delete = format!("DELETE FROM {} WHERE name = $1", schema.table("_collection"));
    client.execute(&delete, &[&name]).await.map(drop)
}

/// Gives a table another name, in place of what had it. Its indexes have names that say nothing, and keep them.
async fn rename(session: &Session, schema: &Schema, from: &str, to: &str) -> Result<(), Error> {
    drop_table(session, schema, to).await?;
    let client = &session.client;
    client.batch_execute(&format!("ALTER TABLE {} RENAME TO \"{to}\"", schema.table(from))).await?;
    let update = format!("UPDATE {} SET name = $2 WHERE name = $1", schema.table("_collection"));
    client.execute(&update, &[&from, &to]).await.map(drop)
}
