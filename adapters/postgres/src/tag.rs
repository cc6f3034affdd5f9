//! Tags: which positions have which, in a table that only events with tags are written to.

use std::collections::BTreeMap;

use purlin::store::{Condition, Criterion, EventQuery, Position};
use tokio_postgres::{Error, Row};

use crate::codec::{limit, signed, unsigned};
use crate::names::Schema;
use crate::reader::Select;

/// Stands between the texts of a list; neither tags nor kinds of a query have control characters.
const SEPARATOR: char = '\u{1f}';

/// The statement that makes the table.
pub(crate) fn table(schema: &Schema) -> String {
    format!(
        "CREATE TABLE IF NOT EXISTS {}(tag text COLLATE \"C\" NOT NULL, position bigint NOT NULL, \
         kind text COLLATE \"C\" NOT NULL, PRIMARY KEY (tag, position));",
        schema.table("_tag")
    )
}

/// The statement that writes tags: a column each of tags, positions and kinds.
pub(crate) fn insert_sql(schema: &Schema) -> String {
    format!(
        "INSERT INTO {}(tag, position, kind) SELECT t, p, k FROM unnest($1::text[], $2::bigint[], $3::text[]) AS u(t, p, k)",
        schema.table("_tag")
    )
}

/// The statement that asks what conditions exclude: for each criterion the last position that it finds.
pub(crate) fn excluded_sql(schema: &Schema) -> String {
    format!(
        "SELECT (SELECT max(t.position) {}) \
         FROM unnest($1::text[], $2::text[], $3::text[], $4::bigint[]) WITH ORDINALITY AS u(first, rest, kinds, after, n) \
         ORDER BY n",
        finds(schema)
    )
}

/// What a criterion (`u`) finds, as tags (`t`).
pub(crate) fn finds(schema: &Schema) -> String {
    let tag = schema.table("_tag");
    format!(
        "FROM {tag} AS t WHERE t.tag = u.first AND t.position > u.after \
         AND (u.kinds = '' OR t.kind = ANY (string_to_array(u.kinds, E'\\x1f'))) \
         AND (u.rest = '' OR NOT EXISTS (SELECT 1 FROM unnest(string_to_array(u.rest, E'\\x1f')) AS r(tag) \
         WHERE NOT EXISTS (SELECT 1 FROM {tag} AS o WHERE o.tag = r.tag AND o.position = t.position)))"
    )
}

/// The criteria of conditions, as the columns that [`excluded_sql`] takes.
#[derive(Debug, Default)]
pub(crate) struct Criteria<'a> {
    pub(crate) first: Vec<&'a str>,
    pub(crate) rest: Vec<String>,
    pub(crate) kinds: Vec<String>,
    pub(crate) after: Vec<i64>,
}

impl<'a> Criteria<'a> {
    /// Adds those of a condition, in their order.
    pub(crate) fn add(&mut self, condition: &'a Condition) {
        for criterion in condition.query.criteria() {
            let mut tags = criterion.tags.iter();
            self.first.push(tags.next().unwrap_or_default());
            self.rest.push(join(tags));
            self.kinds.push(join(criterion.kinds.iter().map(|kind| &**kind)));
            self.after.push(signed(condition.after.0));
        }
    }
}

fn join<'a>(texts: impl Iterator<Item = &'a str>) -> String {
    let mut joined = String::new();
    for text in texts {
        if !joined.is_empty() {
            joined.push(SEPARATOR);
        }
        joined.push_str(text);
    }
    joined
}

/// The condition that an event (`e`) matches a query of kinds, and perhaps of tags.
pub(crate) fn matching(schema: &Schema, query: &EventQuery, select: &mut Select) -> String {
    let tag = schema.table("_tag");
    let criteria = query.criteria().iter().map(|criterion| {
        let mut all = Vec::new();
        for wanted in criterion.tags.iter() {
            let wanted = select.mark(wanted.to_owned());
            all.push(format!(
                "EXISTS (SELECT 1 FROM {tag} AS t WHERE t.tag = {wanted} AND t.position = e.position)"
            ));
        }
        all.extend(one_of("kind", criterion, select));
        if all.is_empty() { "TRUE".to_owned() } else { all.join(" AND ") }
    });
    let criteria: Vec<String> = criteria.collect();
    format!("({})", criteria.join(" OR "))
}

/// The statement of the positions behind `after` that a query finds, all of whose criteria name a tag: at most `most`
/// for each criterion, with the criterion's number.
pub(crate) fn find(schema: &Schema, query: &EventQuery, after: Position, most: usize) -> Select {
    let tag = schema.table("_tag");
    let mut select = Select::new(String::new()).with(signed(after.0)).with(limit(most));
    let criteria = query.criteria().iter().enumerate().map(|(n, criterion)| {
        let positions = of_criterion(&tag, criterion, &mut select);
        format!(
            "(SELECT {n}::bigint AS n, position FROM ({positions} ORDER BY t0.position LIMIT $2) AS found)"
        )
    });
    let criteria: Vec<String> = criteria.collect();
    select.sql = criteria.join(" UNION ALL ");
    select
}

/// The positions that the rows of [`find`] name, in order and not behind `until`, and up to where they are all there
/// are.
pub(crate) fn found(rows: &[Row], until: Position, most: usize) -> Result<(Vec<i64>, Position), Error> {
    let (mut positions, mut through) = (Vec::with_capacity(rows.len()), until);
    let mut of_each: BTreeMap<i64, (usize, u64)> = BTreeMap::new();
    for row in rows {
        let position: i64 = row.try_get(1)?;
        let (count, last) = of_each.entry(row.try_get(0)?).or_default();
        *count += 1;
        *last = (*last).max(unsigned(position));
        positions.push(position);
    }
    for (_, last) in of_each.into_values().filter(|(count, _)| *count >= most) {
        through = through.min(Position(last));
    }
    positions.sort_unstable();
    positions.dedup();
    positions.retain(|position| unsigned(*position) <= through.0);
    Ok((positions, through))
}

/// The statement of the positions that a criterion finds by its tags.
fn of_criterion(table: &str, criterion: &Criterion, select: &mut Select) -> String {
    let mut sql = format!("SELECT t0.position FROM {table} AS t0");
    let mut tags = criterion.tags.iter();
    let first = select.mark(tags.next().unwrap_or_default().to_owned());
    for (n, tag) in tags.enumerate() {
        let tag = select.mark(tag.to_owned());
        sql.push_str(&format!(" JOIN {table} AS o{n} ON o{n}.tag = {tag} AND o{n}.position = t0.position"));
    }
    sql.push_str(&format!(" WHERE t0.tag = {first} AND t0.position > $1"));
    if let Some(kinds) = one_of("t0.kind", criterion, select) {
        sql.push_str(&format!(" AND {kinds}"));
    }
    sql
}

/// The condition that a kind is one of those that a criterion names, if it names any.
fn one_of(column: &str, criterion: &Criterion, select: &mut Select) -> Option<String> {
    if criterion.kinds.is_empty() {
        return None;
    }
    let kinds: Vec<String> = criterion.kinds.iter().map(|kind| kind.to_string()).collect();
    Some(format!("{column} = ANY ({}::text[])", select.mark(kinds)))
}
