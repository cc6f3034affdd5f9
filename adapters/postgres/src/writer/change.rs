//! Makes, renames and drops collections, in the transaction of the commit that does.

use std::sync::Arc;
use std::time::Duration;

use purlin::store::{Change, Collection, Commit, Field};
use tokio_postgres::error::SqlState;
use tokio_postgres::{Error, Row};

use super::group::Transaction;
use super::write::{Send, Written};
use super::{Queued, Writer};
use crate::collection::{Column, Table};
use crate::link::Session;
use crate::names::{self, Schema, column};
use crate::reader::{collections_sql, read_collections};
use crate::schema::CHANGES;

/// How long a change waits for a table that is being read, with the log's lock in hand.
const LOCK_TIMEOUT: &str = "SET LOCAL lock_timeout = '1s'";

/// How long other processes may go on before a change that met such a reader is tried again.
pub(super) const RETRY: Duration = Duration::from_millis(200);

/// Records whose fields are filled in at once.
const FILL: i64 = 1000;

/// Whether a commit that changes collections met somebody who reads them.
pub(super) fn is_held_up(group: &[Queued], error: &Error) -> bool {
    group.iter().any(Queued::changes_collections) && error.code() == Some(&SqlState::LOCK_NOT_AVAILABLE)
}

impl Writer {
    /// Reads the collections again, for which somebody's lock may have to be waited. A session that does not tell them is
    /// given up.
    pub(super) async fn learn_collections(&mut self, session: &Session) {
        let shared = &self.shared;
        let read = async {
            let rows = session.client.query(&collections_sql(&shared.schema), &[]).await?;
            read_collections(shared, &rows)
        };
        match self.waiting.beside(read).await {
            Ok(tables) => self.shared.replace_tables(tables),
            Err(error) => self.lose(session, &error),
        }
    }
}

impl Transaction {
    /// Writes what was decided of a commit, makes what it changes of collections, and ends the transaction.
    pub(super) async fn write_and_change(&self, sends: &[Send<'_>], commit: &Commit) -> Result<(), Written> {
        let made = async {
            for send in sends {
                send.execute(&self.session).await?;
            }
            self.change(commit).await
        };
        made.await.map_err(Written::NotSent)?;
        self.session.client.batch_execute("COMMIT").await.map_err(Written::Unknown)
    }

    async fn change(&self, commit: &Commit) -> Result<(), Error> {
        let (session, tables) = (&*self.session, &self.tables.named);
        let (client, schema) = (&session.client, &self.shared.schema);
        let needed = |change: &&Change| match change {
            // Another process may have made it.
            Change::Define(definition) => {
                tables.get(&*definition.name).is_none_or(|table| table.definition != *definition)
            }
            Change::Swap { .. } => true,
            Change::Drop(name) => tables.contains_key(name),
        };
        let needed: Vec<&Change> = commit.changes.iter().filter(needed).collect();
        if needed.is_empty() {
            return Ok(());
        }
        client.batch_execute(LOCK_TIMEOUT).await?;
        for change in needed {
            match change {
                Change::Define(definition) => {
                    let before = tables.get(&*definition.name).map(Arc::as_ref);
                    define(session, schema, before, definition).await?;
                }
                Change::Swap { from, to } => rename(session, schema, from, to).await?,
                Change::Drop(name) => drop_table(session, schema, name).await?,
            }
        }
        let meta = schema.table("_meta");
        let count = format!("UPDATE {meta} SET value = (value::bigint + 1)::text WHERE name = '{CHANGES}'");
        client.batch_execute(&count).await
    }
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
