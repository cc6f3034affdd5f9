//! Who follows which log, as the stores tell: the relays whose cursors a store keeps, and its consumer groups.

use serde::{Deserialize, Serialize};

use crate::store::{LogId, Position, Query, ReadError, Row, Store};

use super::{mark, relay};

/// A relay or a consumer group, and how far it has come.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Follower {
    /// What it is.
    pub kind: FollowerKind,
    /// The service whose log a relay copies, or the group.
    pub name: String,
    /// The log that it follows.
    pub log: LogId,
    /// Everything at or before this was copied, handled or parked. A lane of a group that meets nothing of its own
    /// stores its mark only now and then, so an idle group may be up to about a thousand behind.
    pub position: Position,
    /// Nothing behind this was. It is the position itself but for a group, whose lanes are not equally far: a log that
    /// ends before it has lost something.
    pub furthest: Position,
}

/// What follows a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FollowerKind {
    /// It copies a service's log to the bus.
    Relay,
    /// It handles what is on the bus.
    Group,
}

/// The relays and groups that keep how far they have come in a store.
pub async fn followers(store: &Store) -> Result<Vec<Follower>, ReadError> {
    let mut all = if_any(each::<relay::Cursor, _>(store, |name, cursor: relay::Cursor| Follower {
        kind: FollowerKind::Relay,
        name,
        log: cursor.log,
        position: cursor.position,
        furthest: cursor.position,
    }))
    .await?;
    let groups = if_any(each::<mark::GroupRecord, _>(store, |name, group: mark::GroupRecord| Follower {
        kind: FollowerKind::Group,
        name,
        log: group.log,
        position: Position::START,
        furthest: Position::START,
    }))
    .await?;
    for mut group in groups {
        (group.position, group.furthest) = mark::ends(store, &group.name).await?;
        all.push(group);
    }
    Ok(all)
}

async fn each<R: Row, T>(store: &Store, of: impl Fn(String, R) -> T) -> Result<Vec<T>, ReadError> {
    let (mut all, mut after) = (Vec::new(), None);
    loop {
        let page = store.list::<R>(Query::all().after(after).limit(100)).await?;
        for record in page.records {
            let row = record.decode()?;
            all.push(of(record.key, row));
        }
        after = page.next;
        if after.is_none() {
            return Ok(all);
        }
    }
}

/// Nothing of a store that never had any.
async fn if_any<T>(read: impl Future<Output = Result<Vec<T>, ReadError>>) -> Result<Vec<T>, ReadError> {
    match read.await {
        Err(ReadError::Invalid(_)) => Ok(Vec::new()),
        read => read,
    }
}
