//! Tags: which positions have which, in a table that only events with tags are written to.

use purlin::message::Envelope;
use purlin::store::{Condition, Criterion, EventQuery, Position, Recorded};
use rusqlite::types::Value;
use rusqlite::{Connection, OptionalExtension, params_from_iter};

use crate::codec::{signed, unsigned};

/// The table; its rows are found by tag and then in the order of positions.
pub(crate) const TABLE: &str = "
CREATE TABLE IF NOT EXISTS _tag(
    tag TEXT NOT NULL,
    position INTEGER NOT NULL,
    kind TEXT NOT NULL,
    PRIMARY KEY(tag, position)
) WITHOUT ROWID;
";

/// Writes an event's tags down.
pub(crate) fn insert(connection: &Connection, position: u64, event: &Envelope) -> rusqlite::Result<()> {
    let mut insert = connection.prepare_cached("INSERT INTO _tag(tag, position, kind) VALUES(?1, ?2, ?3)")?;
    for tag in event.tags.iter() {
        insert.execute((tag, signed(position), &*event.kind))?;
    }
    Ok(())
}

/// Whether an event is found by each of its tags.
pub(crate) fn has_all(connection: &Connection, event: &Recorded) -> rusqlite::Result<bool> {
    let mut select = connection.prepare_cached("SELECT kind FROM _tag WHERE tag = ?1 AND position = ?2")?;
    for tag in event.envelope.tags.iter() {
        let kind = select.query_row((tag, signed(event.position.0)), |row| row.get::<_, String>(0));
        if kind.optional()?.as_deref() != Some(&*event.envelope.kind) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// How many there are.
pub(crate) fn count(connection: &Connection) -> rusqlite::Result<usize> {
    let count: i64 = connection.query_row("SELECT count(*) FROM _tag", [], |row| row.get(0))?;
    Ok(usize::try_from(count).unwrap_or_default())
}

/// The last event that a condition excludes, if there is one.
pub(crate) fn excluded(connection: &Connection, condition: &Condition) -> rusqlite::Result<Option<Position>> {
    let mut last: Option<i64> = None;
    for criterion in condition.query.criteria() {
        let mut values = Vec::new();
        let behind = [("position > ", signed(condition.after.0))];
        let Some(positions) = of_criterion(connection, criterion, &behind, &mut values)? else { continue };
        let sql = format!("{positions} ORDER BY t0.position DESC LIMIT 1");
        let mut select = connection.prepare_cached(&sql)?;
        last = last.max(select.query_row(params_from_iter(values), |row| row.get(0)).optional()?);
    }
    Ok(last.map(|position| Position(unsigned(position))))
}

/// The positions behind `after` and up to `until` that a query finds, all of whose criteria name a tag: in order, and
/// up to where they are all there are. At most `most` for each criterion, so that a tag that many events have costs no
/// more than what is asked for.
pub(crate) fn find(
    connection: &Connection,
    query: &EventQuery,
    after: Position,
    until: Position,
    most: usize,
) -> rusqlite::Result<(Vec<u64>, Position)> {
    let (mut positions, mut through) = (Vec::new(), until);
    for criterion in query.criteria() {
        let mut values = Vec::new();
        let between = [("position > ", signed(after.0)), ("position <= ", signed(until.0))];
        let Some(sql) = of_criterion(connection, criterion, &between, &mut values)? else { continue };
        values.push(Value::Integer(i64::try_from(most).unwrap_or(i64::MAX)));
        let mut select = connection.prepare_cached(&format!("{sql} ORDER BY t0.position LIMIT ?"))?;
        let found = select.query_map(params_from_iter(values), |row| row.get(0).map(unsigned))?;
        let found = found.collect::<rusqlite::Result<Vec<u64>>>()?;
        if found.len() >= most {
            through = through.min(found.last().map_or(through, |last| Position(*last)));
        }
        positions.extend(found);
    }
    positions.sort_unstable();
    positions.dedup();
    positions.retain(|position| *position <= through.0);
    Ok((positions, through))
}

/// The statement of the positions that a criterion finds by its tags; none when it names no tag. It goes through those
/// of the rarest tag, and asks each whether it has the others.
fn of_criterion(
    connection: &Connection,
    criterion: &Criterion,
    positions: &[(&str, i64)],
    values: &mut Vec<Value>,
) -> rusqlite::Result<Option<String>> {
    if criterion.tags.is_empty() {
        return Ok(None);
    }
    let rarest = rarest(connection, criterion, positions)?;
    let mut sql = "SELECT t0.position FROM _tag AS t0".to_owned();
    let others = criterion.tags.iter().filter(|tag| *tag != rarest);
    for (n, tag) in (1..).zip(others) {
        sql.push_str(&format!(" CROSS JOIN _tag AS t{n} ON t{n}.tag = ? AND t{n}.position = t0.position"));
        values.push(Value::Text(tag.to_owned()));
    }
    sql.push_str(" WHERE t0.tag = ?");
    values.push(Value::Text(rarest.to_owned()));
    for (than, position) in positions {
        sql.push_str(&format!(" AND t0.{than}?"));
        values.push(Value::Integer(*position));
    }
    if let Some(kinds) = one_of("t0.kind", criterion, values) {
        sql.push_str(&format!(" AND {kinds}"));
    }
    Ok(Some(sql))
}

/// The tag of a criterion that fewest events between some positions have. They are counted up to a number that grows
/// until one has fewer, so that this takes no longer than some times as long as going through those of that one.
fn rarest<'c>(
    connection: &Connection,
    criterion: &'c Criterion,
    positions: &[(&str, i64)],
) -> rusqlite::Result<&'c str> {
    let first = criterion.tags.iter().next().unwrap_or_default();
    if criterion.tags.len() < 2 {
        return Ok(first);
    }
    let between: String = positions.iter().map(|(than, _)| format!(" AND {than}?")).collect();
    let sql = format!("SELECT count(*) FROM (SELECT 1 FROM _tag WHERE tag = ?{between} LIMIT ?)");
    let mut count = connection.prepare_cached(&sql)?;
    let mut most = 16_i64;
    loop {
        let mut least = (most, first);
        for tag in criterion.tags.iter() {
            let numbers = positions.iter().map(|(_, position)| Value::Integer(*position));
            let values = std::iter::once(Value::Text(tag.to_owned())).chain(numbers);
            let values = values.chain([Value::Integer(least.0)]);
            least = least.min((count.query_row(params_from_iter(values), |row| row.get(0))?, tag));
        }
        if least.0 < most {
            return Ok(least.1);
        }
        most = most.saturating_mul(8);
    }
}

