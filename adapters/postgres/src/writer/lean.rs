//! A group in one round trip, as long as nobody else writes.
//!
//! What becomes of the commits is decided by what this process left behind, and sent with the revision that this relies
//! on. A function of the session's own takes the lock, looks whether all is as it was guessed, and writes; if anything is
//! not, nothing is written, and the group goes the way of two round trips. The function is made anew in each session, in
//! its temporary schema: it is as new as this program, and no dump has it.

use std::collections::{BTreeMap, BTreeSet};
use std::pin::pin;
use std::sync::Arc;

use futures_util::future::maybe_done;
use futures_util::poll;
use purlin::message::{Timestamp, new_id};
use tokio_postgres::{Error, Statement};

use super::decision::{Asked, Decision};
use super::group::{Done, Failed, Transaction};
use super::heads::Guess;
use super::write::{Send, Value, Written, before, send_all};
use super::{Queued, Statements, lone};
use crate::codec::signed;
use crate::error::{is_lost, is_of_a_standby, is_stale, said};
use crate::link::Session;
use crate::schema::{CHANGES, FORMAT};
use crate::shared::Shared;
use crate::tag::Criteria;

/// The function of one session.
pub(super) struct Lean {
    session: Arc<Session>,
    /// None when the server does not let us make one.
    calls: Option<Calls>,
}

/// The statements that call what was made.
#[derive(Clone)]
pub(super) struct Calls {
    group: Statement,
    lone: Statement,
}

impl Lean {
    /// Whether it is the one of this session.
    pub(super) fn is_of(&self, session: &Arc<Session>) -> bool {
        Arc::ptr_eq(&self.session, session)
    }

    /// Makes the function. A role that may not have temporary tables goes without.
    pub(super) async fn make(session: &Arc<Session>, sql: &Statements) -> Result<Self, Error> {
        let made = async {
            session.client.batch_execute(&sql.lean_function).await?;
            let group = session.statement(LEAN).await?;
            Ok::<_, Error>(Calls { group, lone: session.statement(lone::LONE).await? })
        };
        let calls = match made.await {
            Ok(calls) => Some(calls),
            Err(error) if is_lost(&error) || is_of_a_standby(&error) => return Err(error),
            Err(error) => {
                tracing::warn!(
                    error = said(&error),
                    "the role may not have temporary functions; each group of commits takes one round trip more"
                );
                None
            }
        };
        Ok(Self { session: Arc::clone(session), calls })
    }

    /// What calls it.
    pub(super) fn calls(&self) -> Option<&Calls> {
        self.calls.as_ref()
    }
}

/// Gives a row if the group is to be, and none if not all is as it was guessed.
const LEAN: &str = "SELECT FROM pg_temp.purlin_append(\
    $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, $22, $23, $24, $25, $26, $27, $28) AS went WHERE went";

