//! One event alone: what [`lean`](super::lean) does for a group, without its arrays.

use super::decision::Decision;
use super::group::Transaction;
use super::write::{Value, before};
use crate::codec::signed;
use crate::schema::FORMAT;
use crate::shared::Shared;

/// Gives a row if the event is to be, and none if not all is as it was guessed.
pub(super) const LONE: &str = "SELECT FROM pg_temp.purlin_append_one(\
    $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18) AS went WHERE went";

/// Makes the function. (Its arrays cost the server 7 of the 34 microseconds that a group of one takes more than a plain
/// INSERT; of the rest the look at the last revision takes 10, the group's own row 7.)
pub(super) fn function(shared: &Shared, lock: i64, quote: &str) -> String {
    let [event, batch] = ["_hot", "_batch"].map(|name| shared.schema.table(name));
    let of_stream = shared.schema.of_stream("e", "its_stream");
    format!(
        "CREATE OR REPLACE FUNCTION pg_temp.purlin_append_one(
             known bigint, follows bigint, look boolean, of_writer uuid, number bigint, swept bigint, landed bigint,
             happened bigint, given bigint,
             its_position bigint, its_stream text, its_version bigint, its_kind text, its_id uuid, its_schema integer,
             is_public boolean, its_meta bytea, its_data text
         ) RETURNS boolean LANGUAGE plpgsql VOLATILE AS {quote}
         DECLARE
             last bigint;
         BEGIN
             -- It is never null; and an expression costs less than a statement.
             IF pg_advisory_xact_lock({lock}) IS NULL THEN
                 RETURN FALSE;
             END IF;
             IF look THEN
                 SELECT max(e.version) INTO last FROM {event} AS e WHERE {of_stream};
                 IF coalesce(last, 0) <> its_version - 1 THEN
                     RETURN FALSE;
                 END IF;
             END IF;
             INSERT INTO {batch}(writer, batch, at, revision, format)
             SELECT of_writer, number, happened, given, {FORMAT}
             FROM (SELECT b.revision, b.writer, b.batch FROM {batch} AS b ORDER BY b.revision DESC LIMIT 1) AS l
             WHERE l.revision = known AND (follows IS NULL OR l.writer = of_writer AND l.batch = follows);
             IF NOT FOUND THEN
                 RETURN FALSE;
             END IF;
             INSERT INTO {event}(position, stream, version, kind, id, at, schema, public, meta, data)
             VALUES(its_position, its_stream, its_version, its_kind, its_id, happened, its_schema, is_public, its_meta, its_data);
             IF swept IS NOT NULL THEN
                 DELETE FROM {batch} AS b WHERE b.writer = of_writer AND b.batch >= swept AND b.batch < landed;
             END IF;
             RETURN TRUE;
         END {quote};"
    )
}

impl Transaction {
    /// The values of its call; with `look` the stream's version is a guess.
    pub(super) fn lone_values<'a>(
        &self,
        revision: i64,
        look: bool,
        decision: &'a Decision<'a>,
        sweeps: bool,
    ) -> Vec<Value<'a>> {
        let events = &decision.events;
        vec![
            Box::new(revision),
            Box::new(self.follows),
            Box::new(look),
            Box::new(self.writer),
            Box::new(self.batch),
            Box::new(sweeps.then_some(self.swept)),
            Box::new(self.landed),
            Box::new(decision.at().as_microsecond()),
            Box::new(signed(decision.revision())),
            Box::new(before(decision) + 1),
            Box::new(events.streams[0]),
            Box::new(events.versions[0]),
            Box::new(events.kinds[0]),
            Box::new(events.ids[0]),
            Box::new(events.schemas[0]),
            Box::new(events.publics[0]),
            Box::new(&events.metas[0]),
            Box::new(&events.data[0]),
        ]
    }
}