/// The condition that a kind is one of those that a criterion names, if it names any.
fn one_of(column: &str, criterion: &Criterion, values: &mut Vec<Value>) -> Option<String> {
    if criterion.kinds.is_empty() {
        return None;
    }
    values.extend(criterion.kinds.iter().map(|kind| Value::Text(kind.to_string())));
    let marks = vec!["?"; criterion.kinds.len()].join(", ");
    Some(format!("{column} IN ({marks})"))
}

#[cfg(test)]
mod tests {
    use purlin::message::Tags;

    use super::*;

    #[test]
    fn a_criterion_goes_by_its_rarest_tag() {
        let connection = Connection::open_in_memory().unwrap();
        connection.execute_batch(TABLE).unwrap();
        let fill = "WITH RECURSIVE n(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < ?2)
                    INSERT INTO _tag SELECT ?1, n, 'k' FROM n";
        for (tag, count) in [("all", 10_000), ("many", 1_000), ("some", 17), ("two", 2)] {
            connection.execute(fill, (tag, count)).unwrap();
        }
        let rarest = |tags: &[&'static str], after| {
            let criterion = Criterion { kinds: Vec::new(), tags: Tags::new(tags.iter().copied()) };
            rarest(&connection, &criterion, &[("position > ", after)]).unwrap().to_owned()
        };
        assert_eq!(rarest(&["all", "many"], 0), "many");
        assert_eq!(rarest(&["all", "many", "some"], 0), "some");
        assert_eq!(rarest(&["all", "two", "some"], 0), "two");
        assert_eq!(rarest(&["all", "none"], 0), "none");
        assert_eq!(rarest(&["all", "many"], 9_999), "many", "behind a position");
        assert_eq!(rarest(&["all"], 0), "all");
    }
}