/// Makes the function, and says how long it waits for the lock.
///
/// Each of its statements has a snapshot of its own, which is what VOLATILE means in READ COMMITTED: those behind the
/// lock see all that was written under it before.
pub(super) fn function(shared: &Shared, lock: i64, timeout: u128) -> String {
    let [event, batch, meta, tag] = ["_hot", "_batch", "_meta", "_tag"].map(|name| shared.schema.table(name));
    let of_stream = shared.schema.of_stream("e", "u.s");
    let finds = crate::tag::finds(&shared.schema);
    // Nothing that a schema may be named can end the text of the function.
    let quote = format!("$purlin_{}$", new_id().simple());
    format!(
        "SET lock_timeout = {timeout};
         CREATE OR REPLACE FUNCTION pg_temp.purlin_append(
             alone boolean, known bigint, follows bigint, generation bigint, unknown text[], guesses bigint[],
             of_writer uuid, number bigint, swept bigint, landed bigint, happened bigint, given bigint, before bigint,
             streams text[], versions bigint[], kinds text[], ids uuid[], schemas integer[], publics boolean[],
             metas bytea[], datas text[], tags text[], tag_positions bigint[], tag_kinds text[],
             firsts text[], rests text[], kinds_of_firsts text[], afters bigint[]
         ) RETURNS boolean LANGUAGE plpgsql VOLATILE AS {quote}
         DECLARE
             last bigint;
             wrote uuid;
             its_number bigint;
         BEGIN
             IF NOT alone AND current_setting('purlin.number', TRUE) IS DISTINCT FROM number::text THEN
                 RETURN FALSE;
             END IF;
             IF pg_advisory_xact_lock({lock}) IS NULL THEN
                 RETURN FALSE;
             END IF;
             SELECT b.revision, b.writer, b.batch INTO last, wrote, its_number
             FROM {batch} AS b ORDER BY b.revision DESC LIMIT 1;
             -- What it follows may not have happened, and the revision be that of another group, also of ours.
             IF greatest(last, 0) <> known OR follows IS NOT NULL AND (wrote <> of_writer OR its_number <> follows) THEN
                 RETURN FALSE;
             END IF;
             IF generation IS NOT NULL THEN
                 PERFORM FROM {meta} AS m WHERE m.name = '{CHANGES}' AND m.value::bigint = generation;
                 IF NOT FOUND THEN
                     RETURN FALSE;
                 END IF;
             END IF;
             IF unknown IS NOT NULL THEN
                 PERFORM FROM unnest(unknown, guesses) AS u(s, v)
                 WHERE coalesce((SELECT max(e.version) FROM {event} AS e WHERE {of_stream}), 0) <> u.v LIMIT 1;
                 IF FOUND THEN
                     RETURN FALSE;
                 END IF;
             END IF;
             IF firsts IS NOT NULL THEN
                 PERFORM FROM unnest(firsts, rests, kinds_of_firsts, afters) AS u(first, rest, kinds, after)
                 WHERE EXISTS (SELECT {finds}) LIMIT 1;
                 IF FOUND THEN
                     RETURN FALSE;
                 END IF;
             END IF;
             INSERT INTO {batch}(writer, batch, at, revision, format) VALUES(of_writer, number, happened, given, {FORMAT});
             IF cardinality(streams) = 1 THEN
                 INSERT INTO {event}(position, stream, version, kind, id, at, schema, public, meta, data)
                 VALUES(before + 1, streams[1], versions[1], kinds[1], ids[1], happened, schemas[1], publics[1], metas[1], datas[1]);
             ELSIF streams IS NOT NULL THEN
                 INSERT INTO {event}(position, stream, version, kind, id, at, schema, public, meta, data)
                 SELECT before + n, s, v, k, i, happened, c, p, m, d
                 FROM unnest(streams, versions, kinds, ids, schemas, publics, metas, datas)
                 WITH ORDINALITY AS u(s, v, k, i, c, p, m, d, n);
             END IF;
             IF tags IS NOT NULL THEN
                 INSERT INTO {tag}(tag, position, kind) SELECT t, p, k FROM unnest(tags, tag_positions, tag_kinds) AS u(t, p, k);
             END IF;
             IF swept IS NOT NULL THEN
                 DELETE FROM {batch} AS b WHERE b.writer = of_writer AND b.batch >= swept AND b.batch < landed;
             END IF;
             RETURN TRUE;
         END {quote};
         {}",
        lone::function(shared, lock, &quote)
    )
}

/// What became of a group that was sent with what was guessed.
pub(super) enum Tried {
    Done {
        done: Done,
        guesses: bool,
    },
    /// It cannot be guessed how it goes. Nothing was sent.
    Unsent,
    /// It could be, but guesses were wrong of late. Nothing was sent.
    Doubted,
    /// Something is not as it was known or, if it is one that guesses, as it was guessed. Nothing was written.
    Wrong {
        guesses: bool,
    },
}

/// What the function looks at before it writes.
struct Guessed<'a> {
    /// The revision behind which the group comes.
    revision: i64,
    streams: Vec<&'a str>,
    versions: Vec<i64>,
    criteria: &'a Criteria<'a>,
}

/// What there is of a group.
#[derive(Clone, Copy)]
struct Parts {
    /// Records come behind the call, in its transaction.
    records: bool,
    /// The call writes the events, and not only the group's number.
    events: bool,
    /// It removes the rows of earlier groups.
    sweeps: bool,
}

impl Transaction {
    /// Prepares what a group with records is sent with. It would be overtaken by the next one if it had to wait for that
    /// on its way.
    pub(super) async fn prepare_records(&self, group: &[Queued]) -> Result<(), Error> {
        let mut collections: BTreeSet<&str> = BTreeSet::new();
        for Queued { commit, .. } in group {
            collections.extend(commit.writes.iter().map(|write| &*write.collection));
            collections.extend(commit.requirements.iter().map(|required| &*required.collection));
        }
        if collections.is_empty() {
            return Ok(());
        }
        for statement in [&self.sql.events, &self.sql.tags] {
            self.session.statement(statement).await?;
        }
        for table in collections.into_iter().filter_map(|name| self.tables.named.get(name)) {
            for statement in [&table.withdraw, &table.put, &table.delete] {
                self.session.statement(statement).await?;
            }
        }
        Ok(())
    }

    /// Sends a group with what is guessed; what it leaves behind is guessed to be true from then on, before the server
    /// has answered, so that another group can follow.
    pub(super) async fn lean(
        &self,
        calls: &Calls,
        group: &[Queued],
        now: Timestamp,
    ) -> Result<Tried, Failed> {
        let asked = Asked::by(group.iter().map(|queued| &queued.commit), &self.tables);
        // Tags beside records that are yet to be looked at would have to be withdrawn with them.
        let rare = asked.dated || asked.tags && !asked.keys.is_empty();
        if rare {
            return Ok(Tried::Unsent);
        }
        let Some(guess) = self.heads.borrow().guess(&asked, now) else { return Ok(Tried::Unsent) };
        let Guess { known, streams, versions, records } = guess;
        let guesses = !(streams.is_empty() && records.is_empty() && asked.criteria.first.is_empty());
        if guesses && !self.trusts {
            return Ok(Tried::Doubted);
        }
        let revision = signed(known.revision);
        let decision = Decision::of(group.iter().map(|queued| &queued.commit), known, &self.tables);
        if !decision.applied {
            // What the commits met has to be true when they are told of it, and nobody would look.
            return Ok(Tried::Unsent);
        }
        let swept = self.sweeps();
        // Events are written by the call, unless it has yet to be seen whether records are as they were guessed.
        let events = records.is_empty();
        let with_records = asked.records;
        let plain = !asked.tags && asked.criteria.first.is_empty();
        let alone = group.len() == 1 && plain && !with_records && decision.events.ids.len() == 1;
        let call = if alone {
            let values = self.lone_values(revision, !streams.is_empty(), &decision, swept);
            Send { statement: calls.lone.clone(), values }
        } else {
            let guessed = Guessed { revision, streams, versions, criteria: &asked.criteria };
            let parts = Parts { records: with_records, events, sweeps: swept };
            self.call(&calls.group, guessed, &decision, parts)
        };
        let went = match with_records {
            false => self.go_alone(call, &decision).await,
            true => {
                self.heads.borrow_mut().learn(&decision, true);
                self.go_with_records(call, &records, &decision).await
            }
        };
        match went {
            Ok(true) => {}
            Ok(false) => return Ok(Tried::Wrong { guesses }),
            Err(Written::Unknown(error)) => {
                return Err(Failed::Unknown(Box::new(self.done(decision)), error));
            }
            Err(Written::Refused(error) | Written::NotSent(error)) if with_records && is_stale(&error) => {
                return Err(Failed::Stale);
            }
            Err(Written::Refused(error)) => return Err(Failed::Refused(error)),
            Err(Written::NotSent(error)) => return Err(Failed::NotSent(error)),
        }
        Ok(Tried::Done { done: self.done(decision), guesses })
    }

    /// The call of the function.
    fn call<'a>(
        &self,
        call: &Statement,
        guessed: Guessed<'a>,
        decision: &'a Decision<'a>,
        parts: Parts,
    ) -> Send<'a> {
        let Guessed { revision, streams, versions, criteria } = guessed;
        let Parts { records, events, sweeps } = parts;
        let unknown = !streams.is_empty();
        let events = Some(&decision.events).filter(|all| events && !all.ids.is_empty());
        let tags = events.map(|events| &events.tags).filter(|tags| !tags.tags.is_empty());
        let criteria = Some(criteria).filter(|criteria| !criteria.first.is_empty());
        let values: Vec<Value<'a>> = vec![
            Box::new(!records),
            Box::new(revision),
            Box::new(self.follows),
            Box::new(records.then_some(self.tables.generation)),
            Box::new(unknown.then_some(streams)),
            Box::new(unknown.then_some(versions)),
            Box::new(self.writer),
            Box::new(self.batch),
            Box::new(sweeps.then_some(self.swept)),
            Box::new(self.landed),
            Box::new(decision.at().as_microsecond()),
            Box::new(signed(decision.revision())),
            Box::new(before(decision)),
            Box::new(events.map(|events| &events.streams)),
            Box::new(events.map(|events| &events.versions)),
            Box::new(events.map(|events| &events.kinds)),
            Box::new(events.map(|events| &events.ids)),
            Box::new(events.map(|events| &events.schemas)),
            Box::new(events.map(|events| &events.publics)),
            Box::new(events.map(|events| &events.metas)),
            Box::new(events.map(|events| &events.data)),
            Box::new(tags.map(|tags| &tags.tags)),
            Box::new(tags.map(|tags| &tags.positions)),
            Box::new(tags.map(|tags| &tags.kinds)),
            Box::new(criteria.map(|criteria| &criteria.first)),
            Box::new(criteria.map(|criteria| &criteria.rest)),
            Box::new(criteria.map(|criteria| &criteria.kinds)),
            Box::new(criteria.map(|criteria| &criteria.after)),
        ];
        Send { statement: call.clone(), values }
    }

    /// Events only: the call is the transaction.
    async fn go_alone(&self, call: Send<'_>, decision: &Decision<'_>) -> Result<bool, Written> {
        let mut sent = pin!(maybe_done(call.execute(&self.session)));
        // What fails before anything can have been answered was not sent.
        let _ = poll!(sent.as_mut());
        let early = sent.as_mut().output_mut().is_some();
        if !early {
            self.heads.borrow_mut().learn(decision, true);
        }
        sent.as_mut().await;
        match sent.take_output() {
            Some(Err(error)) if early => Err(Written::NotSent(error)),
            Some(Err(error)) if is_lost(&error) || error.as_db_error().is_none() => {
                Err(Written::Unknown(error))
            }
            Some(Err(error)) => Err(Written::Refused(error)),
            Some(Ok(went)) => Ok(went == 1),
            None => Ok(false),
        }
    }

    /// The call writes the group's number, or does not; and whatever follows is written only where the number is.
    async fn go_with_records(
        &self,
        call: Send<'_>,
        guesses: &BTreeMap<&str, (Vec<&str>, Vec<Option<i64>>)>,
        decision: &Decision<'_>,
    ) -> Result<bool, Written> {
        let mut sends = vec![call];
        for (collection, (keys, revisions)) in guesses {
            let statement = self.session.statement(&self.tables.named[*collection].withdraw).await;
            let statement = statement.map_err(Written::NotSent)?;
            let values: Vec<Value<'_>> =
                vec![Box::new(self.writer), Box::new(self.batch), Box::new(keys), Box::new(revisions)];
            sends.push(Send { statement, values });
        }
        if !guesses.is_empty() {
            self.write_events(decision, &mut sends).await.map_err(Written::NotSent)?;
        }
        self.write_records(decision, &mut sends).await.map_err(Written::NotSent)?;
        // Were BEGIN to fail, the call would not find the setting, and nothing would be written.
        let begin = format!(
            "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE; SET LOCAL purlin.number = '{}'",
            self.batch
        );
        let counts = send_all(&self.session, Some(&begin), &sends).await?;
        let (went, withdrawn) = counts.split_first().map_or((0, &counts[..]), |(went, rest)| (*went, rest));
        Ok(went == 1 && withdrawn.iter().take(guesses.len()).all(|count| *count == 0))
    }
}
